"""`clarice evaluate`: what each part prints and writes, on files whose answer is known."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from typer.testing import CliRunner

from clarice.cli import evaluate_maps
from clarice.cli.evaluate import register
from clarice.core.errors import ClariceError, InputError, OutputError, UsageError
from clarice.geometry.so3 import angle_between_deg, in_plane, matrix_to_euler, random_rotations
from clarice.io.mrc import read_mrc, write_mrc
from clarice.io.star import write_star
from clarice.metrics.masks import low_pass, soft_sphere
from clarice.metrics.registration import apply_superposition, resample
from clarice.metrics.shells import fsc

PIXEL = 2.0


def run(*arguments: object) -> str:
    app = typer.Typer()
    register(app)
    app.callback()(lambda: None)
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    if isinstance(result.exception, ClariceError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return re.sub(r" +\n +| {2,}", " ", result.output)  # lines that a narrow table folded, joined


def blobs(box: int = 32, seed: int = 1) -> np.ndarray:
    """Fifteen blobs of differing weight: a structure with a hand."""
    random = np.random.default_rng(seed)
    centres, weights = random.uniform(-0.22 * box, 0.22 * box, (15, 3)), random.uniform(1, 3, 15)
    axis = np.arange(box) - box // 2
    lines = np.exp(-((axis - centres[:, :, None]) ** 2) / 6)
    return np.einsum("n,nz,ny,nx->zyx", weights, *np.moveaxis(lines, 1, 0)).astype(np.float32)


def particle_star(path: Path, rotations: np.ndarray | None = None, **columns: object) -> Path:
    count = len(rotations) if rotations is not None else len(next(iter(columns.values())))
    table = {"rlnImageName": [f"{row + 1:06d}@folder/particles.mrcs" for row in range(count)], **columns}
    if rotations is not None:
        euler = matrix_to_euler(rotations)
        table |= {f"rlnAngle{name}": euler[:, i] for i, name in enumerate(("Rot", "Tilt", "Psi"))}
    optics = pd.DataFrame({"rlnOpticsGroup": [1], "rlnImagePixelSize": [PIXEL], "rlnImageSize": [32]})
    particles = pd.DataFrame(table).assign(rlnOpticsGroup=1)
    write_star(path, {"optics": optics, "particles": particles})
    return path


@pytest.fixture
def rotations() -> np.ndarray:
    return random_rotations(60, torch.Generator().manual_seed(3))


def test_map_finds_the_hand_and_the_resolution(tmp_path: Path, rotations: np.ndarray) -> None:
    truth = blobs()
    blurred = truth + 0.05 * truth.max() * np.random.default_rng(0).normal(size=truth.shape)
    moved = apply_superposition(blurred, rotations[0], np.array([2.0, -1.0, 1.5]), mirrored=True)
    write_mrc(tmp_path / "map.mrc", moved, PIXEL, is_volume=True)
    write_mrc(tmp_path / "truth.mrc", truth, PIXEL, is_volume=True)
    figures, registered = tmp_path / "map.json", tmp_path / "registered.mrc"
    output = run(
        *("map", tmp_path / "map.mrc", "--truth", tmp_path / "truth.mrc", "--diameter", 40),
        *("--json", figures, "--registered", registered),
    )
    assert "mirrored" in output
    assert f"figures: {figures}" in output
    assert f"registered map: {registered}" in output
    assert "Nyquist 4 Å" in output
    told = json.loads(figures.read_text())
    assert told["mirrored"] is True
    assert angle_between_deg(np.array(told["rotation"]), rotations[0].T) < 1.5
    assert told["correlation"] > told["other_hand_correlation"]
    curve = fsc(read_mrc(registered)[0], truth)
    np.testing.assert_allclose(told["fsc"], curve, atol=1e-3)
    assert told["masked_resolution_angstrom"]["0.5"] <= told["resolution_angstrom"]["0.5"] < 12
    assert f"{told['resolution_angstrom']['0.5']:.2f} Å at 0.5" in output


def test_map_is_compared_on_its_own_grid(tmp_path: Path) -> None:
    truth = low_pass(blobs(40), 4.0)
    write_mrc(tmp_path / "truth.mrc", truth, 1.6, is_volume=True)
    write_mrc(tmp_path / "map.mrc", resample(truth, 32, 1.25), 2.0, is_volume=True)
    run(
        *("map", tmp_path / "map.mrc", "--truth", tmp_path / "truth.mrc", "--no-mirror"),
        *("--json", tmp_path / "map.json"),
    )
    told = json.loads((tmp_path / "map.json").read_text())
    assert told["box"] == 32
    assert told["correlation"] > 0.99
    assert told["other_hand_correlation"] is None
    assert angle_between_deg(np.array(told["rotation"]), np.eye(3)) < 1


def test_halves_are_corrected_under_a_mask(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    signal = low_pass(blobs(), 8.0)
    for name in ("half1", "half2"):
        noisy = signal + 0.1 * signal.max() * random.normal(size=signal.shape)
        write_mrc(tmp_path / f"{name}.mrc", noisy, PIXEL, is_volume=True)
    write_mrc(tmp_path / "mask.mrc", soft_sphere(32, 8, 2), PIXEL, is_volume=True)
    halves = (tmp_path / "half1.mrc", tmp_path / "half2.mrc")
    plain = run("halves", *halves)
    assert "FSC unmasked" in plain
    assert "corrected" not in plain
    output = run("halves", *halves, "--mask", tmp_path / "mask.mrc", "--null", "--json", tmp_path / "f.json")
    assert re.search(r"the masked curve stays above pure noise \(95 % of trials\) down to \d+\.\d\d Å", output)
    assert "FSC corrected" in output
    told = json.loads((tmp_path / "f.json").read_text())
    assert set(told["curves"]) == {"unmasked", "masked", "phase_randomised", "corrected", "noise_95"}
    assert set(told["resolution_angstrom"]) == {"unmasked", "masked", "corrected"}
    assert all(len(curve) == 17 for curve in told["curves"].values())
    assert told["resolution_angstrom"]["corrected"]["0.143"] >= told["nyquist_angstrom"] == 4


def test_a_curve_that_never_falls_states_no_resolution(tmp_path: Path) -> None:
    """Strong agreement up to the corner: all that is known is that Nyquist is reached."""
    random = np.random.default_rng(1)
    signal = random.normal(size=(24, 24, 24))
    for name in ("half1", "half2"):
        noisy = signal + 0.1 * random.normal(size=signal.shape)
        write_mrc(tmp_path / f"{name}.mrc", noisy.astype(np.float32), PIXEL, is_volume=True)
    output = run("halves", tmp_path / "half1.mrc", tmp_path / "half2.mrc", "--null")
    assert "at or beyond Nyquist (4.00 Å) at 0.5 (2.00 px), at or beyond Nyquist (4.00 Å) at 0.143" in output
    assert "the unmasked curve stays above pure noise (95 % of trials) up to Nyquist (4.00 Å)" in output
    write_mrc(tmp_path / "other.mrc", random.normal(size=signal.shape).astype(np.float32), PIXEL, is_volume=True)
    output = run("halves", tmp_path / "half1.mrc", tmp_path / "other.mrc", "--null", "--diameter", 30)
    assert "the masked curve does not rise above pure noise" in output


def test_one_map_given_as_two_halves_is_refused(tmp_path: Path) -> None:
    write_mrc(tmp_path / "half1.mrc", blobs(), PIXEL, is_volume=True)
    write_mrc(tmp_path / "half2.mrc", 2 * blobs() + 1, PIXEL, is_volume=True)
    with pytest.raises(InputError, match="hold the same map"):
        run("halves", tmp_path / "half1.mrc", tmp_path / "half2.mrc")


def test_images_are_compared_row_by_row(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    clean = np.stack([low_pass(blobs(seed=seed), 4.0).sum(axis=0) for seed in range(5)])
    noisy = (2 * clean + 0.1 * clean.std() * random.normal(size=clean.shape)).astype(np.float32)
    write_mrc(tmp_path / "clean.mrcs", clean, PIXEL, is_volume=False)
    write_mrc(tmp_path / "noisy.mrcs", noisy, PIXEL, is_volume=False)
    told = {}
    for fit in ("none", "scale"):
        arguments = ("images", tmp_path / "noisy.mrcs", "--truth", tmp_path / "clean.mrcs", "--fit", fit)
        output = run(*arguments, "--json", tmp_path / "f.json")
        told[fit] = json.loads((tmp_path / "f.json").read_text())
        assert f"{told[fit]['relative_mse']:.4f}" in output
    assert told["none"]["relative_mse"] == pytest.approx(1, abs=0.1)
    assert told["scale"]["relative_mse"] < 0.02
    assert told["scale"]["correlation"] == told["none"]["correlation"] > 0.99
    assert told["none"]["images"] == 5


def test_poses_are_compared_by_image_name(tmp_path: Path, rotations: np.ndarray) -> None:
    truth = particle_star(tmp_path / "truth.star", rotations)
    found = in_plane(6.0) @ rotations[::-1] @ rotations[7]
    table = {"rlnImageName": [f"{row:06d}@raw/particles.mrcs" for row in range(60, 0, -1)]}
    # The structure lies 4 Å off along x in its box, and every shift is off by 1.5 Å along x of its image.
    moved = 4.0 * found[:, :2, 0]
    table |= {"rlnOriginXAngst": moved[:, 0] + 1.5 * (-1.0) ** np.arange(60), "rlnOriginYAngst": moved[:, 1]}
    path = particle_star(tmp_path / "found.star", found, **table)
    output = run("poses", path, "--truth", truth, "--json", tmp_path / "f.json")
    told = json.loads((tmp_path / "f.json").read_text())
    assert told["matched"] == "by image name"
    assert "60, matched by image name" in output
    assert told["median_deg"]["angle"] == pytest.approx(6, abs=0.7)
    assert told["median_deg"]["in_plane"] == pytest.approx(6, abs=0.7)
    assert told["median_deg"]["view"] < 1
    assert told["mirrored"] is False
    assert told["median_shift_angstrom"] == pytest.approx(1.5, abs=0.3)
    assert re.search(r"of the shift median 1\.[345]\d? Å", output)
    assert told["common_line_share"] == 1
    assert told["share_within_10_deg"] == 1


def test_classes_tell_their_spread_and_purity(tmp_path: Path, rotations: np.ndarray) -> None:
    turned = np.repeat(rotations[:4], 15, axis=0)
    labels = np.repeat([1, 2, 3, 4], 15)
    truth = particle_star(tmp_path / "truth.star", turned, rlnClassNumber=labels)
    found = labels.copy()
    found[:5] = 2
    members = particle_star(tmp_path / "members.star", rlnClassNumber=found)
    output = run("classes", members, "--truth", truth, "--json", tmp_path / "f.json")
    told = json.loads((tmp_path / "f.json").read_text())
    assert told["purity"] == pytest.approx(55 / 60)
    assert 0.7 < told["adjusted_rand_index"] < 1
    assert told["view_spread_deg"] < 5 < told["view_spread_of_one_class_deg"]
    assert [row["size"] for row in told["by_class"]] == [10, 20, 15, 15]
    assert "4 classes" in output


def test_a_place_for_figures_is_tried_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr(evaluate_maps, "read_cube", never)
    absent = tmp_path / "absent"
    for option in ("--json", "--registered"):
        arguments = ("map", tmp_path / "map.mrc", "--truth", tmp_path / "map.mrc", option)
        with pytest.raises(OutputError, match=r"there is no folder .*absent; make it first"):
            run(*arguments, absent / "figures.json")
        with pytest.raises(OutputError, match="it is a folder"):
            run(*arguments, tmp_path)
        with pytest.raises(OutputError, match="takes no new files there"):
            run(*arguments, "/proc/figures.json")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_compared_is_one_sentence(tmp_path: Path, rotations: np.ndarray) -> None:
    truth = particle_star(tmp_path / "truth.star", rotations)
    few = particle_star(tmp_path / "few.star", rlnImageName=["000001@other.mrcs"], rlnClassNumber=[1])
    strange = particle_star(tmp_path / "strange.star", rlnImageName=["000001@particles.mrcs", "000099@x.mrcs"])
    bare = particle_star(tmp_path / "bare.star", rlnDefocusU=np.arange(60))
    write_mrc(tmp_path / "map.mrc", blobs(), PIXEL, is_volume=True)
    write_mrc(tmp_path / "small.mrc", blobs(16), PIXEL, is_volume=True)
    write_mrc(tmp_path / "flat.mrcs", np.ones((3, 16, 32), dtype=np.float32), PIXEL, is_volume=True)
    write_mrc(tmp_path / "other.mrc", blobs(seed=2), PIXEL, is_volume=True)
    volume, other = tmp_path / "map.mrc", tmp_path / "other.mrc"
    cases: list[tuple[type[ClariceError], str, tuple[object, ...]]] = [
        (InputError, "does not exist", ("poses", tmp_path / "absent.star", "--truth", truth)),
        (InputError, "image names do not match", ("poses", few, "--truth", truth)),
        (InputError, r"row 2 \(99@x.mrcs\)", ("poses", strange, "--truth", truth)),
        (InputError, "_rlnAngleRot", ("poses", bare, "--truth", truth)),
        (InputError, "_rlnClassNumber", ("classes", bare, "--truth", truth)),
        (UsageError, "symmetry", ("poses", truth, "--truth", truth, "--symmetry", "Q3")),
        (InputError, "share one grid", ("halves", volume, tmp_path / "small.mrc")),
        (InputError, "must be a cube", ("map", tmp_path / "flat.mrcs", "--truth", volume)),
        (UsageError, "--diameter", ("halves", volume, other, "--diameter", 999)),
        (UsageError, "exclude", ("halves", volume, other, "--diameter", 20, "--mask", volume)),
        (UsageError, "--fit", ("images", volume, "--truth", volume, "--fit", "best")),
    ]
    for kind, says, arguments in cases:
        with pytest.raises(kind, match=says) as caught:
            run(*arguments)
        assert "\n" not in str(caught.value)
