"""Which poses an iteration looks at: every row once, and around each particle's last pose once the grid is fine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tests.abinitio.conftest import BOX, DIAMETER_PX

from clarice.abinitio import pose_search
from clarice.abinitio.pose_search import LOCAL_REACH, SHIFT_SHARE, PoseSearch
from clarice.abinitio.views import ViewGrid
from clarice.core.particles import FloatArray
from clarice.geometry import so3
from clarice.geometry.expectation import expectation
from clarice.geometry.polar import FourierRings
from clarice.physics.noisy_set import NoisySet
from clarice.physics.simulate import SimulatedSet

ROWS = np.arange(0, 400, 5)


def search_of(
    rotations: FloatArray,
    *,
    is_local: bool,
    spacing_deg: float = 10.0,
    centres: FloatArray | None = None,
    seed: int = 1,
    radius: float = 10.0,
) -> PoseSearch:
    rings = FourierRings.up_to(BOX, radius, DIAMETER_PX)
    return PoseSearch(rings, spacing_deg, is_local, seed, rotations, centres, 2.0)


@pytest.fixture
def anywhere() -> FloatArray:
    return np.broadcast_to(np.eye(3), (400, 3, 3)).copy()


def test_grid_is_the_same_for_both_halves_and_turned_anew_by_the_seed(anywhere: FloatArray) -> None:
    first, again, other = (search_of(anywhere, is_local=False, seed=seed).grid(BOX) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.rotations, again.rotations)
    distance = so3.angle_between_deg(first.rotations[:, None], other.rotations[None]).min(axis=1)
    assert distance.max() > 1
    whole = search_of(anywhere, is_local=True).grid(BOX)
    assert len(whole) == pytest.approx(2 * len(first), rel=0.1)
    numerator, denominator = search_of(anywhere, is_local=True).empty()
    assert len(numerator) == len(denominator) == len(whole)


def test_shifts_widely_at_first_and_closely_afterwards(anywhere: FloatArray) -> None:
    coarse, fine = (search_of(anywhere, is_local=False, radius=radius).shifts(ROWS)[0] for radius in (4.0, 9.0))
    for wide, steps in ((coarse, (-2.0, 0.0, 2.0)), (fine, (-2.0, -1.0, 0.0, 1.0, 2.0))):
        assert {tuple(row) for row in wide.tolist()} == {(x, y) for x in steps for y in steps}
    centred = replace(search_of(anywhere, is_local=False), max_shift_px=0.0)
    assert centred.shifts(ROWS)[0].tolist() == [[0.0, 0.0]]
    centres = np.random.default_rng(0).uniform(-2, 2, (400, 2))
    close, _ = search_of(anywhere, is_local=False, centres=centres, radius=12.0).shifts(ROWS)
    step = SHIFT_SHARE * BOX / 12.0
    assert close.shape == (len(ROWS), 9, 2)
    np.testing.assert_allclose(close.mean(dim=1), centres[ROWS], atol=1e-6)
    assert float((close - close.mean(dim=1, keepdim=True)).abs().max()) == pytest.approx(step, rel=1e-5)


@pytest.mark.parametrize("is_local", [False, True])
def test_no_shift_goes_beyond_the_limit(noisy: NoisySet, simulated: SimulatedSet, is_local: bool) -> None:
    """Particles shifted by up to 1.5 px, sought within 0.6 px of where they lie, by last shifts at that limit."""
    limit = 0.6
    search = replace(
        search_of(simulated.poses.rotations, is_local=is_local, centres=simulated.poses.shifts_px.clip(-limit, limit)),
        max_shift_px=limit,
    )
    grid = search.grid(BOX)
    references = grid.references(torch.from_numpy(simulated.volume))
    found = torch.cat([result.shift_px for _, _, result in search.parts(noisy, grid, references, ROWS)])
    assert float(found.abs().max()) <= limit + 1e-3
    assert float((found.abs() > limit - 1e-3).any(dim=1).float().mean()) > 0.5


@pytest.mark.parametrize("is_local", [False, True])
def test_every_row_has_its_turn_once(
    noisy: NoisySet, simulated: SimulatedSet, monkeypatch: pytest.MonkeyPatch, is_local: bool
) -> None:
    monkeypatch.setattr(pose_search, "PARTICLES_AT_ONCE", 33)
    search = search_of(simulated.poses.rotations, is_local=is_local)
    grid = search.grid(BOX)
    references = grid.references(torch.from_numpy(simulated.volume))
    seen, views = [], []
    for rows, those, result in search.parts(noisy, grid, references, ROWS):
        assert len(result.reference) == len(rows)
        assert len(result.numerator) == len(those)
        seen.append(rows)
        views.append(len(those))
    assert sorted(np.concatenate(seen).tolist()) == ROWS.tolist()
    assert max(views) < len(grid) / 2 if is_local else set(views) == {len(grid)}


def test_local_search_looks_at_every_view_near_the_last_one(noisy: NoisySet, simulated: SimulatedSet) -> None:
    search = search_of(simulated.poses.rotations, is_local=True, spacing_deg=8.0)
    grid = search.grid(BOX)
    references = grid.references(torch.from_numpy(simulated.volume))
    directions = so3.view_directions(grid.rotations)
    for rows, views, _ in search.parts(noisy, grid, references, ROWS):
        last = so3.view_directions(simulated.poses.rotations[rows])
        angle = np.rad2deg(np.arccos(np.clip(last @ directions.T, -1, 1)))
        wanted = set(np.flatnonzero((angle < 2 * search.spacing_deg).any(axis=0)).tolist())
        assert wanted <= set(views.tolist())
        assert angle[:, views].max() < 3 * LOCAL_REACH * search.spacing_deg


@pytest.mark.parametrize("is_local", [False, True])
def test_parts_are_plain_expectations_of_their_rows(noisy: NoisySet, simulated: SimulatedSet, is_local: bool) -> None:
    """Every part against one call of the expectation step a particle, with the views it was given."""
    search = search_of(simulated.poses.rotations, is_local=is_local, centres=simulated.poses.shifts_px)
    grid = search.grid(BOX)
    references = grid.references(torch.from_numpy(simulated.volume))
    for rows, views, result in search.parts(noisy, grid, references, ROWS[:12]):
        evidence = []
        for row in rows:
            alone = np.array([row])
            one = expectation(
                noisy.rings(search.rings, alone),
                references[views],
                search.shifts(alone)[0],
                shift_log_prior=search.shifts(alone)[1],
                mirror=not is_local,
            )
            evidence.append(float(one.log_evidence))
        np.testing.assert_allclose(result.log_evidence, evidence, rtol=1e-2, atol=1.0)


def test_local_search_finds_the_truth_from_a_few_degrees_off(noisy: NoisySet, simulated: SimulatedSet) -> None:
    true = simulated.poses.rotations
    generator = torch.Generator().manual_seed(3)
    axes = torch.randn((400, 3), generator=generator, dtype=torch.float64).numpy()
    axes *= 12.0 / np.linalg.norm(axes, axis=1, keepdims=True)
    astray = Rotation.from_rotvec(axes, degrees=True).as_matrix() @ true
    search = search_of(astray, is_local=True, spacing_deg=6.0, centres=simulated.poses.shifts_px)
    grid: ViewGrid = search.grid(BOX)
    found = true.copy()
    for rows, views, result in search.parts(noisy, grid, grid.references(torch.from_numpy(simulated.volume)), ROWS):
        found[rows] = ViewGrid(grid.rotations[views], grid.rings, BOX).poses(result)
    error = so3.angle_between_deg(found, true)[ROWS]
    assert np.median(error) < 6
    assert float(np.mean(error < 12)) > 0.9
