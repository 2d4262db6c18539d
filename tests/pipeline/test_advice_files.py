"""The record of the advice, of simulated particles at their true poses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import white_set
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.pipeline.advice import RATIOS, Finished, advice

PARTICLES, BOX, SNR = 300, 32, 0.2


@pytest.fixture(scope="module")
def finished() -> Finished:
    """A run that found the truth, and whose half maps agree ever less."""
    settings = SimulationSettings(particles=PARTICLES, box=BOX, seed=4, snr=SNR, defocus_groups=3)
    made = simulate(make_molecule(5, mass_kda=200), settings)
    shells = np.arange(BOX // 2 + 1)
    curve = 1 / (1 + np.exp((shells - 10) / 1.2))
    fsc = {"box": BOX, "pixel_size_angstrom": 2.0, "last_shell": BOX // 2, "curves": {"corrected": curve.tolist()}}
    classes = [{"number": 1, "members": 200, "kept": 200}, {"number": 2, "members": 100, "kept": 0}]
    return Finished(
        particles=white_set(made.particles),
        poses=made.poses,
        half_set=np.arange(PARTICLES) % 2 + 1,
        halves=torch.from_numpy(made.volume).expand(2, -1, -1, -1),
        diameter_px=0.7 * BOX,
        symmetry="C1",
        whole_box=True,
        neighbours=None,
        records={
            "selection": {"kept": 200, "total": PARTICLES, "classes": classes},
            "classes": {"n_classes": 2},
            "fsc": fsc,
            "postprocess": {"by_direction": {"worst_over_best": 1.1}},
        },
    )


def test_the_record_holds_numbers_and_words(finished: Finished) -> None:
    found = json.loads(json.dumps(advice(finished), allow_nan=False))
    assert [part for part in ("classes", "snr", "resolution") if not found[part]["sentence"]] == []
    assert len(found["snr"]["groups"]) == 3
    assert sum(group["particles"] for group in found["snr"]["groups"]) == PARTICLES
    assert [one["particles"] for one in found["resolution"]["predictions"]] == [PARTICLES * ratio for ratio in RATIOS]
    assert found["classes"]["members"] == [200]
    assert found["views"]["seen_share"] > 0.85


def test_the_units_of_the_map_do_not_matter(finished: Finished) -> None:
    as_it_is, larger = (advice(replace(finished, halves=factor * finished.halves))["snr"] for factor in (1, 3))
    assert larger["whole"]["value"] == pytest.approx(as_it_is["whole"]["value"], rel=1e-3)
    assert larger["whole"]["scale"] == pytest.approx(as_it_is["whole"]["scale"] / 3, rel=1e-3)


def test_a_run_without_ctf_has_no_groups(finished: Finished) -> None:
    bare = replace(finished.particles, particles=replace(finished.particles.particles, optics=None))
    assert advice(replace(finished, particles=bare))["snr"]["groups"] == []
