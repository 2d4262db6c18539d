"""The check's verdict on stacks made wrong on purpose: what is found, what is told, and what is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from clarice.geometry.fourier import centred_fft2, centred_ifft2
from clarice.io.mrc import write_mrc
from clarice.io.stack import open_particles
from clarice.io.star import read_star, write_star
from clarice.physics.ctf import ctf
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.physics.simulation_files import write_simulation
from clarice.pipeline.preflight import Verdict, check_file

Images = NDArray[np.float32]
Blocks = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack as it should be: raw, protein bright, its own pixel size."""
    folder = tmp_path_factory.mktemp("sound")
    settings = SimulationSettings(particles=300, box=48, seed=5, snr=0.2)
    made = simulate(make_molecule(5, mass_kda=120), settings)
    write_simulation(made, folder, specimen="a molecule")
    return folder / "particles.star"


def altered(sound: Path, folder: Path, images: Callable[[Images], Images], table: Callable[[Blocks], None]) -> Verdict:
    """The verdict on the stack with other images and another table."""
    particles = open_particles(sound)
    with np.errstate(invalid="ignore"):  # the header's statistics of infinite values
        write_mrc(folder / "particles.mrcs", images(particles.read()), particles.pixel_size_angstrom, is_volume=False)
    blocks = dict(read_star(sound))
    table(blocks)
    write_star(folder / "particles.star", blocks)
    return check_file(folder / "particles.star")


def same(values: Images) -> Images:
    return values


def nothing(blocks: Blocks) -> None:
    """Leaves the table as it is."""


def rows_of(blocks: Blocks) -> pd.DataFrame:
    return next(block for block in blocks.values() if "rlnImageName" in block)


def holding(blocks: Blocks, name: str) -> pd.DataFrame:
    return next(block for block in blocks.values() if name in block)


def times(factor: float, *names: str) -> Callable[[Blocks], None]:
    def change(blocks: Blocks) -> None:
        for name in names:
            block = holding(blocks, name)
            block[name] = [f"{float(value) * factor:.6f}" for value in block[name]]

    return change


def set_to(value: str, name: str) -> Callable[[Blocks], None]:
    def change(blocks: Blocks) -> None:
        holding(blocks, name)[name] = value

    return change


def swapped(one: str, other: str) -> Callable[[Blocks], None]:
    def change(blocks: Blocks) -> None:
        first, second = holding(blocks, one), holding(blocks, other)
        values = list(first[one]), list(second[other])
        first[one], second[other] = values[1][: len(first)], values[0][: len(second)]

    return change


def without(name: str) -> Callable[[Blocks], None]:
    def change(blocks: Blocks) -> None:
        for block, rows in blocks.items():
            blocks[block] = rows.drop(columns=name, errors="ignore")

    return change


def treated(state: str, sound: Path) -> Callable[[Images], Images]:
    particles = open_particles(sound)
    assert particles.optics is not None
    transfer = ctf(particles.optics, particles.box, particles.pixel_size_angstrom)
    kept = transfer.sign() if state == "flipped" else transfer

    def change(values: Images) -> Images:
        spectra = centred_fft2(torch.from_numpy(values)) * kept
        return np.asarray(centred_ifft2(spectra).real.float().numpy())

    return change


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("state", ["raw", "flipped", "multiplied"])
def test_sign_and_ctf_state(sound: Path, tmp_path: Path, sign: int, state: str) -> None:
    change = same if state == "raw" else treated(state, sound)
    verdict = altered(sound, tmp_path, lambda values: sign * change(values), nothing)
    assert verdict.usable, verdict.summary
    assert verdict.sign == sign
    assert verdict.ctf is not None
    assert verdict.ctf.state == state
    assert verdict.ctf.pixel_factor is None


SCALED = [
    *((times(factor, "rlnImagePixelSize"), 1 / factor) for factor in (0.55, 0.8, 0.9, 1.15, 1.4, 1.9)),
    *((times(factor, "rlnDefocusU", "rlnDefocusV"), factor**0.5) for factor in (0.5, 2.0)),
]
# The others are as slow, and say the same.
QUICK = (1, 7)


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        pytest.param(*case, marks=() if number in QUICK else pytest.mark.slow, id=f"{case[1]:.2f}")
        for number, case in enumerate(SCALED)
    ],
)
def test_pixel_sizes_and_defocus_that_contradict_the_images(
    sound: Path, tmp_path: Path, change: Callable[[Blocks], None], factor: float
) -> None:
    verdict = altered(sound, tmp_path, same, change)
    assert verdict.kind == "needs an option"
    assert verdict.ctf is not None
    assert verdict.ctf.pixel_factor == pytest.approx(factor, rel=0.03)
    assert "pass --pixel-size, correct the defocus columns" in verdict.summary
    kept = check_file(tmp_path / "particles.star", ctf_state="raw")
    assert kept.usable


def spoilt(value: float, rows: slice = slice(3, 4)) -> Callable[[Images], Images]:
    def change(values: Images) -> Images:
        values = values.copy()
        values[rows, 5, 5] = value
        return values

    return change


def constant(values: Images) -> Images:
    values = values.copy()
    values[7] = 2.0
    return values


def copied(values: Images) -> Images:
    values = values.copy()
    values[9] = values[8]
    return values


def rows_repeated(blocks: Blocks) -> None:
    for name, block in blocks.items():
        if "rlnImageName" in block:
            blocks[name] = pd.concat([block, block.iloc[:5]], ignore_index=True)


def beyond_the_end(blocks: Blocks) -> None:
    rows = rows_of(blocks)
    rows.loc[4, "rlnImageName"] = "000999@particles.mrcs"


BROKEN = {
    "nan": (spoilt(np.nan), nothing, "broken", "rows 4"),
    "infinite": (spoilt(np.inf), nothing, "broken", "rows 4"),
    "absurd": (spoilt(1e20), nothing, "broken", "rows 4"),
    "constant": (constant, nothing, "broken", "rows 8"),
    "voltage in V": (same, times(1000, "rlnVoltage"), "broken", "voltage"),
    "voltage and aberration swapped": (same, swapped("rlnVoltage", "rlnSphericalAberration"), "broken", "voltage"),
    "contrast and aberration swapped": (
        same,
        swapped("rlnAmplitudeContrast", "rlnSphericalAberration"),
        "broken",
        "amplitude contrast",
    ),
    "defocus in µm": (same, times(1e-4, "rlnDefocusU", "rlnDefocusV"), "broken", "it must be in µm"),
    "defocus and angle swapped": (same, swapped("rlnDefocusU", "rlnDefocusAngle"), "broken", "are columns swapped?"),
    "no defocus V": (same, without("rlnDefocusV"), "broken", "_rlnDefocusV"),
    "no pixel size": (same, without("rlnImagePixelSize"), "needs an option", "pixel size"),
    "no images": (same, set_to("000001@elsewhere.mrcs", "rlnImageName"), "images missing", "elsewhere.mrcs"),
    "beyond the end": (same, beyond_the_end, "broken", "image 999"),
    "a word for a number": (same, set_to("many", "rlnDefocusU"), "broken", "rlnDefocusU"),
    "noise": (
        lambda v: np.random.default_rng(1).normal(size=v.shape).astype("f4"),
        nothing,
        "needs an option",
        "--contrast",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_stands_in_the_way(sound: Path, tmp_path: Path, name: str) -> None:
    images, table, kind, words = BROKEN[name]
    verdict = altered(sound, tmp_path, images, table)
    assert verdict.kind == kind, verdict.summary
    assert words in verdict.summary
    assert not verdict.usable


TOLD = {
    "copies": (copied, nothing, "1 copy of other images (row 10 of row 9"),
    "rows repeated": (same, rows_repeated, "5 rows repeat an image"),
    "not normalised": (lambda v: 50 * v + 300, nothing, "not normalised"),
    "defocus in nm": (same, times(0.1, "rlnDefocusU", "rlnDefocusV"), "is it in nm or µm"),
    "overfocus": (same, times(-1, "rlnDefocusU", "rlnDefocusV"), "overfocused"),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_is_worth_knowing(sound: Path, tmp_path: Path, name: str) -> None:
    images, table, words = TOLD[name]
    verdict = altered(sound, tmp_path, images, table)
    assert any(words in warning for warning in verdict.warnings), (verdict.summary, verdict.warnings)
    assert verdict.usable
    assert verdict.kind == "particles"
