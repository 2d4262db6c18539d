"""Moments of a model against those of its slices, and structures found from moments alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.geometry.blobs import seeded
from torch import Tensor

from clarice.abinitio import moment_fit
from clarice.abinitio.moment_fit import FitSettings, fit_moments, prior_spread
from clarice.abinitio.moment_model import MomentModel, MomentSet, MomentTargets, second_shares, third_shares
from clarice.abinitio.moments import MomentRings, Moments
from clarice.geometry import so3
from clarice.geometry.harmonics import BallBasis, degree_of_each, real_harmonics
from clarice.geometry.slices import project
from clarice.metrics.registration import register
from clarice.metrics.shells import fsc

BOX = 24
RINGS = MomentRings(BOX, (1.0, 2.0, 3.0), 8, third_rings=3, third_orders=5)


@pytest.fixture(scope="module")
def model() -> MomentModel:
    return MomentModel(BallBasis(BOX, 8.0, 3.0 + moment_fit.BEYOND_RINGS), RINGS, 3)


@pytest.fixture(scope="module")
def truth(model: MomentModel) -> tuple[Tensor, Tensor]:
    """Coefficients that fall off with frequency, and a density of views far from uniform."""
    frequency = model.ball.frequencies()
    x = torch.randn(model.ball.size, generator=seeded(3), dtype=torch.float64) * torch.exp(-((frequency / 2.5) ** 2))
    return x, 0.7 * torch.randn(model.density_size, generator=seeded(4), dtype=torch.float64)


def drawn_views(model: MomentModel, c: Tensor, count: int) -> np.ndarray:
    """Rotations with views from the density of c and in-plane angles from anywhere, by rejection."""
    rotations = so3.random_rotations(count, seeded(5))
    logarithm = real_harmonics(so3.view_directions(rotations), model.density_degree)[:, 1:] @ c.numpy()
    kept = np.log(np.random.default_rng(0).uniform(size=count)) < logarithm - logarithm.max()
    return rotations[kept]


def test_density_sums_to_one_and_follows_its_harmonics(model: MomentModel, truth: tuple[Tensor, Tensor]) -> None:
    here, opposite = model.density(truth[1])
    assert float((here + opposite).sum()) == pytest.approx(1)
    uniform = model.density(torch.zeros_like(truth[1]))
    assert float((uniform[0] - uniform[1]).abs().max()) < 1e-12
    assert float((here / uniform[0]).max()) > 1.5


def test_moments_of_the_model_are_those_of_its_projections(model: MomentModel, truth: tuple[Tensor, Tensor]) -> None:
    """Monte Carlo: projections of the volume, views drawn from the density."""
    x, c = truth
    rotations = drawn_views(model, c, 60_000)
    volume = model.ball.to_volume(x)
    total: Moments | None = None
    for part in np.array_split(rotations, 10):
        images = project(volume, part)
        each = Moments.of(images, torch.ones(len(part), 3), RINGS)
        total = each if total is None else total + each
    assert total is not None
    predicted = model.predict(x, c)
    assert predicted.third is not None
    second, third = total.second / total.count, total.third / total.count  # free of noise
    power = second.real.diagonal(dim1=1, dim2=2)
    scale = (power + power.mean(dim=0)).sqrt()  # an order that a ring hardly sees is compared with those it sees
    bound = scale[:, :, None] * scale[:, None, :]
    assert float(((predicted.second - second).abs() / bound).max()) < 0.02
    assert float((predicted.first - total.first_moment()).abs().max() / scale[0].max()) < 0.03
    triples = torch.stack([torch.einsum("a,b,c->abc", scale[m], scale[n], scale[m + n]) for m, n in RINGS.pairs])
    assert float(((predicted.third - third).abs() / triples).max()) < 0.05
    assert float((predicted.second.imag.abs() / bound).max()) > 0.04  # the density tells one side from the other


def test_the_other_hand_has_the_same_moments_with_its_density_mirrored(
    model: MomentModel, truth: tuple[Tensor, Tensor]
) -> None:
    """The structure at −r looks, from a direction d, as it did itself, but for half a turn of the image.

    So with views from the same directions its moments are the same; mirrored in a plane, which is that and half a turn
    about z, it has them with the density turned as well.
    """
    x, c = truth
    inverted = torch.cat([(-1.0) ** degree * part.flatten() for degree, part in enumerate(model.ball.split(x))])
    before, after = model.predict(x, c), model.predict(inverted, c)
    assert before.third is not None
    assert after.third is not None
    assert torch.allclose(after.second, before.second, atol=1e-10 * float(before.second.abs().max()))
    assert torch.allclose(after.third, before.third, atol=1e-10 * float(before.third.abs().max()))
    opposite = c * torch.from_numpy((-1.0) ** degree_of_each(model.density_degree)[1:])
    assert not torch.allclose(model.predict(inverted, opposite).second, before.second, rtol=1e-2)
    volume = model.ball.to_volume(x)
    in_a_plane = model.ball.of_volume(torch.roll(volume.flip(0), 1, 0))  # z to −z, in an even box
    directions = so3.view_directions(so3.random_rotations(200, seeded(8)))
    half_turn = directions * np.array([-1.0, -1.0, 1.0])
    basis = real_harmonics(directions, model.density_degree)[:, 1:]
    turned = np.linalg.lstsq(basis, real_harmonics(half_turn, model.density_degree)[:, 1:] @ c.numpy(), rcond=None)[0]
    found = model.predict(in_a_plane, torch.from_numpy(turned))
    assert torch.allclose(found.second, before.second, atol=0.02 * float(before.second.abs().max()))
    assert not torch.allclose(
        model.predict(in_a_plane, c).second, before.second, atol=0.05 * float(before.second.abs().max())
    )


def test_views_from_everywhere_give_real_second_moments(model: MomentModel, truth: tuple[Tensor, Tensor]) -> None:
    found = model.predict(truth[0], torch.zeros_like(truth[1]))
    assert float(found.second.imag.abs().max() / found.second.real.max()) < 1e-12


def test_gradient_of_the_misfit(model: MomentModel, truth: tuple[Tensor, Tensor]) -> None:
    targets = MomentTargets.met_within(RINGS, model.predict(*truth), 0.05)
    start = torch.cat([truth[0] * 1.1, truth[1] * 0.9]).requires_grad_()
    split = [model.ball.size, model.density_size]
    assert torch.autograd.gradcheck(
        lambda values: targets.misfit(model.predict(*values.split(split))), (start,), fast_mode=True, rtol=1e-4
    )


def test_misfit_of_moments_with_their_own_noise_is_the_number_of_elements(model: MomentModel) -> None:
    """What is weighed by the inverse of its variance, and counted once, has an expectation of 1."""
    second = torch.ones(9, 3, 3, dtype=torch.complex128)
    third = torch.ones(len(RINGS.pairs), 3, 3, 3, dtype=torch.complex128)
    zero = MomentSet(torch.zeros(3, dtype=torch.float64), second, third)
    error = torch.ones(9, 3, 3, 2, dtype=torch.float64)
    targets = MomentTargets.met_within(RINGS, zero, 0.0, 1.0, error, 1.0)
    off = MomentSet(zero.first + 1, second + 1 + 1j, third + 1)
    # The first; the second of order 0, which is real, and of the others; the third of (0, 0), (m, 0), (m, m), (m, n).
    expected = 3 + 6 + 8 * 9 + 10 + 5 * 18 + 2 * 18 + 4 * 27
    assert float(targets.misfit(off)) == pytest.approx(expected)
    assert targets.elements == expected
    without = MomentTargets.met_within(RINGS, MomentSet(zero.first, second, None), 0.0, 1.0, error)
    assert without.elements == 3 + 6 + 8 * 9


def test_shares_are_those_of_numbers_that_stand_in_several_places() -> None:
    """Counted in the moments of one image, where what is not the same by symmetry differs."""
    found = Moments.of(torch.randn(1, BOX, BOX, generator=seeded(6)), torch.ones(1, 3), RINGS, noise_variance=0.0)
    for share, values in zip(third_shares(RINGS), found.third, strict=True):
        rounded = torch.view_as_real(values).abs().mul(1e6).round().flatten(0, 2)
        _, place, count = torch.unique(rounded, dim=0, return_inverse=True, return_counts=True)
        torch.testing.assert_close(share.flatten(), 1 / count[place].double())
    for share, values in zip(second_shares(RINGS), found.second, strict=True):
        parts = torch.view_as_real(values).abs()
        rounded = parts.mul(1e6).round().flatten()
        _, place, count = torch.unique(rounded, return_inverse=True, return_counts=True)
        expected = torch.where(rounded == 0, 0.0, 1 / count[place].double())
        torch.testing.assert_close(share.flatten(), expected)


def test_prior_spread_gives_the_power_that_was_measured(model: MomentModel, truth: tuple[Tensor, Tensor]) -> None:
    targets = MomentTargets.met_within(RINGS, model.predict(*truth), 0.05)
    spread = prior_spread(targets, model.ball)
    drawn = [spread * torch.randn(len(spread), generator=seeded(seed), dtype=torch.float64) for seed in range(20)]
    uniform = torch.zeros(model.density_size, dtype=torch.float64)
    power = torch.stack([_ring_power(model.predict(x, uniform, third=False)) for x in drawn]).mean(dim=0)
    np.testing.assert_allclose(power.sum(), _ring_power(targets.moments).sum(), rtol=0.4)


def _ring_power(moments: MomentSet) -> Tensor:
    diagonal = moments.second.real.diagonal(dim1=1, dim2=2)
    return diagonal[0] + 2 * diagonal[1:].sum(dim=0)


def test_structure_is_found_from_exact_moments(model: MomentModel, truth: tuple[Tensor, Tensor]) -> None:
    targets = MomentTargets.met_within(RINGS, model.predict(*truth), 0.005)
    found = fit_moments(targets, model, FitSettings(starts=3, iterations=60, last_iterations=200))
    volume = model.ball.to_volume(truth[0])
    curve = fsc(register(found.volume.numpy(), volume.numpy()).volume, volume.numpy())
    assert curve[1:4].min() > 0.9
    assert found.misfit <= min(found.by_start)


def test_without_the_third_moment_the_first_two_are_met(model: MomentModel, truth: tuple[Tensor, Tensor]) -> None:
    exact = model.predict(*truth)
    targets = MomentTargets.met_within(RINGS, MomentSet(exact.first, exact.second, None), 0.01)
    found = fit_moments(targets, model, FitSettings(starts=1, iterations=60, last_iterations=60))
    again = model.predict(found.x, found.c, third=False)
    scale = exact.second.real.diagonal(dim1=1, dim2=2).sqrt()
    assert float(((again.second - exact.second).abs() / (scale[:, :, None] * scale[:, None, :]))[:4].max()) < 0.1


def test_a_density_needs_a_degree() -> None:
    with pytest.raises(ValueError, match="degree 1"):
        MomentModel(BallBasis(BOX, 8.0, 4.0), RINGS, 0)
