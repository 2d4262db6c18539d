"""Maps from known poses: the truth comes back, in odd and even boxes, under symmetry, and by plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.abinitio.conftest import BOX, DIAMETER_PX
from tests.geometry.blobs import relative_error

from clarice.abinitio import from_poses
from clarice.abinitio.from_poses import Reconstruction, reconstruct_from_poses, samples_at_once, slice_sums
from clarice.abinitio.half_sets import HalfSets, assign_half_sets
from clarice.abinitio.reconstruct import SliceSums
from clarice.core.particles import Poses
from clarice.geometry import so3
from clarice.geometry.polar import FourierRings
from clarice.geometry.slices import slice_frequencies
from clarice.metrics.registration import apply_superposition, correlation_in_sphere
from clarice.metrics.shells import fsc
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate


def simulated_in(box: int, symmetry: str = "C1", count: int = 250) -> SimulatedSet:
    settings = SimulationSettings(particles=count, box=box, seed=8, snr=1.0, max_shift_px=2.0, defocus_groups=10)
    return simulate(make_molecule(5, mass_kda=150, symmetry=symmetry), settings)


def reconstruct(simulated: SimulatedSet, poses: Poses | None = None, symmetry: str = "C1") -> Reconstruction:
    count, box = len(simulated.images), simulated.particles.box
    poses = simulated.poses if poses is None else poses
    noisy = white_set(simulated.particles)
    return reconstruct_from_poses(noisy, poses, assign_half_sets(count, 0), 0.7 * box, symmetry)


@pytest.mark.parametrize("box", [28, 29])
def test_true_poses_give_the_truth(box: int) -> None:
    simulated = simulated_in(box)
    found = reconstruct(simulated)
    curve = fsc(found.volume.numpy(), simulated.volume)
    assert curve[1 : box // 2 - 2].min() > 0.8
    assert curve[1 : box // 4].min() > 0.97
    # In the truth's own grey values: the CTF is divided out, not just flipped.
    scale = float((found.volume * torch.from_numpy(simulated.volume)).sum() / found.volume.square().sum())
    assert scale == pytest.approx(1.0, abs=0.1)


def test_half_maps_agree_as_far_as_the_truth_allows(noisy: NoisySet, simulated: SimulatedSet) -> None:
    halves = assign_half_sets(len(noisy), 0)
    found = reconstruct_from_poses(noisy, simulated.poses, halves, DIAMETER_PX)
    between = found.fsc.double().numpy().clip(0)
    true = fsc(found.volume.numpy(), simulated.volume)
    implied = np.sqrt(2 * between / (1 + between))
    assert np.abs(implied - true)[1:14].max() < 0.12
    for half in found.halves:
        assert fsc(half.numpy(), simulated.volume)[1:9].min() > 0.9


def test_poses_are_read_as_the_conventions_say(simulated: SimulatedSet, noisy: NoisySet, half_set: HalfSets) -> None:
    """Turned the other way, or shifted the other way, the same images make a worse map."""
    poses = simulated.poses
    wrong = (
        Poses(np.swapaxes(poses.rotations, 1, 2), poses.shifts_px),
        Poses(poses.rotations, -poses.shifts_px),
        Poses(poses.rotations, poses.shifts_px[:, ::-1]),
    )
    right, *others = (
        correlation_in_sphere(
            reconstruct_from_poses(noisy, each, half_set, DIAMETER_PX).volume.numpy(), simulated.volume
        )
        for each in (poses, *wrong)
    )
    assert right > 0.95
    assert max(others) < right - 0.05


def test_two_fold_symmetry_doubles_the_data() -> None:
    simulated = simulated_in(28, "C2", count=60)
    alone, doubled = reconstruct(simulated), reconstruct(simulated, symmetry="C2")
    turned = apply_superposition(doubled.volume.numpy(), so3.in_plane(180.0), np.zeros(3), False)
    assert correlation_in_sphere(turned, doubled.volume.numpy()) > 0.995
    plain, better = (fsc(each.volume.numpy(), simulated.volume)[4:12].mean() for each in (alone, doubled))
    assert better > plain + 0.01
    # Any of the two equivalent poses of a particle says the same.
    operator = so3.symmetry_rotations("C2")[1]
    other = replace(simulated.poses, rotations=simulated.poses.rotations @ operator)
    noisy, rows, rings = white_set(simulated.particles), np.arange(60), FourierRings.up_to(28, 13.0, 0.7 * 28)
    one, same = (slice_sums(noisy, poses, rows, rings, "C2") for poses in (simulated.poses, other))
    assert relative_error(same.data, one.data) < 1e-4
    assert relative_error(same.kernel, one.kernel) < 1e-4
    # Where few slices pass, iterations make more of rounding.
    assert relative_error(reconstruct(simulated, other, "C2").volume, doubled.volume) < 0.05


@pytest.mark.parametrize("symmetry", ["C1", "C3"])
def test_slices_summed_in_steps_are_those_summed_one_by_one(
    noisy: NoisySet, simulated: SimulatedSet, monkeypatch: pytest.MonkeyPatch, symmetry: str
) -> None:
    rings, rows, told = FourierRings.up_to(BOX, 7.0, DIAMETER_PX), np.array([3, 40, 41, 7, 399]), []
    points, area = rings.frequencies(), rings.area_weights()[:, None]
    expected = None
    for row in rows:
        stack = noisy.rings(rings, np.array([row]))
        shift = torch.from_numpy(simulated.poses.shifts_px[[row]]).float()
        values = (stack.filtered * rings.shift_phases(shift) * area).reshape(-1)
        weights = (stack.power[..., None] * area).expand_as(stack.filtered).reshape(-1)
        for operator in so3.symmetry_rotations(symmetry):
            rotation = simulated.poses.rotations[[row]] @ operator
            where = slice_frequencies(rotation, points[:, 0], points[:, 1]).reshape(-1, 3)
            one = SliceSums.of(where, values, weights, BOX)
            expected = one if expected is None else expected + one
    assert expected is not None
    monkeypatch.setattr(from_poses, "samples_at_once", lambda _: 2 * len(points) * 3)
    found = slice_sums(noisy, simulated.poses, rows, rings, symmetry, told.append)
    assert relative_error(found.data, expected.data) < 1e-4
    assert relative_error(found.kernel, expected.kernel) < 1e-4
    assert sum(told) == len(rows)


def test_samples_that_go_together_grow_with_the_grid_they_are_put_on() -> None:
    """Up to 64 px they are those that published tables were made with."""
    assert samples_at_once(32) == samples_at_once(64) == 2**22
    assert samples_at_once(256) == 2 * 256**3


def test_progress_counts_every_particle(simulated: SimulatedSet, noisy: NoisySet) -> None:
    told: list[tuple[str, int, int]] = []
    some = noisy.subset(np.arange(40))
    reconstruct_from_poses(
        some,
        simulated.poses.subset(np.arange(40)),
        assign_half_sets(40, 0),
        DIAMETER_PX,
        progress=lambda *step: told.append(step),
    )
    assert told[-1][1:] == (40, 40)
