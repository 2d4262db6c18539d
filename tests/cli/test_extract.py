"""`clarice extract`: boxes where the picks are, normalised, with their CTF, readable by every other command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.io.ctf_tables import ctf_table

from clarice.cli.extract import extract_particles
from clarice.core.errors import InputError, UsageError
from clarice.io.mrc import read_mrc, write_mrc
from clarice.io.stack import open_particles
from clarice.io.star import read_star
from clarice.pipeline.extraction import has_room, normalised

OPTICS = {"voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1}
CTF = ctf_table(2.0)


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    """Two micrographs with a bright blob at each pick, on a slope, in noise."""
    rng = np.random.default_rng(1)
    for folder in ("mic", "picks"):
        (tmp_path / folder).mkdir()
    y, x = np.mgrid[0:200, 0:240]
    for name, centres in {"a": [(60, 50), (150, 120), (3, 100)], "b": [(100, 80)]}.items():
        image = rng.normal(size=(200, 240)) + 0.02 * x + 5
        for cx, cy in centres:
            image += 80 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 4.0**2))
        write_mrc(tmp_path / "mic" / f"{name}.mrc", image.astype(np.float32), 2.0)
        (tmp_path / "picks" / f"{name}.csv").write_text("".join(f"{cx},{cy}\n" for cx, cy in centres))
    (tmp_path / "ctf.star").write_text(CTF)
    return tmp_path


def test_particles_lie_in_the_middle_of_normalised_boxes(fields: Path) -> None:
    extract_particles(fields / "mic", fields / "picks", fields / "out", box=32, ctf=fields / "ctf.star")
    particles = open_particles(fields / "out" / "particles.star")
    assert len(particles) == 3  # one pick lies at the edge
    assert particles.pixel_size_angstrom == pytest.approx(2.0)
    images = particles.read()
    for image in images:
        blurred = torch.nn.functional.avg_pool2d(torch.from_numpy(image)[None], 5, 1, 2)[0]
        assert divmod(int(blurred.argmax()), 32) == (16, 16)
        outside = np.hypot(*(np.indices((32, 32)) - 16)) > 12
        assert image[outside].mean() == pytest.approx(0, abs=0.01)
        assert image[outside].std() == pytest.approx(1, abs=0.01)
        assert abs(image[outside][:50].mean()) < 0.6  # the slope is gone
    assert particles.optics is not None
    assert particles.optics.defocus_u_angstrom.tolist() == [15000.0, 15000.0, 16000.0]
    assert particles.micrograph is not None
    assert particles.micrograph.tolist() == ["mic/a.mrc", "mic/a.mrc", "mic/b.mrc"]
    assert particles.table is not None


def test_images_are_scaled_down_turned_over_and_still_normalised(fields: Path) -> None:
    options = {"box": 32, "scale_to": 24, "invert": True, "ctf": fields / "ctf.star"}
    extract_particles(fields / "mic", fields / "picks", fields / "out", **options)  # type: ignore[arg-type]
    particles = open_particles(fields / "out" / "particles.star")
    assert particles.box == 24
    assert particles.pixel_size_angstrom == pytest.approx(2.0 * 32 / 24)
    images = particles.read()
    assert images[:, 12, 12].max() < -2
    outside = np.hypot(*(np.indices((24, 24)) - 12)) > 9
    assert images[:, outside].std() == pytest.approx(1, abs=0.02)


def test_one_micrograph_and_one_file_do(fields: Path) -> None:
    extract_particles(
        fields / "mic" / "a.mrc", fields / "picks" / "a.csv", fields / "out", box=32, ctf=fields / "ctf.star"
    )
    images, pixel = read_mrc(fields / "out" / "particles.mrcs")
    assert images.shape == (2, 32, 32)
    assert pixel == pytest.approx(2.0)


def test_what_cannot_be_is_refused_and_nothing_written(fields: Path) -> None:
    mic, picks, out = fields / "mic", fields / "picks", fields / "out"
    with pytest.raises(UsageError, match="--voltage-kv and --cs-mm"):
        extract_particles(mic, picks, out, box=32, amplitude_contrast=0.1)
    with pytest.raises(UsageError, match="--scale-to 64"):
        extract_particles(mic, picks, out, box=32, scale_to=64, **OPTICS)
    with pytest.raises(UsageError, match="--background-radius 20"):
        extract_particles(mic, picks, out, box=32, background_radius=20.0, **OPTICS)
    for given in ((fields / "nothing", picks), (mic, fields / "nothing")):
        with pytest.raises(InputError, match="nothing does not exist"):
            extract_particles(*given, out, box=32, **OPTICS)
    with pytest.raises(InputError, match="does not say which micrograph"):
        extract_particles(mic, picks / "a.csv", out, box=32, **OPTICS)
    with pytest.raises(InputError, match=r"none of 4 picks leaves room for a box of 190 pixels .*mic/a\.mrc"):
        extract_particles(mic, picks, out, box=190, ctf=fields / "ctf.star")
    (fields / "ctf.star").write_text(CTF.replace("b.mrc 1 16000 15000 40\n", ""))
    with pytest.raises(InputError, match=r"no row for b\.mrc"):
        extract_particles(mic, picks, out, box=32, ctf=fields / "ctf.star")
    assert not (out / "particles.star").exists()
    assert not (out / "particles.mrcs").exists()


def without_pixel_size(path: Path) -> None:
    """Wipes the lengths of the cell out of a header."""
    with path.open("r+b") as file:
        file.seek(40)
        file.write(bytes(12))


def test_the_pixel_size_may_be_stated_by_the_option_alone(fields: Path) -> None:
    mic, picks, out = fields / "mic" / "a.mrc", fields / "picks" / "a.csv", fields / "out"
    without_pixel_size(mic)
    (fields / "ctf.star").write_text(CTF.replace("_rlnMicrographPixelSize #5\n", "").replace("0.1 2.0", "0.1"))
    with pytest.raises(InputError, match="does not state its pixel size: pass --pixel-size"):
        extract_particles(mic, picks, out, box=32, ctf=fields / "ctf.star")
    extract_particles(mic, picks, out, box=32, ctf=fields / "ctf.star", pixel_size=1.25)
    assert open_particles(out / "particles.star").pixel_size_angstrom == pytest.approx(1.25)


def test_pixel_sizes_that_contradict_are_refused_unless_the_option_settles_it(
    fields: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mic, picks, out, ctf = fields / "mic", fields / "picks", fields / "out", fields / "ctf.star"
    ctf.write_text(CTF.replace("0.1 2.0", "0.1 1.9"))
    with pytest.raises(
        InputError, match=r"ctf\.star states a pixel size of 1\.9 Å, but .*a\.mrc one of 2 Å: .*--pixel-size"
    ):
        extract_particles(mic, picks, out, box=32, ctf=ctf)
    assert not out.exists()
    extract_particles(mic, picks, out, box=32, ctf=ctf, pixel_size=2.0)
    assert "warning: --pixel-size 2 Å is taken, although" in capsys.readouterr().out
    assert open_particles(out / "particles.star").pixel_size_angstrom == pytest.approx(2.0)
    ctf.write_text(CTF.replace("0.1 2.0", "0.1 1.99"))
    extract_particles(mic, picks, out, box=32, ctf=ctf)
    assert open_particles(out / "particles.star").pixel_size_angstrom == pytest.approx(1.99)


def test_phase_shifts_are_kept_where_there_are_any(fields: Path) -> None:
    mic, picks, out, ctf = fields / "mic", fields / "picks", fields / "out", fields / "ctf.star"
    extract_particles(mic, picks, out, box=32, ctf=ctf)
    columns = set(read_star(out / "particles.star")["particles"])
    assert not columns & {"rlnPhaseShift", "rlnCtfFigureOfMerit"}  # nobody stated them
    text = CTF.replace("Angle #5\n", "Angle #5\n_rlnPhaseShift #6\n")
    ctf.write_text(text.replace("14000 30\n", "14000 30 0\n").replace("15000 40\n", "15000 40 85.5\n"))
    extract_particles(mic, picks, out, box=32, ctf=ctf)
    optics = open_particles(out / "particles.star").optics
    assert optics is not None
    assert optics.phase_shift_deg.tolist() == [0.0, 0.0, 85.5]


def test_the_fit_of_the_ctf_is_told_and_doubted_where_there_are_no_rings(
    fields: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        write_mrc(fields / "mic" / f"{name}.mrc", rng.normal(size=(200, 240)), 2.0)
    extract_particles(fields / "mic", fields / "picks", fields / "out", box=32, **OPTICS)
    said = capsys.readouterr().out
    merit = read_star(fields / "out" / "particles.star")["particles"]["rlnCtfFigureOfMerit"]
    assert "mic/b.mrc: 1 particle, defocus" in said
    assert f"fitted with a correlation of {float(merit[2]):.3f}" in said
    assert "warning: the CTF of mic/b.mrc is doubtful" in said
    assert "2 CTF fits no better than to noise" in said


def test_a_masked_box_is_refused_by_the_names_of_its_micrograph_and_pick(fields: Path) -> None:
    image, pixel = read_mrc(fields / "mic" / "a.mrc")
    image[0, 100:140, 130:170] = 7
    write_mrc(fields / "mic" / "a.mrc", image, pixel)
    with pytest.raises(InputError, match=r"mic/a\.mrc has no noise around its pick at x 150, y 120"):
        extract_particles(fields / "mic", fields / "picks", fields / "out", box=32, ctf=fields / "ctf.star")


def test_a_folder_given_as_a_dot_is_named(fields: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fields / "mic")
    extract_particles(Path("."), Path("../picks"), fields / "out", box=32, ctf=fields / "ctf.star")
    micrograph = open_particles(fields / "out" / "particles.star").micrograph
    assert micrograph is not None
    assert micrograph.tolist() == ["mic/a.mrc", "mic/a.mrc", "mic/b.mrc"]


def test_boxes_must_lie_inside_whole() -> None:
    centres = np.array([[16.0, 16.0], [15.4, 16.0], [84.0, 64.0], [84.6, 64.0], [84.0, 64.6]])
    assert has_room(centres, (80, 100), 32).tolist() == [True, False, True, False, False]


def test_a_plane_and_the_scale_are_taken_away() -> None:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn((3, 32, 32), generator=generator)
    axis = torch.arange(32.0)
    tilted = 7 * noise + 0.5 * axis + 0.3 * axis[:, None] + 100
    assert torch.allclose(normalised(tilted, 12), normalised(noise, 12), atol=1e-3)
    with pytest.raises(InputError, match="no noise"):
        normalised(torch.ones((1, 32, 32)), 12)
