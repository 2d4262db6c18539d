"""The electrostatic potential of atoms, as a volume or straight as projections.

Every atom scatters electrons with the form factor of its element (International Tables C, 4.3.2.2) damped
by its B-factor. The Fourier transform of the potential is a sum over atoms, so a volume and a projection are
one non-uniform Fourier transform each: exact, and band-limited to the Nyquist sphere.
"""

from __future__ import annotations

from collections.abc import Callable

import finufft
import numpy as np
import torch
from torch import Tensor

from clarice.core.progress import Progress, silent
from clarice.geometry.fourier import centred_ifft2, centred_ifft3, radius_grid
from clarice.geometry.nufft import spread_from
from clarice.geometry.slices import project
from clarice.physics.atoms import Atoms, FloatArray, form_factor

# h² / (2π m_e e): turns a scattering factor (Å) into the integral of a potential (V·Å³).
VOLT_ANGSTROM2 = 47.87801
# Above this many atoms one volume and its central slices are cheaper than a transform of all atoms an image.
DIRECT_LIMIT = 100_000
# Largest relative residual of the common form-factor basis.
BASIS_TOLERANCE = 1e-4


def _basis(atoms: Atoms, nyquist_per_angstrom: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Radial functions (r, k), their frequencies (k,), and coefficients (r, n): the atoms' form factors.

    Elements and B-factors give families of smooth curves that a few functions span (singular value
    decomposition), so r transforms do what one transform for each kind of atom would.
    """
    frequencies = np.linspace(0, nyquist_per_angstrom, 256)
    kinds, inverse = np.unique(
        np.stack([atoms.atomic_number.astype(np.float64), np.round(atoms.b_factor, 1)], axis=1),
        axis=0,
        return_inverse=True,
    )
    elements, element_of = np.unique(kinds[:, 0], return_inverse=True)
    bare = np.stack([form_factor(int(number), frequencies) for number in elements])
    curves = bare[element_of] * np.exp(-kinds[:, 1:] * frequencies**2 / 4)
    left, strength, functions = np.linalg.svd(curves, full_matrices=False)
    residual = np.sqrt(np.cumsum(strength[::-1] ** 2)[::-1])
    rank = max(1, int(np.sum(residual > BASIS_TOLERANCE * residual[0])))
    coefficients = (left[:, :rank] * strength[:rank])[inverse.reshape(-1)].T * atoms.weight
    return functions[:rank], frequencies, coefficients


def _filters(functions: FloatArray, frequencies: FloatArray, box: int, pixel_size: float, ndim: int) -> Tensor:
    """Radial functions on the centred Fourier grid, V, zero outside the Nyquist sphere: (r, L, …)."""
    radius = radius_grid(box, ndim)
    at = radius.double().numpy() / (box * pixel_size)
    values = np.stack([np.interp(at, frequencies, function) for function in functions])
    values *= VOLT_ANGSTROM2 / pixel_size**3
    return torch.from_numpy(values.astype(np.float32)) * (radius < box / 2)


def atoms_to_volume(atoms: Atoms, box: int, pixel_size_angstrom: float) -> Tensor:
    """Electrostatic potential in volts, (box, box, box) float32, axes (z, y, x), origin at index box // 2.

    Atoms beyond the box come back in on its other side.
    """
    functions, frequencies, coefficients = _basis(atoms, 0.5 / pixel_size_angstrom)
    filters = _filters(functions, frequencies, box, pixel_size_angstrom, 3)
    points = torch.from_numpy(-_wrapped(atoms.positions_angstrom / (box * pixel_size_angstrom)))
    spectrum = torch.zeros((box,) * 3, dtype=torch.complex64)
    for coefficient, radial in zip(coefficients, filters, strict=True):
        values = torch.from_numpy(coefficient.astype(np.complex64))
        spectrum += spread_from(values, points, box) * radial
    return centred_ifft3(spectrum).real.float()


def atom_projector(
    atoms: Atoms, box: int, pixel_size_angstrom: float, direct_limit: int = DIRECT_LIMIT
) -> Callable[[FloatArray], Tensor]:
    """A function from rotations (n, 3, 3) to projections (n, box, box) float32 of the atoms' potential.

    Equal to `geometry.slices.project` of `atoms_to_volume` at the same box (the sum of its voxels along
    z_view), and made that way for structures of more than `direct_limit` atoms.
    """
    if len(atoms) > direct_limit:
        return volume_projector(atoms_to_volume(atoms, box, pixel_size_angstrom))
    functions, frequencies, coefficients = _basis(atoms, 0.5 / pixel_size_angstrom)
    filters = _filters(functions, frequencies, box, pixel_size_angstrom, 2)
    strengths = np.ascontiguousarray(coefficients, dtype=np.complex64)
    positions = atoms.positions_angstrom / (box * pixel_size_angstrom)
    # One plan for all images, one thread, and the small oversampling: seven times faster than the defaults.
    plan = finufft.Plan(1, (box, box), len(strengths), 3e-5, isign=-1, dtype="complex64", upsampfac=1.25, nthreads=1)

    def one(rotation: FloatArray) -> Tensor:
        x, y = 2 * np.pi * _wrapped(rotation[:2] @ positions.T).astype(np.float32)
        plan.setpts(y, x)
        return (torch.from_numpy(plan.execute(strengths)).reshape(filters.shape) * filters).sum(dim=0)

    def projections(rotations: FloatArray) -> Tensor:
        matrices = np.asarray(rotations, dtype=np.float64).reshape(-1, 3, 3)
        if len(matrices) == 0:
            return torch.empty((0, box, box))
        return centred_ifft2(torch.stack([one(matrix) for matrix in matrices])).real.contiguous()

    return projections


def volume_projector(volume: Tensor) -> Callable[[FloatArray], Tensor]:
    """A function from rotations (n, 3, 3) to central-slice projections (n, L, L) of a volume (L, L, L)."""
    return lambda rotations: project(volume, rotations).float()


def project_atoms(
    atoms: Atoms,
    rotations: FloatArray,
    box: int,
    pixel_size_angstrom: float,
    *,
    direct_limit: int = DIRECT_LIMIT,
    progress: Progress = silent,
) -> Tensor:
    """Projections (n, box, box) float32 of the potential for rotations (n, 3, 3); see `atom_projector`."""
    projector = atom_projector(atoms, box, pixel_size_angstrom, direct_limit)
    batch = max(1, 4_000_000 // box**2)
    images = torch.empty((len(rotations), box, box))
    for start in range(0, len(rotations), batch):
        part = projector(rotations[start : start + batch])
        images[start : start + len(part)] = part
        progress("projections", start + len(part), len(rotations))
    return images


def _wrapped(positions: FloatArray) -> FloatArray:
    """Positions in units of the box, folded into [−½, ½): the transforms are periodic."""
    return np.asarray(positions - np.floor(positions + 0.5))


def resample_volume(volume: Tensor, pixel_size_angstrom: float, box: int, new_pixel_angstrom: float) -> Tensor:
    """A volume (L, L, L) on a grid of another edge and pixel size: (box, box, box), grey values kept.

    Trigonometric interpolation, low-passed to the coarser Nyquist; zero where the old box does not reach.
    """
    old = volume.shape[-1]
    at = (torch.arange(box, dtype=torch.float64) - box // 2) * new_pixel_angstrom / pixel_size_angstrom
    distance = at[:, None] - (torch.arange(old, dtype=torch.float64) - old // 2)
    limit = min(1.0, pixel_size_angstrom / new_pixel_angstrom) / 2
    orders = torch.arange(1, (old + 1) // 2, dtype=torch.float64)
    orders = orders[orders / old < limit]
    waves = torch.cos(2 * torch.pi * distance[..., None] * orders / old).sum(dim=-1)
    matrix = (1 + 2 * waves) / old  # (box, old)
    if old % 2 == 0 and limit >= 0.5:  # the Nyquist wave of an even box stands once
        matrix = matrix + torch.cos(torch.pi * distance) / old
    matrix[(at < -(old // 2) - 0.5) | (at > old - old // 2 - 0.5)] = 0
    matrix = matrix.to(volume.dtype)
    # The volume first: einsum works from the left, and the matrices alone make a huge product.
    return torch.einsum("ijk,ai,bj,ck->abc", volume, matrix, matrix, matrix)
