"""Orientations by the likelihood of all rays: the table and the gain by plain loops, and views that come back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.abinitio.lines import true_lines
from tests.geometry.blobs import seeded
from torch import Tensor

from clarice.abinitio.common_lines import implied_angles, lines_near
from clarice.abinitio.line_scores import LineSettings, cell_scores
from clarice.abinitio.orientation_search import LineTable, _Laying, cell_at, search_orientations
from clarice.abinitio.rays import LineLikelihood, Rays
from clarice.geometry.so3 import random_rotations
from clarice.metrics.orientation import FloatArray, found_line_share, orientation_errors
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulationSettings, simulate

SETTINGS = LineSettings(0.7 * 32, coarse_radius_px=10)


@pytest.fixture(scope="module")
def projections() -> tuple[Tensor, FloatArray]:
    """40 clean projections of a molecule without symmetry, and their rotations."""
    settings = SimulationSettings(particles=40, box=32, seed=3, snr=1.0, ctf=False, noise="none", max_shift_px=0.0)
    made = simulate(make_molecule(1, mass_kda=150), settings)
    return torch.from_numpy(made.images), made.poses.rotations


def noisy(images: Tensor) -> Tensor:
    return images + 0.4 * images.std() * torch.randn(images.shape, generator=seeded(1))


def gain_of(table: LineTable, rotations: Tensor, symmetry: str = "C1") -> float:
    """The sum over all pairs of images laid like this."""
    return _Laying(table, rotations, symmetry, seeded(0)).gain(torch.arange(len(table)))


def test_cells_hold_the_best_of_their_rays(projections: tuple[Tensor, FloatArray]) -> None:
    """Against the likelihood ratio of all rays of a pair, one by one."""
    images = noisy(projections[0][:6])
    cells = SETTINGS.cells(32)
    rays = Rays.sampled(images, 10, 3 * cells)
    likelihood = LineLikelihood.of(rays, SETTINGS.snr_by_radius(10.0, 32)[:10])
    found = torch.zeros((6, 6, cells, 2 * cells))
    for scored in cell_scores(images, SETTINGS, 10.0):
        found[scored.first, scored.second] = scored.scores
    coefficients = rays.values @ likelihood.analysis
    for i, j in ((0, 1), (2, 5)):
        expected = torch.full((cells, 2 * cells), -math.inf)
        for a in range(3 * cells):
            for b in range(6 * cells):
                second = coefficients[j, b % (3 * cells)]
                second = second.conj() if b >= 3 * cells else second
                cross = ((coefficients[i, a] * second.conj()).real * likelihood.cross).sum()
                score = cross - likelihood.energy_of(coefficients[i, a]) - likelihood.energy_of(second)
                expected[a // 3, b // 3] = torch.maximum(expected[a // 3, b // 3], score)
        assert float((found[i, j] - expected).abs().max()) < 0.01 * float(expected.abs().max())  # bfloat16


def test_the_table_reads_the_same_from_either_image(projections: tuple[Tensor, FloatArray]) -> None:
    table = LineTable.of(noisy(projections[0][:8]), SETTINGS, 10.0)
    half, circle = table.circle // 2, table.circle
    gain = table.gain[..., :circle]
    torch.testing.assert_close(gain, table.gain[..., circle:])
    whole = torch.cat([gain, gain.roll(half, dims=3)], dim=2)  # opposite rays of both images are one line
    torch.testing.assert_close(whole, whole.permute(1, 0, 3, 2))
    assert (gain[range(8), range(8)] == 0).all()
    # log(1 − p + p ρ) with p = ½ and ρ of mean 1 over all cells.
    ratio = 2 * gain[1, 2].double().exp() - 1
    assert float(ratio.mean()) == pytest.approx(1, abs=0.01)


def test_the_gain_is_the_sum_over_implied_lines(projections: tuple[Tensor, FloatArray]) -> None:
    table = LineTable.of(noisy(projections[0][:8]), SETTINGS, 10.0)
    rotations = torch.from_numpy(random_rotations(8, seeded(2))).float()
    cell = cell_at(implied_angles(rotations), table.circle)
    half = table.circle // 2

    def gain(i: int, j: int) -> float:
        ours, other = int(cell[i, j]), int(cell[j, i])
        if other >= half:
            ours, other = ours - half, other - half
        return float(table.gain[i, j, other, ours % table.circle])

    expected = sum(gain(i, j) for i in range(8) for j in range(i))
    assert gain_of(table, rotations) == pytest.approx(expected, rel=1e-6)


def test_the_best_cell_of_clean_images_is_that_of_their_line(projections: tuple[Tensor, FloatArray]) -> None:
    """Half of the lines would fall into a neighbour if cells were read from their first ray on."""
    images, rotations = projections
    table = LineTable.of(images[:20], SETTINGS)
    half, circle = table.circle // 2, table.circle
    cell = cell_at(implied_angles(torch.from_numpy(rotations[:20])), circle)
    off = []
    for i, j in zip(*np.triu_indices(20, 1), strict=True):
        best = int(table.gain[i, j, :, :circle].flatten().argmax())
        ours, other = int(cell[i, j]), int(cell[j, i])
        if other >= half:
            ours, other = (ours - half) % circle, other - half
        ahead = ((best % circle - ours + half) % circle - half, best // circle - other)
        if max(map(abs, ahead)) <= 1:  # not another line altogether
            off.append(ahead)
    assert len(off) > 150
    assert np.abs(np.mean(off, axis=0)).max() < 0.08
    assert np.mean(np.abs(off)) < 0.2


def test_implied_lines_are_those_of_the_metric() -> None:
    rotations = random_rotations(9, seeded(3))
    assert found_line_share(implied_angles(torch.from_numpy(rotations)).numpy(), rotations, within_deg=0.01) == 1
    angle = true_lines(rotations).angle_rad
    assert found_line_share(angle.numpy(), rotations, within_deg=0.01) == 1


def test_views_come_back_from_random_starts(projections: tuple[Tensor, FloatArray]) -> None:
    images, rotations = projections
    table = LineTable.of(noisy(images), SETTINGS, 10.0)
    found = search_orientations(table, seed=1)
    assert np.median(orientation_errors(found.rotations.numpy(), rotations).angle_deg) < 12
    assert found.gain == pytest.approx(gain_of(table, found.rotations.float()))
    assert found.gain > 0.7 * gain_of(table, torch.from_numpy(rotations).float())
    again = search_orientations(table, seed=1)
    assert torch.equal(again.rotations, found.rotations)


@pytest.mark.parametrize("symmetry", ["C3", "D2"])
def test_a_point_group_is_made_use_of(symmetry: str) -> None:
    """Images share as many lines as it has members; views come back modulo the group, in its own axes."""
    settings = SimulationSettings(particles=40, box=32, seed=3, snr=1.0, ctf=False, noise="none", max_shift_px=0.0)
    made = simulate(make_molecule(3, mass_kda=150, symmetry=symmetry), settings)
    table = LineTable.of(noisy(torch.from_numpy(made.images)), SETTINGS, 10.0)
    found = search_orientations(table, symmetry=symmetry, seed=1)
    errors = orientation_errors(found.rotations.numpy(), made.poses.rotations, symmetry=symmetry)
    assert np.median(errors.angle_deg) < 12
    # The gauge takes the group's axes to themselves: a turn about z, or an exchange of the twofold axes.
    axes = np.abs(errors.gauge)
    assert axes[2, 2] > 0.97 if symmetry == "C3" else (axes.max(axis=0) > 0.97).all()
    assert found.gain == pytest.approx(gain_of(table, found.rotations.float(), symmetry))
    assert found.gain > 1.5 * gain_of(table, found.rotations.float())


def test_noise_gains_next_to_nothing(projections: tuple[Tensor, FloatArray]) -> None:
    """Of images without a structure the best orientations gain a small part of what those of a structure do."""
    images = projections[0]
    real = search_orientations(LineTable.of(noisy(images), SETTINGS, 10.0), starts=1)
    noise = images.std() * torch.randn(images.shape, generator=seeded(4))
    null = search_orientations(LineTable.of(noise, SETTINGS, 10.0), starts=1)
    assert null.gain < 0.5 * real.gain


def test_lines_near_views_are_the_best_near_them(projections: tuple[Tensor, FloatArray]) -> None:
    """Clean images and views a few degrees off: the lines found are right to a degree or two."""
    images, rotations = projections
    off = torch.from_numpy(rotations).clone()
    angle = np.deg2rad(4)
    turn = torch.tensor([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    off[::2] = turn @ off[::2]
    found = lines_near(images, off, SETTINGS)
    assert found_line_share(found.angle_rad.numpy(), rotations, within_deg=3) > 0.9
    assert found_line_share(implied_angles(off).numpy(), rotations, within_deg=3) < 0.5


def test_scores_of_equal_cells_tell_nothing() -> None:
    table = LineTable.of(torch.zeros((3, 16, 16)), LineSettings(10.0))
    assert float(table.gain.float().abs().max()) < 1e-3


def test_two_images_are_refused() -> None:
    with pytest.raises(ValueError, match="three or more"):
        search_orientations(LineTable(torch.zeros((2, 2, 4, 16))))
