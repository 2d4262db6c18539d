"""The task that teaches denoisers: its losses are what they say, and every part of a network feels them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clarice.core.errors import InputError, UsageError
from clarice.denoise.polar_transformer import PolarTransformer, PolarTransformerSize
from clarice.geometry.polar import FourierRings
from clarice.io.weights import write_weights
from clarice.training.attention_guide import divergence, fourier_rings, guide
from clarice.training.batches import SetBatch
from clarice.training.denoising_loss import (
    foretelling_loss,
    relative_error,
    seen_error,
    shell_error,
    sketch_error,
)
from clarice.training.denoising_task import DenoiserSettings, DenoisingTask, LossSettings
from clarice.training.set_draws import draw_sets
from clarice.training.simulated_sets import JudgedOn, NetworkSettings
from clarice.training.validation import SetKind

SIZE = {
    "box": 24, "n_angles": 32, "real_rings": 9, "fourier_rings": 7, "channels": 16, "heads": 2,
    "blocks_before": 1, "attention_blocks": 2, "blocks_after": 1,
}  # fmt: skip


def task(**more: object) -> DenoisingTask:
    settings = DenoiserSettings(network=NetworkSettings(name="polar-transformer", **SIZE), **more)  # type: ignore[arg-type]
    return DenoisingTask(settings, seed=1)


@torch.no_grad()
def unevened(model: nn.Module) -> nn.Module:
    """The model with nothing left at zero."""
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model


def smooth(count: int, seed: int = 0) -> Tensor:
    """Images (1, count, 24, 24) with power at low frequencies, inside the rings' reach."""
    noise = torch.randn((1, count, 24, 24), generator=torch.Generator().manual_seed(seed))
    cycles = torch.fft.fftfreq(24) * 24
    keep = (cycles[:, None] ** 2 + cycles**2) <= 5**2
    axis = torch.arange(24) - 12
    inside = torch.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 4.0**2))
    return torch.fft.ifft2(torch.fft.fft2(noise) * keep).real * inside


def batch(clean: Tensor, transfer: Tensor | None = None, seed: int = 7) -> SetBatch:
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    sets, count = clean.shape[:2]
    power = clean.square().sum(dim=(-2, -1)).mean(dim=1).clamp_min(1e-3)
    snr = power / clean.shape[-1] ** 2
    return SetBatch(
        clean + noise, clean, transfer, torch.zeros((sets, count)).long(), torch.zeros((sets, count)), snr, power
    )


def test_relative_error_is_that_of_the_metrics() -> None:
    from clarice.metrics.image import relative_mse

    clean = smooth(4)
    guess = clean + 0.1 * torch.randn(clean.shape)
    power = clean.square().sum(dim=(-2, -1)).mean(dim=1)
    expected = relative_mse(guess[0], clean[0])  # of the disk, as conventions say
    assert float(relative_error(guess, clean, power)[0]) == pytest.approx(expected, rel=2e-3)


def test_what_the_detector_cannot_see_is_no_seen_error() -> None:
    clean, guess = smooth(2), smooth(2, seed=1)
    transfer = torch.ones((1, 2, 24, 13))
    snr = clean.square().sum(dim=(-2, -1)).mean(dim=1) / 24**2
    full = float(seen_error(guess, clean, transfer, snr)[0])
    assert full == pytest.approx(float((guess - clean).square().sum() / clean.square().sum()), rel=1e-4)
    assert float(seen_error(guess, clean, 0 * transfer, snr)[0]) == 0


def test_shell_errors_add_up_to_the_squared_error() -> None:
    clean, guess = smooth(3), smooth(3, seed=2)
    by_shell = shell_error(guess, clean)
    cycles = torch.fft.fftfreq(24) * 24
    shell = (cycles[:, None] ** 2 + cycles**2).sqrt().round().long().clamp(max=12).flatten()
    total = (by_shell * torch.bincount(shell, minlength=13)).sum(dim=-1)
    assert torch.allclose(total, (guess - clean).square().sum(dim=(-2, -1)), rtol=1e-4)


def test_an_error_is_best_foretold_as_its_mean() -> None:
    actual = torch.tensor([0.5, 2.0, 4.0]).view(1, 3, 1).repeat(1, 1, 13)
    means = torch.linspace(-1, 2, 61)
    losses = [float(foretelling_loss(torch.full((1, 3, 13), float(m)), actual)) for m in means]
    best = means[int(torch.tensor(losses).argmin())]
    assert float(best.exp()) == pytest.approx(6.5 / 3, rel=0.06)


def test_sketches_are_judged_on_the_images_own_fourier_rings() -> None:
    network = PolarTransformer(PolarTransformerSize(**SIZE))
    clean, other = smooth(2), smooth(2, seed=3)
    rings, others = fourier_rings(network, clean), fourier_rings(network, other)
    power = clean.square().sum(dim=(-2, -1)).mean(dim=1)
    assert float(sketch_error(rings, rings, network.ring_area, power)) == 0
    centred, others_centred = (x - x.mean(dim=(-2, -1), keepdim=True) for x in (clean, other))
    expected = float((centred - others_centred).square().sum() / clean.square().sum())
    assert float(sketch_error(others, rings, network.ring_area, power)) == pytest.approx(expected, rel=0.25)


def test_the_guide_finds_turned_copies_at_their_angle_and_nothing_else() -> None:
    network = PolarTransformer(PolarTransformerSize(**SIZE))
    clean = 40 * smooth(5)
    clean[..., 0, :] = clean[..., :, 0] = 0
    clean[0, 3, 1:, 1:] = torch.rot90(clean[0, 1, 1:, 1:], -1)
    posterior = guide(network, fourier_rings(network, clean))
    assert float(posterior[8, 0, 3, 1]) > 0.9  # image 3 is image 1 turned by 8 of 32 steps
    assert float(posterior[24, 0, 1, 3]) > 0.9
    assert float(posterior[:, 0, 0].sum()) < 0.1  # image 0 has no match


def test_divergence_is_zero_at_the_guide_and_grows_away_from_it() -> None:
    from clarice.denoise.angular_weights import AngularWeights

    network = PolarTransformer(PolarTransformerSize(**SIZE))
    clean = smooth(4)
    target = guide(network, fourier_rings(network, clean))
    same = AngularWeights.of(target[:, :, None].expand(-1, -1, 2, -1, -1))
    uniform = AngularWeights.of(torch.full_like(same.posterior, 0.5 / (32 * 3)))
    at_guide, away = float(divergence([same], target, clean)), float(divergence([uniform], target, clean))
    assert at_guide == pytest.approx(0, abs=1e-4)
    assert away > 0.05
    assert float(divergence([uniform], target, torch.zeros_like(clean))) == 0  # empty images have no view


@pytest.mark.parametrize("with_ctf", [False, True])
@pytest.mark.parametrize("count", [1, 4])
def test_the_loss_reaches_every_part(with_ctf: bool, count: int) -> None:
    made = task()
    model = unevened(made.model())
    transfer = torch.full((1, count, 24, 13), 0.7) if with_ctf else None
    loss, parts = made.loss(model, batch(smooth(count), transfer))
    loss.backward()
    assert set(parts) == {"relative_mse", "foretelling", "sketches", "divergence"}
    assert all(bool(torch.isfinite(value)) for value in parts.values())
    grads = [p.grad for p in model.parameters()]
    assert all(g is None or bool(torch.isfinite(g).all()) for g in grads)
    assert sum(g is not None and bool(g.abs().max() > 0) for g in grads) > 0.6 * len(grads)


@torch.no_grad()
def test_the_loss_of_a_batch_is_the_mean_of_its_shares() -> None:
    """However the images without a particle are spread over them."""
    made = task()
    model = unevened(made.model())
    clean = torch.cat([20 * smooth(4, seed) for seed in range(4)])
    clean[0, 1:] = clean[1, 3] = 0
    whole = batch(clean, torch.full((4, 4, 24, 13), 0.7))
    loss, parts = made.loss(model, whole)
    shares = [made.loss(model, whole.sets(slice(start, start + 2))) for start in (0, 2)]
    assert float(loss) == pytest.approx(sum(float(share) for share, _ in shares) / 2, rel=1e-4)
    assert float(parts["divergence"]) > 0.05
    for name, value in parts.items():
        assert float(value) == pytest.approx(sum(float(each[name]) for _, each in shares) / 2, rel=1e-4), name


def test_weights_of_zero_take_parts_out_of_the_loss() -> None:
    made = task(loss=LossSettings(foretelling=0, sketches=0, guidance=0))
    loss, parts = made.loss(made.model(), batch(smooth(4)))
    assert float(loss.detach()) == pytest.approx(float(parts["relative_mse"].detach()))


def test_training_starts_from_given_weights(tmp_path: Path) -> None:
    first = task().model()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1)
    path = tmp_path / "start.safetensors"
    write_weights(path, first.state_dict(), {"recipe": {"network": {"name": "polar-transformer", **SIZE}}})
    second = task(start=path).model()
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    other = DenoiserSettings(network=NetworkSettings(name="polar-transformer", **{**SIZE, "channels": 32}), start=path)
    with pytest.raises(InputError, match="another size"):
        DenoisingTask(other, 1).model()


def test_a_deeper_network_starts_from_the_blocks_of_a_shallower_one(tmp_path: Path) -> None:
    shallow = NetworkSettings(name="polar-transformer", **{**SIZE, "attention_blocks": 2})
    first = DenoisingTask(DenoiserSettings(network=shallow), 1).model()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    path = tmp_path / "start.safetensors"
    write_weights(path, first.state_dict(), {"recipe": {"network": shallow.model_dump()}})
    deep = NetworkSettings(name="polar-transformer", **{**SIZE, "attention_blocks": 3})
    made = DenoisingTask(DenoiserSettings(network=deep, start=path, start_blocks=[0, 1, 1]), 1).model()
    old, new = first.state_dict(), made.state_dict()
    assert torch.equal(new["leave.weight"], old["leave.weight"])
    for name in (name for name in old if name.startswith("attention.1.")):
        assert torch.equal(new[name], old[name])
        assert torch.equal(new[name.replace("attention.1.", "attention.2.")], old[name])
    assert new["foretell.first.weight"].shape != old["foretell.first.weight"].shape
    for blocks in ([0, 1], [0, 1, 2]):  # too few, and one that is not there
        settings = DenoiserSettings(network=deep, start=path, start_blocks=blocks)
        with pytest.raises(InputError, match=f"with the blocks {', '.join(map(str, blocks))}"):
            DenoisingTask(settings, 1).model()
    with pytest.raises(UsageError, match="start_blocks"):
        DenoisingTask(DenoiserSettings(network=deep, start_blocks=[0]), 1)


SMALL: dict[str, Any] = {"name": "dncnn", "layers": 2, "channels": 4}


def test_what_is_trained_on_is_said(tmp_path: Path, shared_data: Path) -> None:
    network = NetworkSettings(**SMALL)
    molecules = DenoisingTask(DenoiserSettings(network=network, molecules=True), 1)
    assert molecules.source == "procedural molecules alone"
    assert "procedural molecules only" in molecules.description
    real = DenoisingTask(DenoiserSettings(network=network, data=shared_data), 1)
    (tmp_path / "train.npz").symlink_to(shared_data / "structures" / "train.npz")
    elsewhere = DenoisingTask(DenoiserSettings(network=network, data=tmp_path), 1)
    assert real.source == elsewhere.source != molecules.source
    assert str(tmp_path) in elsewhere.description


def test_memory_is_measured_by_the_largest_sets() -> None:
    made = DenoisingTask(DenoiserSettings(network=NetworkSettings(**SMALL), sets={"ctf_share": 0.2}, molecules=True), 1)
    assert made.sets.sizes[-1] == 128
    assert draw_sets(made.sets, made.largest(3), slots=2).view.shape == (1, 128)


def test_empty_images_alone_are_validated_on_too() -> None:
    kinds = (
        SetKind("one", images=1, views=0, snr=0.1),
        SetKind("none", images=1, views=0, snr=0.1, sets=3, empty=True),
    )
    settings = DenoiserSettings(
        network=NetworkSettings(**SMALL, box=24), molecules=True, validation=JudgedOn(structures=1, kinds=kinds)
    )
    made = DenoisingTask(settings, 1)
    figures = made.validate(made.model(), torch.device("cpu"))
    assert set(figures) == {"error", "one", "none"}
    assert all(math.isfinite(figure) for figure in figures.values())
    assert figures["error"] == figures["one"]


def test_the_area_of_rings_is_that_of_images() -> None:
    """Σ over rings with `ring_area` is Σ over pixels, for images without power at the centre of Fourier space."""
    network = PolarTransformer(PolarTransformerSize(**SIZE))
    clean = smooth(6)
    clean = clean - clean.mean(dim=(-2, -1), keepdim=True)
    rings = fourier_rings(network, clean)
    power = (rings.square().sum(dim=2) @ network.ring_area).sum()
    assert float(power) == pytest.approx(float(clean.square().sum()), rel=0.1)
    assert FourierRings(24, tuple(float(k) for k in range(1, 8)), 32).count == len(network.ring_area)
