"""The network of diffusion: what it says, what it is told, and what sampling makes of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from clarice.core.errors import UsageError
from clarice.denoise.diffusion_network import Condition, DiffusionNetwork, DiffusionSize
from clarice.denoise.diffusion_sampling import Draws, SamplingSettings, sample_residuals
from clarice.denoise.gaussian_estimate import GaussianEstimate
from clarice.denoise.networks import network_kind

SMALL: dict[str, Any] = {"box": 16, "channels": 8, "multiples": [1, 2], "attention": [4], "schedule_steps": 1000}


def network(**more: Any) -> DiffusionNetwork:
    torch.manual_seed(1)
    made = DiffusionNetwork(DiffusionSize(**{**SMALL, **more}))
    return made.eval()


def unevened(made: DiffusionNetwork) -> DiffusionNetwork:
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    return made


def condition(count: int, seed: int = 3, box: int = 16) -> Condition:
    generator = torch.Generator().manual_seed(seed)
    noisy, mean = torch.randn((2, count, box, box), generator=generator)
    squared = torch.rand((count, box // 2 + 1), generator=generator) + 0.1
    transfer = torch.rand((count, box, box // 2 + 1), generator=generator)
    return Condition.of(noisy, transfer, GaussianEstimate(mean, squared))


def white(count: int, seed: int, box: int = 16) -> Tensor:
    return torch.randn((count, box, box), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("target", ["v", "noise"])
def test_whoever_says_the_target_gives_back_residual_and_noise(target: str) -> None:
    made = network(target=target)
    residual, noise = white(4, 1), white(4, 2)
    remaining = torch.tensor([0.01, 0.3, 0.9, 0.999])
    signal, rest = (share[:, None, None] for share in (remaining.sqrt(), (1 - remaining).sqrt()))
    said = made.target(residual, noise, remaining)
    made.forward = lambda *_: said  # type: ignore[method-assign]
    cleaned, found = made.cleaned(signal * residual + rest * noise, remaining, condition(4))
    assert torch.allclose(cleaned, residual, atol=1e-4)
    assert torch.allclose(found, noise, atol=1e-4)


@pytest.mark.parametrize(("sampler", "steps"), [("ancestral", 1), ("ancestral", 10), ("ddim", 500)])
def test_a_network_that_says_nothing_samples_the_estimate_and_its_error(sampler: str, steps: int) -> None:
    """White residuals of variance 1: the images have the error that was foretold, by few ancestral steps as by many."""
    settings = SamplingSettings(steps, 1, sampler)  # type: ignore[arg-type]
    residual = sample_residuals(network(), condition(60), settings, Draws(range(60), 16))
    assert float(residual.mean()) == pytest.approx(0, abs=0.03)
    assert float(residual.std()) == pytest.approx(1, abs=0.02)
    power = torch.fft.fft2(residual).abs().square().mean(dim=0) / 256
    assert float(power.std()) < 0.2


@pytest.mark.parametrize("target", ["v", "noise"])
@pytest.mark.parametrize(("sampler", "steps"), [("ddim", 200), ("ancestral", 1000), ("ancestral", 2)])
def test_enough_steps_with_the_true_answer_sample_the_true_distribution(target: str, sampler: str, steps: int) -> None:
    """Residuals that are 0.7 ± 0.5 a pixel, and a network that knows it: its answer is that of Bayes."""
    made = network(target=target)
    mean, variance = 0.7, 0.25

    def bayes(noisy: Tensor, remaining: Tensor, _: Condition) -> Tensor:
        share = remaining.float()[:, None, None]
        gain = share.sqrt() * variance / (share * variance + 1 - share)
        cleaned = mean + gain * (noisy - share.sqrt() * mean)
        noise = (noisy - share.sqrt() * cleaned) / (1 - share).sqrt()
        return made.target(cleaned, noise, remaining)

    made.forward = bayes  # type: ignore[method-assign]
    # The variance of r given z is (1 − γ) times this.
    made.unsaid = (variance / (made.levels() * variance + 1 - made.levels())).float()[:, None].expand_as(made.unsaid)
    settings = SamplingSettings(steps, 1, sampler)  # type: ignore[arg-type]
    residual = sample_residuals(made, condition(100), settings, Draws(range(100), 16))
    assert float(residual.mean()) == pytest.approx(mean, abs=0.02)
    assert float(residual.std()) == pytest.approx(variance**0.5, abs=0.02)


def test_every_image_is_sampled_by_itself() -> None:
    made, shown = unevened(network()), condition(6)
    settings = SamplingSettings(3, 1, "ancestral")
    together = sample_residuals(made, shown, settings, Draws(range(6), 16))
    alone = sample_residuals(made, Condition(shown.shown[4:5], shown.told[4:5]), settings, Draws([4], 16))
    assert torch.allclose(together[4], alone[0], atol=1e-4)


def test_every_thing_it_is_told_matters() -> None:
    made, shown = unevened(network()), condition(2)
    noisy, remaining = white(2, 5), torch.tensor([0.5, 0.5])
    with torch.no_grad():
        usual = made(noisy, remaining, shown)
        others = [
            made(white(2, 6), remaining, shown),
            made(noisy, torch.tensor([0.5001, 0.4]), shown),
            *(made(noisy, remaining, Condition(_without(shown.shown, channel), shown.told)) for channel in range(3)),
            made(noisy, remaining, Condition(shown.shown, _without(shown.told, slice(0, 9)))),
            made(noisy, remaining, Condition(shown.shown, _without(shown.told, slice(9, 18)))),
        ]
    assert usual.shape == noisy.shape
    for other in others:
        assert float((other - usual).abs().max()) > 1e-6


def _without(values: Tensor, part: int | slice) -> Tensor:
    changed = values.clone()
    changed[:, part] = 0
    return changed


def test_it_learns_through_all_its_parts() -> None:
    made = unevened(network())
    made(white(2, 5), torch.tensor([0.5, 0.9]), condition(2)).square().mean().backward()
    still = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []


@pytest.mark.parametrize("more", [{"blocks": 2}, {"patch": 1}, {"multiples": [1, 1, 2], "attention": []}])
def test_other_sizes_work(more: dict[str, Any]) -> None:
    made = unevened(network(**more))
    with torch.no_grad():
        assert made(white(2, 5), torch.tensor([0.5, 0.9]), condition(2)).shape == (2, 16, 16)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"box": 18}, "multiple of 4"),
        ({"channels": 12}, "multiple of 8"),
        ({"channels": 200, "multiples": [1], "attention": [8]}, "200 channels at edge 8 do not go evenly"),
        ({"multiples": []}, "at least one level"),
        ({"multiples": 3}, "list of whole numbers"),
        ({"attention": [0]}, "list of whole numbers"),
        ({"target": "image"}, "not one of v, noise"),
        ({"estimate": "none"}, "not one of joint, spectrum"),
        ({"schedule": "square"}, "not one of linear, cosine"),
        ({"schedule_steps": 0}, "has none"),
        ({"dropout": 1.0}, "below 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        network_kind("diffusion").build({**SMALL, **more})


def test_sampling_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="steps 0"):
        SamplingSettings(steps=0)
    with pytest.raises(UsageError, match="samples 0"):
        SamplingSettings(samples=0)
    with pytest.raises(UsageError, match="no sampler 'euler'"):
        SamplingSettings(sampler="euler")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="between 1 and 1000"):
        sample_residuals(network(), condition(1), SamplingSettings(1001), Draws([1], 16))
