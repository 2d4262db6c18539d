"""Which of two first maps is kept, and what becomes of stacks too small for one of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from clarice.abinitio.common_lines import CommonLines
from clarice.abinitio.evidence import RandomPhases, gain_by_start, laid_sample, random_phases
from clarice.abinitio.from_poses import Reconstruction
from clarice.abinitio.line_poses import LinePoses
from clarice.abinitio.synchronize import Synchronized
from clarice.core.errors import InputError
from clarice.core.particles import Poses
from clarice.core.progress import Progress
from clarice.geometry.so3 import euler_to_matrix
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.null_particles import phase_randomised
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate
from clarice.pipeline import first_map
from clarice.pipeline.denoised_files import IMAGES, RECORD
from clarice.pipeline.first_map import FirstMap, find_first_map
from clarice.pipeline.first_map_settings import FirstMapSettings, Method
from clarice.pipeline.laid_map import finest_ring
from clarice.pipeline.line_map import FEWEST_PARTICLES, LineMap
from clarice.pipeline.map_stages import abinitio

BOX, COUNT = 32, 120
SETTINGS = FirstMapSettings(0.7 * BOX, starts=1, images=40, denoiser="wiener", max_shift_px=2.0)


@pytest.fixture(scope="module")
def simulated() -> SimulatedSet:
    return simulate(make_molecule(1, mass_kda=150), SimulationSettings(particles=COUNT, box=BOX, seed=2, snr=0.5))


@pytest.fixture(scope="module")
def noisy(simulated: SimulatedSet) -> NoisySet:
    return white_set(simulated.particles)


@pytest.mark.parametrize("right", [Method.COMMON_LINES, Method.PROJECTION_MATCHING])
def test_the_likelier_map_is_kept_whichever_way_it_came(
    right: Method, noisy: NoisySet, simulated: SimulatedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = torch.from_numpy(simulated.volume)
    maps = {method: truth if method is right else truth.flip(0).roll(5, 1) for method in first_map.COMPARED}

    def finder(method: Method, volume: Tensor) -> object:
        def find(_: NoisySet, settings: FirstMapSettings, progress: Progress, denoised: object) -> FirstMap:
            assert denoised is None
            progress("finding", 1, 1)
            return FirstMap(volume, 9.0, method, {"seed": settings.seed}, "found", f"doubt of {method}")

        return find

    finders = {method: finder(method, volume) for method, volume in maps.items()}
    monkeypatch.setattr(first_map, "_FINDERS", finders)
    found = find_first_map(noisy, SETTINGS)
    laying = SETTINGS.laying(BOX, BOX / 2)
    gains = {method: gain_by_start(noisy, volume, laying) for method, volume in maps.items()}
    record = found.as_record()
    (wrong,) = set(maps) - {right}
    assert gains[right] > gains[wrong] + 1
    assert (found.method, record["method"], record["other"]["method"]) == (right, right.value, wrong.value)
    assert record["log_likelihood_compared"] == pytest.approx(gains[right])
    assert record["other"]["log_likelihood_compared"] == pytest.approx(gains[wrong])
    assert found.warning == f"doubt of {right}"
    assert found.said.startswith(f"{right.value}, by log-likelihood a particle (")


def test_a_stack_too_small_for_common_lines_is_matched_to_projections(noisy: NoisySet) -> None:
    few = noisy.subset(np.arange(FEWEST_PARTICLES - 1))
    found = find_first_map(few, SETTINGS)
    assert found.method is Method.PROJECTION_MATCHING
    assert "other" not in found.as_record()
    assert found.said.startswith("projection matching alone, 19 particles being few; start ")
    with pytest.raises(InputError, match="too few for common lines"):
        find_first_map(few, replace(SETTINGS, method=Method.COMMON_LINES))


def test_the_estimate_holds_for_all_that_is_tried() -> None:
    methods = (Method.BOTH, Method.COMMON_LINES, Method.PROJECTION_MATCHING)
    both, lines, matching = (replace(SETTINGS, method=method).estimate(2000, 64, 64) for method in methods)
    assert both.seconds == pytest.approx(lines.seconds + matching.seconds)
    assert both.memory_mb == max(lines.memory_mb, matching.memory_mb)
    before = replace(SETTINGS, method=Method.COMMON_LINES).estimate(2000, 64, 64, denoised_before=True)
    assert before.seconds < lines.seconds - 1
    one, three = (replace(SETTINGS, classes=classes, junk_share=0.1).estimate(2000, 64, 64) for classes in (1, 3))
    assert three.seconds > 6 * matching.seconds
    assert three.memory_mb > one.memory_mb
    assert three.disk_mb == 3 * one.disk_mb


def test_images_that_fit_nowhere_are_told_of(noisy: NoisySet, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their rows, of the particles that were laid by their lines."""
    laid, count = np.array([3, 8, 20, 41, 70]), 5
    right = torch.full((count, count), 0.6) * (1 - torch.eye(count))
    right[2] = right[:, 2] = 0.01
    nothing, rotations = torch.zeros((count, count)), torch.eye(3).expand(count, 3, 3)
    found = Synchronized(rotations, torch.zeros((count, count, 2)), nothing, right, 0.5)
    poses = Poses(np.asarray(rotations), np.zeros((count, 2)))
    lines = LinePoses(poses, CommonLines.none(count), found, 10.0)
    made = LineMap(torch.zeros((BOX,) * 3), np.arange(100), laid, lines, 5.0)
    monkeypatch.setattr(first_map, "first_map_by_lines", lambda *_: made)
    monkeypatch.setattr(first_map, "gain_by_start", lambda *_: 9.0)
    record = find_first_map(noisy, replace(SETTINGS, method=Method.COMMON_LINES)).as_record()
    assert record["outliers"] == [20]


@pytest.mark.parametrize(("largest_tilt_deg", "prefers"), [(180.0, False), (30.0, True)])
def test_preferred_views_are_told_of_before_anything_is_refined(
    largest_tilt_deg: float, prefers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a map that is right: what particles say, not how lines went."""
    count, rng = 200, np.random.default_rng(2)
    tilt = np.rad2deg(np.arccos(rng.uniform(np.cos(np.deg2rad(largest_tilt_deg)), 1, count)))
    angles = np.stack([rng.uniform(-180, 180, count), tilt, rng.uniform(-180, 180, count)], axis=1)
    poses = Poses(euler_to_matrix(angles), np.zeros((count, 2)))
    made = simulate(make_molecule(3, mass_kda=60), SimulationSettings(count, BOX, seed=3, snr=0.5), poses=poses)
    right = FirstMap(torch.from_numpy(made.volume), 9.0, Method.PROJECTION_MATCHING, {}, "found")
    lone = replace(SETTINGS, method=Method.PROJECTION_MATCHING)
    monkeypatch.setattr(first_map, "_the_only_one", lambda *_: right)
    warning = find_first_map(white_set(made.particles), lone).views_warning
    assert (warning is not None) == prefers
    if warning is not None:
        assert "they prefer some views" in warning
    monkeypatch.setattr(first_map, "_the_only_one", lambda *_: replace(right, warning="a doubt"))
    assert find_first_map(white_set(made.particles), lone).views_warning is None


def test_random_phases_take_from_particles_what_their_map_explains(noisy: NoisySet, simulated: SimulatedSet) -> None:
    """Particles lose nearly all they gain by their map; images whose phases are random already lose nothing more."""
    laying = SETTINGS.laying(BOX, BOX / 2)
    right = torch.from_numpy(simulated.volume)
    found = random_phases(noisy, right, laying, laid_sample(noisy, right, laying))
    assert found.stands_out
    assert found.gain == pytest.approx(gain_by_start(noisy, right, laying))
    assert found.randomised < 0.5 * found.gain
    assert 0 < found.error < 0.1 * found.gain
    nothing = phase_randomised(noisy, 5)
    assert not random_phases(nothing, right, laying, laid_sample(nothing, right, laying)).stands_out


@pytest.mark.parametrize(
    ("gain", "randomised", "error", "stands_out"),
    [
        (50.0, -20.0, 1.0, True),
        (14.0, 12.8, 0.1, False),
        (14.0, 5.0, 3.0, False),
        (0.0, 0.0, 0.0, False),
        (-5.0, -20.0, 1.0, False),
    ],
)
def test_a_map_stands_out_by_more_than_chance_and_more_than_half_of_what_it_explains(
    gain: float, randomised: float, error: float, stands_out: bool
) -> None:
    assert RandomPhases(gain, randomised, error).stands_out is stands_out


def test_a_map_of_what_spectra_hold_is_doubted(noisy: NoisySet, monkeypatch: pytest.MonkeyPatch) -> None:
    lone = replace(SETTINGS, method=Method.PROJECTION_MATCHING)
    made = FirstMap(torch.zeros((BOX,) * 3), 9.0, Method.PROJECTION_MATCHING, {}, "found")
    monkeypatch.setattr(first_map, "_the_only_one", lambda *_: made)
    for randomised, warning in ((13.0, first_map.RANDOM_PHASES_AS_LIKELY), (-9.0, None)):
        monkeypatch.setattr(first_map, "random_phases", lambda *_, of=randomised: RandomPhases(14.0, of, 0.5))
        found = find_first_map(noisy, lone)
        assert found.warning == warning
        assert found.as_record()["random_phases"] == {"gain": 14.0, "randomised": randomised, "error": 0.5}


def test_a_first_map_is_looked_at_as_far_as_its_halves_agree_well() -> None:
    """A dip in shells that tell nothing of orientations does not count, as in refinement."""
    volume, fsc = torch.zeros((BOX,) * 3), torch.full((BOX // 2 + 1,), 0.9)
    fsc[2], fsc[9], fsc[12] = 0.0, 0.4, 0.1
    made = Reconstruction(volume, torch.stack([volume, volume]), fsc)
    assert finest_ring(made, SETTINGS) == 8
    assert finest_ring(replace(made, fsc=torch.zeros_like(fsc)), replace(SETTINGS, diameter_px=float(BOX))) == 2


@pytest.mark.parametrize(
    ("settings", "read"),
    [
        (SETTINGS, True),
        (replace(SETTINGS, method=Method.COMMON_LINES), True),
        (replace(SETTINGS, method=Method.PROJECTION_MATCHING), False),
    ],
)
def test_the_stage_depends_on_denoised_images_where_they_have_a_part(settings: FirstMapSettings, read: bool) -> None:
    assert (IMAGES in abinitio(settings).reads) is read
    assert (RECORD in abinitio(settings).reads) is read
