"""`clarice simulate --structural`: kinds and strengths reach the images and the record, and nonsense is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.cli.test_simulate import OPTIONS, run

from clarice.cli.structural_option import structural_noise
from clarice.core.errors import UsageError
from clarice.io.mrc import read_mrc
from clarice.physics.structural_noise import StructuralNoise


def test_strengths_reach_the_images_and_the_record(tmp_path: Path) -> None:
    run("-o", str(tmp_path / "plain"), *OPTIONS)
    run("-o", str(tmp_path / "made"), *OPTIONS, "--structural", "carbon=0.5", "--structural", "hot_pixels=2")
    (plain, _), (made, _) = (read_mrc(tmp_path / name / "particles.mrcs") for name in ("plain", "made"))
    assert np.abs(made - plain).max() > 1
    (clean, _), (same, _) = (read_mrc(tmp_path / name / "clean.mrcs") for name in ("plain", "made"))
    np.testing.assert_array_equal(clean, same)
    record = json.loads((tmp_path / "made" / "simulation.json").read_text())
    assert record["settings"]["structural"] == vars(StructuralNoise(carbon=0.5, hot_pixels=2))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dust=1"], "--structural dust=1: the kinds are neighbours, carbon,"),
        (["ice"], "--structural ice: give a number, as in --structural ice=0.5"),
        (["ice=cold"], "give a number"),
        (["ice=1", "ice=2"], "ice has a strength already"),
        (["ice=-1"], "ice=-1 must be a number of at least 0"),
        (["floppy=2"], "floppy=2 must lie between 0 and 1"),
    ],
)
def test_nonsense_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        structural_noise(words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
