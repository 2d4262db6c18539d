"""The atoms' potential: against sums written out, against central slices, and its conventions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clarice.geometry.fourier import centred_fft2, centred_ifft2, frequency_grid, radius_grid
from clarice.geometry.slices import project
from clarice.geometry.so3 import euler_to_matrix, random_rotations
from clarice.physics.atoms import Atoms, form_factor
from clarice.physics.potential import (
    VOLT_ANGSTROM2,
    atoms_to_volume,
    project_atoms,
    resample_volume,
)


def make_atoms(count: int = 200, spread: float = 9.0, seed: int = 3) -> Atoms:
    rng = np.random.default_rng(seed)
    return Atoms.of(
        rng.normal(0, spread, (count, 3)),
        rng.choice([6, 7, 8, 16, 26], count),
        rng.uniform(5, 90, count),
        rng.uniform(0.5, 2, count),
    )


def rotations(count: int) -> np.ndarray:
    return random_rotations(count, torch.Generator().manual_seed(8))


def slow_projection(atoms: Atoms, rotation: np.ndarray, box: int, pixel_size: float) -> torch.Tensor:
    """Every atom's own form factor and phase at every frequency, summed in double precision."""
    fy, fx = (grid.double().numpy() / pixel_size for grid in frequency_grid(box))
    frequency = np.hypot(fx, fy)
    spectrum = np.zeros((box, box), dtype=complex)
    for position, number, b_factor, weight in zip(
        atoms.positions_angstrom @ rotation.T, atoms.atomic_number, atoms.b_factor, atoms.weight, strict=True
    ):
        factor = form_factor(int(number), frequency) * np.exp(-b_factor * frequency**2 / 4) * weight
        spectrum += factor * np.exp(-2j * np.pi * (fx * position[0] + fy * position[1]))
    spectrum[radius_grid(box).numpy() >= box / 2] = 0
    return centred_ifft2(torch.from_numpy(spectrum)).real * VOLT_ANGSTROM2 / pixel_size**3


@pytest.mark.parametrize("box", [32, 33])
def test_projection_is_the_sum_over_atoms(box: int) -> None:
    atoms, turns = make_atoms(), rotations(2)
    fast = project_atoms(atoms, turns, box, 2.0)
    for image, turn in zip(fast, turns, strict=True):
        slow = slow_projection(atoms, turn, box, 2.0)
        assert float((image - slow).norm() / slow.norm()) < 5e-4


@pytest.mark.parametrize("box", [40, 41])
def test_projection_agrees_with_central_slices_of_the_volume(box: int) -> None:
    # Broad atoms inside the box: nothing of the volume is cut off, so only the transforms' precision is left.
    atoms = make_atoms(spread=6.0)
    atoms = Atoms(atoms.positions_angstrom, atoms.atomic_number, atoms.b_factor + 250, atoms.weight)
    turns = rotations(5)
    direct = project_atoms(atoms, turns, box, 2.0)
    slices = project(atoms_to_volume(atoms, box, 2.0), turns)
    assert float((direct - slices).norm() / slices.norm()) < 2e-3
    through_volume = project_atoms(atoms, turns, box, 2.0, direct_limit=10)
    assert float((through_volume - slices).norm() / slices.norm()) < 1e-4


def test_sharp_atoms_agree_with_slices_shell_by_shell() -> None:
    atoms, turns, box = make_atoms(), rotations(4), 48
    a = centred_fft2(project_atoms(atoms, turns, box, 2.0))
    b = centred_fft2(project(atoms_to_volume(atoms, box, 2.0), turns))
    shell = radius_grid(box).round().long()
    for radius in range(1, 23):
        ring = shell == radius
        x, y = a[:, ring], b[:, ring]
        correlation = float((x * y.conj()).sum().real / (x.norm() * y.norm()))
        assert correlation > (0.99 if radius > 1 else 0.97), radius


@pytest.mark.parametrize("box", [32, 33])
def test_an_atom_lands_where_the_rotation_takes_it(box: int) -> None:
    atom = Atoms.of(np.array([[8.0, -4.0, 6.0]]), np.array([6]), np.array([400.0]))
    turn = euler_to_matrix(np.array([[30.0, 70.0, -50.0]]))
    x, y, _ = turn[0] @ atom.positions_angstrom[0]
    image = project_atoms(atom, turn, box, 2.0)[0].double()
    axis = torch.arange(box, dtype=torch.float64) - box // 2
    weight = image / image.sum()
    assert float((weight.sum(0) * axis).sum()) == pytest.approx(x / 2.0, abs=0.02)
    assert float((weight.sum(1) * axis).sum()) == pytest.approx(y / 2.0, abs=0.02)


@pytest.mark.parametrize("box", [24, 25])
def test_volume_axes_are_z_y_x_with_the_origin_at_half_the_box(box: int) -> None:
    atom = Atoms.of(np.array([[4.0, 8.0, -6.0]]), np.array([8]), np.array([60.0]))
    volume = atoms_to_volume(atom, box, 2.0)
    peak = np.unravel_index(int(volume.argmax()), volume.shape)
    assert tuple(int(index) - box // 2 for index in peak) == (-3, 4, 2)


def test_the_potential_integrates_to_the_scattering_factor() -> None:
    atoms = make_atoms(20)
    volume = atoms_to_volume(atoms, 32, 2.0)
    expected = VOLT_ANGSTROM2 * atoms.scattering_mass().sum()
    assert float(volume.double().sum()) * 2.0**3 == pytest.approx(expected, rel=1e-4)
    image = project_atoms(atoms, rotations(1), 32, 2.0)[0]
    assert float(image.double().sum()) * 2.0**3 == pytest.approx(expected, rel=1e-4)


def test_no_rotations_give_no_images() -> None:
    assert project_atoms(make_atoms(5), np.empty((0, 3, 3)), 16, 2.0).shape == (0, 16, 16)


@pytest.mark.parametrize(("old", "new", "pixel"), [(32, 32, 2.0), (32, 21, 3.0), (33, 40, 1.6), (32, 64, 2.0)])
def test_resampling_a_volume_gives_the_volume_of_that_grid(old: int, new: int, pixel: float) -> None:
    atoms = make_atoms(40, spread=5.0)
    atoms = Atoms(atoms.positions_angstrom, atoms.atomic_number, atoms.b_factor + 900, atoms.weight)
    resampled = resample_volume(atoms_to_volume(atoms, old, 2.0), 2.0, new, pixel)
    expected = atoms_to_volume(atoms, new, pixel)
    assert resampled.shape == (new,) * 3
    assert float((resampled - expected).norm() / expected.norm()) < 0.01
