"""What the page shows of where denoised particles came from, how wrong they may be, and what became of classes."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.report.fake_run import BOX, PARTICLES, PIXEL_ANGSTROM, replace_file
from tests.report.test_page import document

from clarice.classify.select import IMPROBABLE, KEPT, NOISE
from clarice.io.mrc import read_mrc, write_mrc
from clarice.io.star import write_star
from clarice.pipeline.denoised_notes import NOTES
from clarice.report.expected_error import expected_error
from clarice.report.folder import RunFiles
from clarice.report.page import render
from clarice.report.particles import Fate, class_fates, particle_pairs
from clarice.report.sources import Made, made_from, turned

ERRORS = np.geomspace(0.01, 0.4, BOX // 2 + 1)


def shown(address: str) -> np.ndarray:
    """The pixels of a picture on the page."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))), dtype=np.float64)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    middle = slice(BOX // 4, -BOX // 4)  # clear of the corners that a turn leaves empty
    return float(np.corrcoef(a[..., middle, middle].ravel(), b[..., middle, middle].ravel())[0, 1])


def write_told(folder: Path, angle_deg: float = 90.0, last: int = PARTICLES) -> None:
    """As a joint method leaves it: row `last` is every particle's first source, and three more follow."""
    rows = np.arange(1, PARTICLES + 1)
    others = (rows[:, None] + np.array([0, 1, 2])) % (PARTICLES - 1) + 1
    sources = pd.DataFrame(
        {
            "clariceRow": np.repeat(rows, 4),
            "clariceSourceRow": np.concatenate([np.full((PARTICLES, 1), last), others], axis=1).ravel(),
            "clariceSourceAngle": np.tile([angle_deg, 10.0, 20.0, 30.0], PARTICLES),
            "clariceSourceWeight": np.tile([0.1, 0.05, 0.03, 0.02], PARTICLES),
        }
    )
    own = pd.DataFrame(
        {
            "clariceRow": rows,
            "clariceKeptWeight": np.full(PARTICLES, 0.6),
            "clariceExpectedError": np.linspace(0.25, 0.5, PARTICLES),
        }
    )
    write_star(folder / NOTES, {"particles": own, "sources": sources})


@pytest.fixture
def told_run(copied_run) -> Path:
    """A run by a method that told its sources, whose first image is its last one turned from +x towards +y by 90°."""
    folder = copied_run()
    images = np.array(read_mrc(folder / "denoised.mrcs")[0])
    images[:, 0] = images[:, :, 0] = 0
    images[0, 1:, 1:] = np.rot90(images[-1, 1:, 1:], -1)
    (folder / "denoised.mrcs").unlink()
    write_mrc(folder / "denoised.mrcs", images, PIXEL_ANGSTROM, is_volume=False)
    prepared = {"working_box": BOX, "working_pixel_size_angstrom": PIXEL_ANGSTROM}
    record = {"method": "joint", "expected_error_by_shell": ERRORS.tolist(), "preparation": prepared}
    replace_file(folder / "denoised.json", json.dumps(record))
    write_told(folder)
    return folder


def made_in(folder: Path) -> tuple[Made, ...]:
    run = RunFiles(folder)
    return made_from(run, particle_pairs(run))


@pytest.mark.parametrize("angle_deg", [30.0, -75.0, 90.0])
def test_content_is_turned_from_x_towards_y_about_the_centre(angle_deg: float) -> None:
    y, x = np.mgrid[:BOX, :BOX] - BOX // 2

    def blob(at_deg: float) -> np.ndarray:
        place = np.deg2rad(at_deg)
        return np.exp(-((x - 11 * np.cos(place)) ** 2 + (y - 11 * np.sin(place)) ** 2) / 8)

    assert np.abs(turned(blob(20.0).astype(np.float32), angle_deg) - blob(20.0 + angle_deg)).max() < 0.08
    odd = blob(20.0)[:-1, :-1][::-1].copy()  # of odd edge the centre is another pixel
    assert np.allclose(turned(odd.astype(np.float32), 0.0), odd)


def test_sources_lie_as_they_were_used(told_run: Path) -> None:
    first = made_in(told_run)[0]
    assert first.pair.row == 1
    assert first.pair.denoised is not None
    assert first.sources[0].row == PARTICLES
    own, source = shown(first.pair.denoised), shown(first.sources[0].picture)
    assert correlation(own, source) > 0.98
    (told_run / NOTES).unlink()
    write_told(told_run, angle_deg=-90.0)
    assert correlation(own, shown(made_in(told_run)[0].sources[0].picture)) < 0.9  # of a particle nearly round


def test_sources_are_shown_bright_heaviest_first_of_particles_from_all_over(told_run: Path) -> None:
    made = made_in(told_run)
    assert [one.pair.row for one in made] == [1, 344, 857, PARTICLES]
    assert [source.weight.replace("\u202f", " ") for source in made[1].sources] == ["10.0 %", "5.0 %", "3.0 %", "2.0 %"]
    assert [source.turned_by for source in made[1].sources] == ["+90°", "+10°", "+20°", "+30°"]
    assert [source.row for source in made[1].sources[1:]] == [345, 346, 347]
    assert (made[1].kept, made[1].listed, made[1].others) == ("60.0\u202f%", "20.0\u202f%", "20.0\u202f%")
    assert (made[0].error, made[-1].error) == ("0.25", "0.50")
    picture = shown(made[1].sources[0].picture)
    assert picture[20:28, 20:28].mean() > picture[:8].mean()


def test_the_page_names_every_source(told_run: Path) -> None:
    page = document(told_run)
    assert page.faults == []
    assert "What they were made from" in page.text
    alternatives = [attributes.get("alt") for tag, attributes in page.elements if tag == "img"]
    assert "Particle 345, a source of particle 344" in alternatives
    assert len(alternatives) == 2 * 8 + 4 * (2 + 4) + 24 + 12 + 18 + 6


def test_a_method_without_sources_or_errors_has_no_such_part(finished_run: Path) -> None:
    run = RunFiles(finished_run)
    assert made_from(run, particle_pairs(run)) == ()
    assert expected_error(run) == ()
    text = render(run)
    assert "What they were made from" not in text
    assert "Expected error" not in text
    assert "What became of each class" not in text


def test_sources_of_another_stack_and_damaged_ones_are_left_out(told_run: Path) -> None:
    (told_run / NOTES).unlink()
    write_told(told_run, last=PARTICLES + 1)
    assert made_in(told_run) == ()
    replace_file(told_run / NOTES, b"\0\xff garbage " * 50)
    page = document(told_run)
    assert f"{NOTES} cannot be read" in page.text
    assert "What they were made from" not in page.text


def test_expected_errors_are_drawn_up_to_nyquist_and_said_to_be_of_simulated_particles(told_run: Path) -> None:
    by_shell, by_particle = expected_error(RunFiles(told_run))
    readout = str(by_shell.svg).split('data-readout="')[1].split('"')[0].replace("&#34;", '"')
    drawn = json.loads(readout)
    assert drawn["series"][0]["y"] == pytest.approx(np.log10(ERRORS[:-1]).tolist(), abs=1e-3)
    assert 1 / drawn["x"][-1] == pytest.approx(BOX * PIXEL_ANGSTROM / (BOX // 2 - 1), rel=1e-3)
    assert "calibrated on simulated particles only" in by_shell.caption
    assert by_particle.title == "Expected error by particle"
    assert "Expected error by resolution" in document(told_run).text


@pytest.mark.parametrize("errors", [None, [0.1, None, 0.2], ERRORS[:-3].tolist()])
def test_errors_that_are_none_or_do_not_fit_the_box_are_not_drawn(told_run: Path, errors: list | None) -> None:
    record = json.loads((told_run / "denoised.json").read_text())
    replace_file(told_run / "denoised.json", json.dumps({**record, "expected_error_by_shell": errors}))
    assert [chart.title for chart in expected_error(RunFiles(told_run))] == ["Expected error by particle"]


def test_the_page_tells_what_became_of_each_class(copied_run) -> None:
    folder = copied_run()
    told = [(4, 10, 0, NOISE), (2, 60, 60, KEPT), (3, 30, 20, KEPT), (5, 20, 0, KEPT), (6, 0, 0, "no members")]
    fates = [dict(zip(("number", "members", "kept", "reason"), fate, strict=True)) for fate in told]
    replace_file(folder / "selection.json", json.dumps({"selected_classes": [2, 3], "classes": [*fates, {}, "x"]}))
    assert class_fates(RunFiles(folder)) == (
        Fate(2, 60, 0.5, 60, KEPT),
        Fate(3, 30, 0.25, 20, f"{KEPT}, but for those {IMPROBABLE}"),
        Fate(5, 20, 20 / 120, 0, IMPROBABLE),
        Fate(4, 10, 10 / 120, 0, NOISE),
    )
    page = document(folder)
    assert page.faults == []
    assert f"3 30 25.0 % 20 {KEPT}, but for those {IMPROBABLE}" in page.text
