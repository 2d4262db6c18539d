"""Fast projections against the exact ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clarice.geometry.fourier import resize_centred
from clarice.geometry.interpolated_slices import images_of, oversampled_spectrum, shifted, slice_spectra
from clarice.geometry.slices import project
from clarice.geometry.so3 import random_rotations
from clarice.physics.molecules import make_molecule
from clarice.physics.potential import atoms_to_volume

FILL = 0.65


def molecule_volume(box: int, seed: int) -> Tensor:
    atoms = make_molecule(seed, mass_kda=120)
    return atoms_to_volume(atoms, box, atoms.diameter_angstrom() / (FILL * box))


def rotations(count: int) -> Tensor:
    return torch.from_numpy(random_rotations(count, torch.Generator().manual_seed(3)))


def relative_error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("box", [40, 41])
def test_projections_are_the_exact_ones_within_one_and_a_half_percent(box: int) -> None:
    volume = molecule_volume(box, 1)
    turns = rotations(12)
    spectra = oversampled_spectrum(volume)[None]
    found = images_of(slice_spectra(spectra, torch.zeros(12), turns), box)
    assert relative_error(found, project(volume, turns)) < 0.015


@pytest.mark.parametrize("box", [40, 41])
def test_projections_at_twice_the_box_are_the_exact_ones(box: int) -> None:
    volume = molecule_volume(box, 1)
    turns = rotations(8)
    spectra = oversampled_spectrum(volume)[None]
    found = images_of(slice_spectra(spectra, torch.zeros(8), turns, 2 * box), 2 * box)
    assert relative_error(found, project(resize_centred(volume, 2 * box, 3), turns)) < 0.015


def test_the_error_is_smaller_for_smaller_molecules() -> None:
    """Linear interpolation in Fourier space is exact at the centre of the box."""
    turns = rotations(4)
    errors = []
    for fill in (0.3, 0.6):
        atoms = make_molecule(1, mass_kda=120)
        volume = atoms_to_volume(atoms, 40, atoms.diameter_angstrom() / (fill * 40))
        found = images_of(slice_spectra(oversampled_spectrum(volume)[None], torch.zeros(4), turns), 40)
        errors.append(relative_error(found, project(volume, turns)))
    assert errors[0] < errors[1] / 2


def test_each_row_is_read_from_its_own_volume() -> None:
    volumes = [molecule_volume(24, seed) for seed in (1, 2)]
    turns = rotations(6)
    spectra = torch.stack([oversampled_spectrum(volume) for volume in volumes])
    which = torch.tensor([0, 1, 1, 0, 1, 0])
    found = slice_spectra(spectra, which, turns)
    for row, number in enumerate(which.tolist()):
        alone = slice_spectra(spectra[number : number + 1], torch.zeros(1), turns[row : row + 1])
        assert torch.equal(found[row], alone[0])


def test_slices_of_a_point_are_plane_waves() -> None:
    """One voxel off the centre: its projection stands where the rotation takes it."""
    box = 32
    volume = torch.zeros((box,) * 3)
    volume[box // 2 + 3, box // 2 - 2, box // 2 + 5] = 1.0  # (x, y, z) = (5, −2, 3)
    turn = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])  # x_view = (2, 5, 3)
    image = images_of(slice_spectra(oversampled_spectrum(volume)[None], torch.zeros(1), turn), box)[0]
    assert divmod(int(image.argmax()), box) == (box // 2 + 5, box // 2 + 2)


@pytest.mark.parametrize("box", [24, 25])
def test_a_shift_moves_content_against_its_sign(box: int) -> None:
    spectra = slice_spectra(oversampled_spectrum(molecule_volume(box, 1))[None], torch.zeros(1), rotations(1))
    still = images_of(spectra, box)
    moved = images_of(shifted(spectra, torch.tensor([[2.0, -3.0]]), box), box)
    assert torch.allclose(moved, still.roll((3, -2), dims=(1, 2)), atol=1e-4 * float(still.max()))


def test_other_boxes_are_refused() -> None:
    with pytest.raises(ValueError, match="24 or 48"):
        slice_spectra(torch.zeros((1, 49, 49, 25, 2)), torch.zeros(1), torch.eye(3)[None], 32)
