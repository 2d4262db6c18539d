"""The covariance Wiener filter: its moments against plain loops, its shrinkage, and what it is worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clarice.core.progress import silent
from clarice.denoise import covariance_wiener as filtering
from clarice.denoise.registry import denoise_all, get_denoiser
from clarice.metrics.image import relative_mse
from clarice.physics.noisy_set import white_set
from clarice.physics.simulate import SimulatedSet


def test_block_sums_give_the_weighted_least_squares_solution() -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn((50, 2, 4), generator=generator)
    transfer = 0.2 + torch.rand((50, 4), generator=generator)
    power = torch.tensor([2.0, 1.0, 0.5, 0.1])
    sums = filtering.BlockMoments.empty(4)
    sums.add(values[:20], transfer[:20], power, torch.ones(4))
    sums.add(values[20:], transfer[20:], power, torch.ones(4))
    top, bottom = np.zeros((4, 4)), np.zeros((4, 4))
    for image in range(50):
        t = transfer[image].double().numpy()
        weight = 1 / (t**2 * power.double().numpy() + 1)
        for phase in range(2):
            z = values[image, phase].double().numpy()
            joint = np.outer(weight * t, weight * t)
            top += joint * (np.outer(z, z) - np.eye(4))
            bottom += joint * np.outer(t, t)
    estimate = (sums.second - torch.diag(sums.noise)) / sums.weight
    assert np.allclose(estimate, top / bottom, atol=1e-5)
    assert sums.count == 100


def test_the_covariance_of_known_coefficients_is_found() -> None:
    generator = torch.Generator().manual_seed(2)
    factor = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.5, -1.0], [0.0, 0.5]])
    truth = factor @ factor.T
    mean = torch.tensor([3.0, -1.0, 0.5, 0.0])
    clean = mean + torch.randn((20_000, 2), generator=generator) @ factor.T
    transfer = torch.tensor([[1.0, 0.7, 0.3, 0.9], [0.4, 1.0, 0.8, 0.5]])[torch.arange(20_000) % 2]
    noisy = transfer * clean + torch.randn((20_000, 4), generator=generator)
    sums = filtering.BlockMoments.empty(4)
    sums.add(noisy[:, None], transfer, truth.diagonal() + mean**2, torch.ones(4))
    block = filtering.AngularBlock(0, 0, np.arange(1.0, 5.0))
    found = filtering.block_mean(block, sums)
    assert torch.allclose(found.float(), mean, atol=0.08)
    covariance = filtering.block_covariance(sums, found)
    assert torch.allclose(covariance.float(), truth, atol=0.25)


def test_pure_noise_has_no_covariance_left() -> None:
    samples = torch.randn((2000, 30), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    covariance = samples.T @ samples / 2000 - torch.eye(30, dtype=torch.float64)
    assert float(filtering.shrunk(covariance, 2000).abs().max()) < 0.05


def test_a_spike_comes_back_debiased() -> None:
    generator = torch.Generator().manual_seed(4)
    direction = torch.zeros(60, dtype=torch.float64)
    direction[7] = 1
    samples = torch.randn((400, 60), generator=generator, dtype=torch.float64)
    samples += 2 * torch.randn((400, 1), generator=generator, dtype=torch.float64) * direction
    raw = samples.T @ samples / 400 - torch.eye(60, dtype=torch.float64)
    truth = 4 * torch.outer(direction, direction)
    shrunken = filtering.shrunk(raw, 400)
    assert float((shrunken - truth).norm()) < 0.5 * float((raw - truth).norm())


def test_filters_are_the_linear_estimate() -> None:
    generator = torch.Generator().manual_seed(5)
    root = torch.randn((5, 5), generator=generator)
    covariance = root @ root.T
    transfer = torch.rand((3, 5), generator=generator)
    for group, operator in enumerate(filtering.filters(covariance, transfer)):
        t = torch.diag(transfer[group])
        plain = covariance @ t @ torch.linalg.inv(t @ covariance @ t + torch.eye(5))
        assert torch.allclose(operator, plain, atol=1e-4)


def test_the_covariance_of_the_stack_is_near_that_of_its_clean_images(simulated: SimulatedSet) -> None:
    data = filtering.expand(white_set(simulated.particles), silent)
    clean = data.basis.analyse(torch.from_numpy(simulated.clean))
    for block, sums in list(zip(data.basis.blocks, filtering.estimate_moments(data, silent), strict=True))[:4]:
        mean = filtering.block_mean(block, sums)
        values = block.of(clean).double().flatten(0, 1) - mean
        truth = values.T @ values / len(values)
        error = filtering.block_covariance(sums, mean) - truth
        assert float(error.norm()) < 0.25 * float(truth.norm())


def test_it_beats_the_radial_filter_clearly(simulated: SimulatedSet) -> None:
    noisy = white_set(simulated.particles)
    errors = {
        name: relative_mse(denoise_all(get_denoiser(name)(noisy), len(noisy), noisy.box), simulated.clean)
        for name in ("wiener", "covariance-wiener")
    }
    assert errors["covariance-wiener"] < 0.6 * errors["wiener"]


def test_small_chunks_and_no_cache_give_the_same_images(
    simulated: SimulatedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy = white_set(simulated.particles)
    method = get_denoiser("covariance-wiener")
    whole = denoise_all(method(noisy), len(noisy), noisy.box)
    monkeypatch.setattr("clarice.physics.noisy_set.CHUNK_PIXELS", 40 * 40 * 64)
    monkeypatch.setattr(filtering, "CACHED_FLOATS", 0)
    parts = denoise_all(method(noisy), len(noisy), noisy.box)
    assert np.allclose(whole, parts, atol=1e-3 * float(np.abs(whole).max()))
