"""Moments against plain loops, sums over shards, their noise, and Kam's relation against the structure itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.geometry.blobs import seeded
from torch import Tensor

from clarice.abinitio import kam
from clarice.abinitio.moments import MomentRings, Moments, moments_of_particles
from clarice.geometry import harmonics, so3
from clarice.geometry.harmonics import BallBasis
from clarice.geometry.polar import FourierRings
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import white_set
from clarice.physics.simulate import SimulationSettings, simulate

RINGS = MomentRings(24, (1.0, 2.0, 3.0), 5, third_rings=2, third_orders=3)


def images_of_noise(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 24, 24, generator=seeded(seed))


def transfer_of(count: int) -> Tensor:
    return 0.3 + torch.rand(count, 3, generator=seeded(5))


def test_series_are_those_of_exact_rings() -> None:
    images = images_of_noise(3)
    ring = FourierRings(24, RINGS.radii, 64).sample(images)
    circle = torch.cat([ring, ring.conj()], dim=-1)
    expected = (torch.fft.fft(circle) / 64)[..., :6].transpose(1, 2)
    torch.testing.assert_close(RINGS.series(images), expected, atol=2e-4, rtol=1e-4)


def test_sums_are_those_of_a_loop_over_particles() -> None:
    images, transfer = images_of_noise(4), transfer_of(4)
    found = Moments.of(images, transfer, RINGS)
    second, third = torch.zeros_like(found.second), torch.zeros_like(found.third)
    for series, h in zip(RINGS.series(images).to(torch.complex128), transfer.double(), strict=True):
        a = series * h
        for m in range(6):
            second[m] += torch.outer(a[m], a[m].conj())
        for index, (m, n) in enumerate(RINGS.pairs):
            for i, j, k in np.ndindex(2, 2, 2):
                third[index, i, j, k] += a[m, i] * a[n, j] * a[m + n, k].conj()
    torch.testing.assert_close(found.second, second)
    torch.testing.assert_close(found.third, third)
    assert RINGS.pairs == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]


def test_moments_of_shards_add_up_to_those_of_the_whole() -> None:
    images, transfer = images_of_noise(30), transfer_of(30)
    whole = Moments.of(images, transfer, RINGS)
    parts = [Moments.of(images[part], transfer[part], RINGS) for part in (slice(7), slice(7, 19), slice(19, 30))]
    merged = parts[0] + parts[1] + parts[2]
    for name in ("first_moment", "second_moment", "second_error", "third_moment", "third_error"):
        torch.testing.assert_close(getattr(merged, name)(), getattr(whole, name)(), rtol=1e-4, atol=1e-4)
    assert merged.count == 30


def test_moments_of_other_rings_do_not_add_up() -> None:
    one = Moments.of(images_of_noise(2), transfer_of(2), RINGS)
    other = Moments.of(images_of_noise(2), transfer_of(2)[:, :2], MomentRings(24, (1.0, 2.0), 5))
    with pytest.raises(ValueError, match="do not add up"):
        _ = one + other


def test_moved_particles_have_the_moments_of_centred_ones() -> None:
    """Particles whose places are known, and the same ones in the middle of their images."""
    molecule = make_molecule(3, mass_kda=150)
    settings = SimulationSettings(12, 24, seed=2, snr=1e6, max_shift_px=3.0, ctf=False)
    made = simulate(molecule, settings)
    centred = simulate(molecule, settings, poses=replace(made.poses, shifts_px=np.zeros((12, 2))))
    # A shift is subtracted from a position: what is shown lies opposite to it.
    found = moments_of_particles(white_set(made.particles), RINGS, centres_px=torch.from_numpy(-made.poses.shifts_px))
    expected = moments_of_particles(white_set(centred.particles), RINGS)
    unmoved = moments_of_particles(white_set(made.particles), RINGS)
    scale = expected.second.abs().max()
    torch.testing.assert_close(found.second / scale, expected.second / scale, rtol=0, atol=2e-3)
    assert (unmoved.second - expected.second).abs().max() > 0.05 * scale


def test_noise_leaves_nothing_but_its_error() -> None:
    """One image in noise, again and again: its own moments are found, within the errors told of."""
    image = images_of_noise(1, seed=9) * 2
    exact = Moments.of(image, torch.ones(1, 3), RINGS)
    second, third = [], []
    for seed in range(12):
        found = Moments.of(image + images_of_noise(4000, seed=100 + seed), torch.ones(4000, 3), RINGS)
        error = torch.view_as_real(found.second_error()).clamp_min(1e-9)
        second.append(torch.view_as_real(found.second_moment() - exact.second) / error)
        third.append(((found.third_moment() - exact.third) / found.third_error()).abs())
    off_diagonal = ~torch.eye(3, dtype=torch.bool)
    assert 0.8 < float(torch.stack(second)[:, :, off_diagonal].square().mean().sqrt()) < 1.2
    assert float(torch.stack(second)[..., 0].abs().max()) < 5
    assert 0.8 < float(torch.stack(third).square().mean().sqrt()) < 1.2


def test_noise_of_a_filtered_image_is_subtracted_as_it_is_filtered() -> None:
    """Noise alone, images multiplied by H: what is left of the second moment is 0."""
    found = Moments.of(images_of_noise(20000), transfer_of(20000), RINGS)
    z = found.second_moment().real / found.second_error().real
    assert float(z.square().mean().sqrt()) < 1.3


def test_images_that_differ_in_their_ctf_alone_have_no_error() -> None:
    """One image without noise, with H² = 1 and H² = 0.25: what H does to it is no spread of the signal."""
    transfer = torch.tensor([1.0, 0.5]).repeat(10)[:, None].expand(20, 3)
    image = images_of_noise(1, seed=9)
    found = Moments.of(image * transfer[:, :1, None], transfer, RINGS, noise_variance=0.0)
    exact = Moments.of(image, torch.ones(1, 3), RINGS, noise_variance=0.0)
    assert float((found.second_moment() - exact.second).abs().max()) < 1e-4 * float(exact.second.abs().max())
    for error, moment in (
        (found.first_error(), exact.first),
        (found.second_error().abs(), exact.second),
        (found.third_error(), exact.third),
    ):
        assert float(error.max()) < 1e-4 * float(moment.abs().max())


def test_errors_foretold_are_those_of_images_with_different_ctfs() -> None:
    """One image, filtered and in noise, again and again: the moments err by as much as they say."""
    transfer = torch.tensor([1.0, 0.5, 0.2, -0.7]).repeat(500)[:, None].expand(2000, 3)
    image = 3 * images_of_noise(1, seed=9)
    exact = Moments.of(image, torch.ones(1, 3), RINGS, noise_variance=0.0)
    first, second, third = [], [], []
    for seed in range(20):
        images = image * transfer[:, :1, None] + images_of_noise(2000, seed=100 + seed)
        found = Moments.of(images, transfer, RINGS)
        error = torch.view_as_real(found.second_error()).clamp_min(1e-9)
        first.append((found.first_moment() - exact.first) / found.first_error())
        second.append(torch.view_as_real(found.second_moment() - exact.second) / error)
        third.append((found.third_moment() - exact.third).abs() / found.third_error())
    off_diagonal = ~torch.eye(3, dtype=torch.bool)
    assert 0.8 < float(torch.stack(first).square().mean().sqrt()) < 1.2
    assert 0.9 < float(torch.stack(second)[:, 1:, off_diagonal].square().mean().sqrt()) < 1.1
    assert 0.85 < float(torch.stack(third).square().mean().sqrt()) < 1.15


def test_moments_do_not_change_when_images_turn() -> None:
    images = images_of_noise(5)
    # A turn by 90° about the centre pixel: of an odd part of the even box, whose first row and column stay empty.
    images[:, 0], images[:, :, 0] = 0, 0
    turned = images.clone()
    turned[:, 1:, 1:] = torch.rot90(images[:, 1:, 1:], 1, (1, 2))
    one, other = (Moments.of(each, torch.ones(5, 3), RINGS) for each in (images, turned))
    torch.testing.assert_close(one.second, other.second, atol=2e-2, rtol=1e-4)
    torch.testing.assert_close(one.third, other.third, atol=2e-1, rtol=1e-4)
    torch.testing.assert_close(one.first, other.first, atol=1e-3, rtol=1e-4)


def test_gradients_flow_to_the_images() -> None:
    images = images_of_noise(3).double().requires_grad_()
    rings = RINGS

    def loss(values: Tensor) -> Tensor:
        found = Moments.of(values.float(), torch.ones(3, 3), rings)
        return found.second_moment().abs().square().sum() + found.third_moment().abs().sum()

    value = loss(images)
    (gradient,) = torch.autograd.grad(value, images)
    direction = gradient / gradient.norm()
    step = 1e-2
    with torch.no_grad():
        slope = (loss(images + step * direction) - loss(images - step * direction)) / (2 * step)
    assert float(slope) == pytest.approx(float(gradient.norm()), rel=2e-2)


def test_coupling_is_an_average_over_rotations() -> None:
    """c_lm of Kam's relation by Monte Carlo over SO(3)."""
    degree, orders = 4, 4
    series = harmonics.slice_series(so3.random_rotations(4000, seeded()), degree, orders)
    coefficients = torch.randn(25, 1, generator=seeded(2), dtype=torch.float64)
    power = (series @ coefficients.to(series.dtype)).abs().square().mean(dim=0)[:, 0]
    expected = kam.second_moment_of(kam.autocorrelations_of(coefficients), orders)[:, 0, 0]
    np.testing.assert_allclose(power.numpy(), expected.numpy(), rtol=0.1)


def test_autocorrelations_from_exact_moments_are_the_structures() -> None:
    ball = BallBasis(32, 9.0, 5.0)
    coefficients = torch.randn(ball.size, generator=seeded(), dtype=torch.float64)
    radii = (1.0, 2.0, 3.0, 4.0)
    spheres = ball.on_spheres(coefficients, ball.transforms(radii))
    truth = kam.autocorrelations_of(spheres)
    second = kam.second_moment_of(truth, 12)
    weights = kam.coupling(ball.degree, 12)
    back = torch.einsum("lm,mab->lab", torch.linalg.pinv(weights), second)
    torch.testing.assert_close(back, truth, rtol=1e-6, atol=1e-8)
    for found, part in zip(kam.Autocorrelations(truth, truth).factors(), harmonics.degrees_of(spheres, 0), strict=True):
        torch.testing.assert_close(found @ found.T, part.T @ part, rtol=1e-6, atol=1e-8)


def test_autocorrelations_need_no_errors() -> None:
    """As many orders as degrees determine C_l whatever they weigh: here all that differs is rounding."""
    images = images_of_noise(1, seed=4).expand(3, -1, -1)
    moments = Moments.of(images, torch.ones(3, 3), RINGS, noise_variance=0.0)
    second, found = moments.second_moment().real, kam.autocorrelations(moments, 6.0)
    seen = kam.degrees_seen(torch.tensor(RINGS.radii), 6.0, RINGS.box)
    for a, b in np.ndindex(3, 3):
        known = int(min(seen[a], seen[b])) + 1
        expected = torch.linalg.solve(kam.coupling(known - 1, known - 1), second[:known, a, b])
        torch.testing.assert_close(found.values[:known, a, b], expected)
        assert (found.values[known:, a, b] == 0).all()


@pytest.mark.parametrize("ctf", [pytest.param(False, marks=pytest.mark.slow), True])
def test_autocorrelations_of_noisy_projections_agree_within_their_errors(ctf: bool) -> None:
    """Kam's C_l from 10,000 projections: root mean square of (found − true) / foretold error is 1.

    The molecule is large, so that the CTF carries none of it out of the box.
    """
    settings = SimulationSettings(10000, 32, seed=3, snr=0.2, max_shift_px=0.0, ctf=ctf)
    made = simulate(make_molecule(11, mass_kda=900), settings)
    rings = MomentRings(32, tuple(float(k) for k in range(1, 9)), 14)
    found = kam.autocorrelations(moments_of_particles(white_set(made.particles), rings), 0.65 * 32)
    degree = len(found.values) - 1
    truth = harmonics.sphere_coefficients(torch.from_numpy(made.volume), rings.radii, degree)
    known = found.errors > 0
    z = ((found.values - kam.autocorrelations_of(truth)) / found.errors)[known]
    assert 0.8 < float(z.square().mean().sqrt()) < 1.25
    signal = (kam.autocorrelations_of(truth) / found.errors)[known].abs()
    assert int((signal > 5).sum()) > 50  # there is something to agree with
