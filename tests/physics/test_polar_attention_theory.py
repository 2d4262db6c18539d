"""The formulas of docs/why-polar-attention.md, each against numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from clarice.geometry.angular import average, correlate
from clarice.geometry.polar_frame import PolarFrame

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("count", [1, 4, 16, 64])
def test_aligned_neighbours_lower_the_error_as_the_formula_says(count: int) -> None:
    power = 30.0 / (1 + np.arange(400)) ** 1.5
    clean = RNG.normal(size=(300, 400)) * np.sqrt(power)
    mean = clean + RNG.normal(size=clean.shape) / math.sqrt(count)
    estimate = mean * power / (power + 1 / count)
    formula = (power / (1 + count * power)).sum() / power.sum()
    assert ((estimate - clean) ** 2).sum() / (clean**2).sum() == pytest.approx(formula, rel=0.05)


def winning(d_prime: float, alternatives: int) -> float:
    def density(z: float) -> float:
        return float(stats.norm.pdf(z - d_prime) * stats.norm.cdf(z) ** (alternatives - 1))

    return float(integrate.quad(density, -10, 16)[0])


def views(count: int, energy: float, size: int) -> np.ndarray:
    """Directions orthogonal to one another, `energy` long: views that have nothing in common."""
    basis = np.linalg.qr(RNG.normal(size=(size, count)))[0].T
    return math.sqrt(energy) * basis


@pytest.mark.parametrize("energy", [4.0, 9.0, 15.0])
def test_a_known_view_wins_as_often_as_the_formula_says(energy: float) -> None:
    size, alternatives, images = 200, 100, 4000
    known = views(alternatives, energy, size)
    scores = (known[0] + RNG.normal(size=(images, size))) @ known.T
    assert (scores.argmax(axis=1) == 0).mean() == pytest.approx(winning(math.sqrt(energy), alternatives), abs=0.04)


@pytest.mark.parametrize("energy", [15.0, 40.0, 80.0])
def test_a_noisy_partner_wins_far_more_seldom(energy: float) -> None:
    size, alternatives, images = 200, 100, 2000
    known = views(alternatives, energy, size)
    wins = 0
    for _ in range(images):
        partners = known + RNG.normal(size=known.shape)
        wins += int(np.argmax(partners @ (known[0] + RNG.normal(size=size)))) == 0
    d_prime = energy / math.sqrt(size + 2 * energy)
    assert wins / images == pytest.approx(winning(d_prime, alternatives), abs=0.05)
    assert winning(d_prime, alternatives) < winning(math.sqrt(energy), alternatives) - 0.15 or energy > 60


def test_attention_with_known_views_is_the_posterior_mean() -> None:
    """The softmax over (view, angle) of the likelihood gives a smaller error than any sharper or softer one."""
    n_angles, n_views, images = 32, 4, 1500
    generator = torch.Generator().manual_seed(2)
    rings = torch.randn((n_views, 3, n_angles), generator=generator) * 0.45
    which = torch.randint(n_views, (images,), generator=generator)
    turn = torch.randint(n_angles, (images,), generator=generator)
    clean = torch.stack([rings[v].roll(int(t), -1) for v, t in zip(which, turn, strict=True)])
    noisy = clean + torch.randn(clean.shape, generator=generator)
    likelihood = correlate(noisy, rings) - 0.5 * rings.square().sum(dim=(1, 2))

    def error(sharpness: float) -> float:
        flat = (sharpness * likelihood).permute(1, 0, 2).reshape(images, -1)
        posterior = flat.softmax(dim=1).view(images, n_angles, n_views).permute(1, 0, 2)
        return float((average(posterior.contiguous(), rings) - clean).square().mean())

    assert error(1.0) < min(error(0.6), error(1.6))


@pytest.mark.parametrize("n_angles", [32, 64])
def test_the_angular_grid_loses_what_the_formula_says(n_angles: int) -> None:
    orders = np.arange(1, n_angles // 2)
    power = np.exp(-orders / 5.0)
    phase = RNG.uniform(0, 2 * np.pi, (4000, len(orders)))
    turned = orders * RNG.uniform(-np.pi / n_angles, np.pi / n_angles, (4000, 1))
    lost = power * np.abs(np.exp(1j * phase) - np.exp(1j * (phase + turned))) ** 2
    formula = (power * (2 - 2 * np.sinc(orders / n_angles))).sum() / power.sum()
    assert lost.sum(axis=1).mean() / power.sum() == pytest.approx(formula, rel=0.05)


@pytest.mark.parametrize("frequency", [0.06, 0.12, 0.18])
def test_radial_basis_resampling_damps_a_wave_as_the_formula_says(frequency: float) -> None:
    """A wave inside a smooth window goes to dense rings and back."""
    frame = PolarFrame(32, 96, 25, 0, real_spacing_px=0.5)
    axis = torch.arange(32) - 16
    window = torch.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 4.0**2))
    wave = window * torch.cos(2 * math.pi * frequency * axis)[None].expand(32, 32)
    back = (wave.flatten()[None] @ frame.analysis() @ frame.synthesis()).view(32, 32)
    gain = float((back * wave).sum() / wave.square().sum())
    # The window spreads the wave over frequencies of ±1 / (2π 4 px) around its own, in x and in y.
    spread = 1 / (2 * math.pi * 4.0)
    width = 2 * (2 * math.pi**2 * 0.6**2)
    expected = math.exp(-width * frequency**2 / (1 + width * spread**2)) / (1 + width * spread**2)
    assert gain == pytest.approx(expected, abs=0.06)
