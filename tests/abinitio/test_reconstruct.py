"""Maps from slices against dense least squares; weights, symmetry and CTFs against what they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.geometry.blobs import CENTRES, blob_volume, fourier_sum, inner, relative_error, seeded
from torch import Tensor

from clarice.abinitio.reconstruct import (
    SliceSums,
    agreed_radius,
    conjugate_gradient,
    halves_agreement,
    orientation_agreement,
    solve_map,
    spectral_prior,
    spherical_mean,
)
from clarice.abinitio.views import ViewGrid
from clarice.core.particles import Optics
from clarice.geometry import so3
from clarice.geometry.fourier import centred_fft3, radius_grid, resize_centred, shell_index, up_to_radius
from clarice.geometry.nufft import fourier_at, spread_from
from clarice.geometry.polar import FourierRings
from clarice.geometry.slices import project, slice_frequencies
from clarice.metrics.shells import fsc
from clarice.physics.ctf import ctf_at

SAMPLES = 300


def some_samples(box: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Frequencies (m, 3) inside the Nyquist ball, values (m,), weights (m,)."""
    generator = seeded(seed)
    q = torch.randn((SAMPLES, 3), generator=generator)
    q *= torch.rand((SAMPLES, 1), generator=generator) * 0.45 / q.norm(dim=1, keepdim=True)
    values = torch.randn(SAMPLES, generator=generator, dtype=torch.complex64)
    return q, values, torch.rand(SAMPLES, generator=generator)


def wave_matrix(frequencies: Tensor, box: int) -> Tensor:
    """Rows exp(−2πi q·x) over the voxels of a box: (m, box³), complex128."""
    return fourier_sum(torch.eye(box**3).view(-1, box, box, box), frequencies).T


def normal_matrix(frequencies: Tensor, weights: Tensor, box: int) -> Tensor:
    """Each sample and its Hermitian partner: 2 Re Aᴴ D A, (box³, box³) float64."""
    waves = wave_matrix(frequencies, box)
    return 2 * (waves.conj().T @ (weights[:, None] * waves)).real


def dense_map(box: int, prior_power: Tensor, support: Tensor, seed: int = 0) -> Tensor:
    """Least squares over maps S F⁻¹ τ w with a unit prior on w, by a dense solver."""
    q, values, weights = some_samples(box, seed)
    axis = (torch.arange(box) - box // 2) / box
    grid = torch.cartesian_prod(axis, axis, axis).flip(-1)
    dft = wave_matrix(grid, box)
    shells = shell_index(box, 3).flatten()
    tau = torch.where(shells <= box // 2, prior_power[shells.clamp(max=box // 2)], 0.0).double().sqrt()
    colour = support.double().flatten()[:, None] * (dft.conj().T @ (tau[:, None] * dft)).real / box**4.5
    right = 2 * (wave_matrix(q, box).conj().T @ values.to(torch.complex128)).real
    left = torch.eye(box**3) + colour.T @ normal_matrix(q, weights, box) @ colour
    return (colour @ torch.linalg.solve(left, colour.T @ right)).view(box, box, box).float()


@pytest.mark.parametrize("box", [7, 8])
@pytest.mark.parametrize("masked", [False, True])
def test_map_is_the_dense_least_squares_solution(box: int, masked: bool) -> None:
    q, values, weights = some_samples(box)
    prior = torch.tensor([300.0, 200.0, 100.0, 0.0, 50.0])[: box // 2 + 1]  # shell 3 stays empty
    support = ((4.0 - radius_grid(box, 3)) / 2).clamp(0, 1) if masked else torch.ones(box, box, box)
    sums = SliceSums.of(q, values, weights, box)
    found = solve_map(sums, prior, support if masked else None, iterations=200)
    expected = dense_map(box, prior, support)
    assert relative_error(found, expected) < 1e-3
    if not masked:
        empty = shell_index(box, 3) == 3
        assert float(centred_fft3(found)[empty].abs().max()) < 1e-4 * float(centred_fft3(found).abs().max())


def test_unregularised_map_solves_the_normal_equations() -> None:
    """With next to no prior the gradient of the data term vanishes: 2 Re Aᴴ (D A v − y) = 0."""
    box = 8
    volume = blob_volume(box, CENTRES / 3)
    rotations = so3.random_rotations(40, seeded(1))
    rings = FourierRings(box, (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5), 16)
    q = ViewGrid(rotations, rings, box).frequencies()
    values = fourier_at(volume, q)
    sums = SliceSums.of(q, values, torch.ones(len(q)), box)
    found = solve_map(sums, torch.full((5,), 1e6), iterations=100)
    assert relative_error(fourier_at(found, q), values) < 5e-3


def convolved(kernel: Tensor, volume: Tensor) -> Tensor:
    """Linear convolution with a kernel centred in the doubled box, cut back to the box."""
    box = volume.shape[-1]
    padded = torch.fft.rfftn(resize_centred(volume, 2 * box, 3))
    spectrum = torch.fft.rfftn(torch.fft.ifftshift(kernel))
    return resize_centred(torch.fft.irfftn(padded * spectrum, s=(2 * box,) * 3), box, 3)


@pytest.mark.parametrize("box", [8, 9])
def test_convolution_is_adjoint_after_forward(box: int) -> None:
    q, values, weights = some_samples(box)
    volume = torch.randn((box, box, box), generator=seeded(1))
    sums = SliceSums.of(q, values, weights, box)
    expected = 2 * spread_from(weights * fourier_at(volume, q), q, box).real
    assert relative_error(convolved(sums.kernel, volume), expected) < 1e-4
    dense = normal_matrix(q, weights, box) @ volume.double().flatten()
    assert relative_error(convolved(sums.kernel, volume).flatten(), dense) < 1e-4
    other = torch.randn((box, box, box), generator=seeded(2))
    assert inner(sums.data, other).real == pytest.approx(2 * inner(values, fourier_at(other, q)).real, rel=1e-4)


@pytest.mark.parametrize("box", [6, 7])
def test_shell_weight_is_the_diagonal_in_fourier_space(box: int) -> None:
    q, values, weights = some_samples(box)
    dense = normal_matrix(q, weights, box).to(torch.complex128)
    axis = (torch.arange(box) - box // 2) / box
    waves = wave_matrix(torch.cartesian_prod(axis, axis, axis).flip(-1), box)
    diagonal = ((waves @ dense) * waves.conj()).sum(dim=1).real / box**3
    shells = shell_index(box, 3).flatten()
    expected = torch.stack([diagonal[shells == shell].mean() for shell in range(box // 2 + 1)])
    found = SliceSums.of(q, values, weights, box).shell_weight()
    torch.testing.assert_close(found, expected.float(), rtol=1e-3, atol=1e-3)
    assert (found >= 0).all()


def test_sums_of_parts_add_up() -> None:
    q, values, weights = some_samples(8)
    whole = SliceSums.of(q, values, weights, 8)
    parts = SliceSums.of(q[:90], values[:90], weights[:90], 8) + SliceSums.of(q[90:], values[90:], weights[90:], 8)
    assert relative_error(parts.data, whole.data) < 1e-4
    assert relative_error(parts.kernel, whole.kernel) < 1e-4


def test_a_warm_start_ends_at_the_same_map_sooner() -> None:
    q, values, weights = some_samples(8)
    prior = torch.tensor([300.0, 200.0, 100.0, 80.0, 50.0])
    sums = SliceSums.of(q, values, weights, 8)
    done = solve_map(sums, prior, iterations=200)
    cold, warm = solve_map(sums, prior, iterations=3), solve_map(sums, prior, start=done, iterations=3)
    assert relative_error(warm, done) < 1e-3 < relative_error(cold, done)


def test_conjugate_gradient_against_a_dense_solver() -> None:
    matrix = torch.randn((20, 20), generator=seeded())
    matrix = matrix @ matrix.T + torch.eye(20)
    right = torch.randn(20, generator=seeded(1))
    expected = torch.linalg.solve(matrix, right)
    torch.testing.assert_close(conjugate_gradient(matrix.mv, right, None, 60), expected, rtol=1e-2, atol=1e-3)
    from_there = conjugate_gradient(matrix.mv, right, expected, 1)
    torch.testing.assert_close(from_there, expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(conjugate_gradient(matrix.mv, torch.zeros(20), None, 5), torch.zeros(20))


@pytest.mark.parametrize("box", [8, 9])
def test_spectral_prior_by_loops(box: int) -> None:
    volume = torch.randn((box, box, box), generator=seeded())
    power, shells = centred_fft3(volume).abs().square(), shell_index(box, 3)
    expected = torch.stack([power[shells == shell].mean() for shell in range(box // 2 + 1)])
    torch.testing.assert_close(spectral_prior(volume), expected)


def some_optics(count: int) -> Optics:
    def column(value: float) -> np.ndarray:
        return np.full(count, value)

    defocus = np.linspace(9_000, 24_000, count)
    return Optics(
        voltage_kv=column(300.0),
        spherical_aberration_mm=column(2.7),
        amplitude_contrast=column(0.1),
        defocus_u_angstrom=defocus,
        defocus_v_angstrom=defocus - 900,
        defocus_angle_deg=np.linspace(0, 150, count),
        phase_shift_deg=column(0.0),
        bfactor_angstrom2=column(0.0),
    )


def soft_sphere(box: int, radius: float) -> Tensor:
    return ((radius + 2 - radius_grid(box, 3)) / 2).clamp(0, 1)


@pytest.mark.parametrize("box", [24, 25])
@pytest.mark.parametrize("with_ctf", [False, True])
def test_clean_slices_give_the_map_back(box: int, with_ctf: bool) -> None:
    """200 views of blobs sharp enough to have power in every shell, each view under its own astigmatic CTF."""
    volume, pixel_size_angstrom = blob_volume(box, width=0.6), 4.0
    rotations = so3.random_rotations(200, seeded(2))
    rings = FourierRings.up_to(box, box / 2 - 1, 16.0)
    q = ViewGrid(rotations, rings, box).frequencies()
    images = project(volume, rotations)
    values = rings.sample(images)
    transfer = torch.ones(values.shape)
    if with_ctf:
        plane = rings.frequencies() / pixel_size_angstrom
        transfer = ctf_at(some_optics(200), plane[:, 0], plane[:, 1]).view(values.shape)
    area = rings.area_weights()[:, None]
    data, weights = area * transfer * (transfer * values), area * transfer.square()
    sums = SliceSums.of(q, data.flatten(), weights.flatten(), box)
    found = solve_map(sums, 1e3 * spectral_prior(volume), soft_sphere(box, 9.0), iterations=40)
    curve = fsc(found.numpy(), volume.numpy())
    assert curve[: len(rings.radii)].min() > 0.99
    assert relative_error(fourier_at(found, q), fourier_at(volume, q)) < 0.03


@pytest.mark.parametrize("symmetry", ["C3", "D2", "T"])
def test_symmetric_sums(symmetry: str) -> None:
    """A few views under a point group: one map from all copies, which the group leaves as it is."""
    box, group = 24, so3.symmetry_rotations(symmetry)
    centres = np.concatenate([CENTRES[:2] @ g.T for g in group])
    volume = blob_volume(box, centres, np.tile([1.0, 0.6], len(group)), width=0.8)
    rings = FourierRings.up_to(box, 10.0, 16.0)
    grid = ViewGrid(so3.random_rotations(40, seeded(3)), rings, box)
    references = grid.references(volume)
    sums = grid.sums(references, torch.ones(references.shape[:2]), group)
    found = solve_map(sums, 1e3 * spectral_prior(volume), soft_sphere(box, 9.0), iterations=40)
    views = ViewGrid(so3.random_rotations(1, seeded(4)) @ group, rings, box).references(found)
    assert all(relative_error(view, views[0]) < 0.02 for view in views[1:])
    one_by_one = [
        ViewGrid(grid.rotations @ g, rings, box).sums(references, torch.ones(references.shape[:2]), np.eye(3)[None])
        for g in group
    ]
    added = one_by_one[0]
    for part in one_by_one[1:]:
        added = added + part
    assert relative_error(sums.data, added.data) < 1e-4
    assert relative_error(sums.kernel, added.kernel) < 1e-4
    assert fsc(found.numpy(), volume.numpy())[:9].min() > 0.99


def test_slices_at_grid_rotations_are_where_slices_says() -> None:
    rings = FourierRings(24, (2.0, 5.0), 8)
    rotations = so3.random_rotations(3, seeded(5))
    plane = rings.frequencies()
    expected = slice_frequencies(rotations, plane[:, 0], plane[:, 1]).reshape(-1, 3)
    torch.testing.assert_close(ViewGrid(rotations, rings, 24).frequencies(), expected)
    torch.testing.assert_close(ViewGrid(rotations, rings, 16).frequencies(), expected * 1.5)


@pytest.mark.parametrize("box", [32, 33])
def test_spherical_mean_is_the_mean_over_rotations(box: int) -> None:
    """Round maps are their own mean; an odd map has none; what is left over has none."""
    radius = radius_grid(box, 3)
    smooth = torch.exp(-((radius - 6) ** 2) / 8)
    assert float((spherical_mean(smooth) - smooth).abs().max()) < 1e-2
    x = torch.arange(box) - box // 2.0
    assert float(spherical_mean(smooth * x).abs().max()) < 1e-3
    blobs = smooth * (1 + torch.sin(x) * torch.cos(x)[:, None])
    rest = blobs - spherical_mean(blobs)
    assert float(rest.square().mean()) > 0.1 * float(blobs.square().mean())
    assert float(spherical_mean(rest).square().mean()) < 1e-5 * float(blobs.square().mean())


def test_round_half_maps_agree_on_nothing_that_orientations_determine() -> None:
    """Unlike noise on like spheres: the maps agree, the part that orientations determine does not."""
    box = 32
    generator = torch.Generator().manual_seed(0)
    sphere = up_to_radius((radius_grid(box, 3) < 8).float(), 12, 3)
    halves = sphere + 0.05 * torch.randn((2, box, box, box), generator=generator)
    support = soft_sphere(box, 12.0)
    assert float(halves_agreement(halves, support, 0)[1:5].min()) > 0.9
    assert float(orientation_agreement(halves, support, 0)[1:5].mean()) < 0.3


def test_halves_agree_to_the_last_shell_before_their_first_dip() -> None:
    """A dip under two cycles per diameter, here shell 3, tells nothing."""
    curve = torch.full((33,), 0.9)
    curve[2], curve[9], curve[14] = 0.0, 0.3, 0.1
    assert agreed_radius(curve, 64, 45.0) == 13
    assert agreed_radius(curve, 64, 45.0, threshold=0.5) == 8
    assert agreed_radius(torch.full((33,), 0.9), 64, 45.0) == 32


@pytest.mark.parametrize("diameter_px", [0.5, 2.0, 7.0])
def test_halves_of_a_tiny_particle_do_not_agree_by_its_size(diameter_px: float) -> None:
    """Two cycles per diameter lie beyond the curve: what disagrees everywhere has not been agreed on up to there."""
    nothing = torch.zeros(33)
    assert agreed_radius(nothing, 64, diameter_px) < 16
