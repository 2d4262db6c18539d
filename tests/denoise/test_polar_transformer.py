"""The polar transformer is what it says: equivariant, blind to order, at home with any set size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from clarice.denoise.angular_attention import MeasuredRings
from clarice.denoise.polar_transformer import PolarTransformer, PolarTransformerSize

SMALL = PolarTransformerSize(
    box=24, n_angles=32, real_rings=9, fourier_rings=7, channels=16, heads=2, blocks_before=1, attention_blocks=2,
    blocks_after=1,
)  # fmt: skip


def network(size: PolarTransformerSize = SMALL) -> PolarTransformer:
    """A network with random weights everywhere, the zeros of a fresh one included."""
    torch.manual_seed(3)
    made = PolarTransformer(size).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quarter_turn(images: Tensor) -> Tensor:
    """Turns images of an even box by 90° about their centre pixel, from +x towards +y; the first row and column go."""
    turned = torch.zeros_like(images)
    turned[..., 1:, 1:] = torch.rot90(images[..., 1:, 1:], -1, (-2, -1))
    return turned


def smooth_transfer(count: int, box: int) -> Tensor:
    """A filter that is the same in every direction, another for each image, (1, count, L, L // 2 + 1)."""
    fy, fx = torch.fft.fftfreq(box)[:, None], torch.fft.rfftfreq(box)
    defocus = torch.linspace(20, 60, count)[:, None, None]
    return torch.sin(0.3 + defocus * (fx**2 + fy**2))[None]


@pytest.mark.parametrize("with_transfer", [False, True])
def test_a_quarter_turn_of_one_image_turns_its_output_and_leaves_the_others(with_transfer: bool) -> None:
    model = network()
    images = noise(1, 5, 24, 24)
    images[..., 0, :] = images[..., :, 0] = 0
    turned = images.clone()
    turned[0, 2] = quarter_turn(images[0, 2])
    transfer = smooth_transfer(5, 24) if with_transfer else None
    with torch.no_grad():
        before, after = model(images, transfer).images, model(turned, transfer).images
    scale = before.abs().max()
    # Filtering fills the first row and column again, which no quarter turn moves to a pixel.
    inner = (slice(None), slice(2, None), slice(2, None)) if with_transfer else (slice(None),)
    expected = before[0].clone()
    expected[2] = quarter_turn(before[0, 2])
    tolerance = 2e-2 if with_transfer else 1e-5
    assert (after[0] - expected)[inner].abs().max() < tolerance * scale


def test_a_step_on_the_polar_grid_turns_one_output_and_leaves_the_others() -> None:
    model = network()
    measured = model.measure(noise(1, 4, 24, 24), None)
    rings = measured.rings.clone()
    rings[0, 1] = rings[0, 1].roll(7, 0)
    turned = type(measured).of(rings, measured.profile)
    with torch.no_grad():
        before, after = model.denoise_rings(measured).rings, model.denoise_rings(turned).rings
    expected = before.clone()
    expected[0, 1] = before[0, 1].roll(7, 0)
    assert (after - expected).abs().max() < 1e-5 * before.abs().max()


def test_permuting_the_set_permutes_the_output() -> None:
    model = network()
    images, order = noise(2, 6, 24, 24), torch.tensor([3, 1, 5, 0, 2, 4])
    with torch.no_grad():
        direct, permuted = model(images), model(images[:, order])
    assert torch.allclose(direct.images[:, order], permuted.images, atol=1e-5 * float(direct.images.abs().max()))
    assert direct.log_error is not None
    assert permuted.log_error is not None
    assert torch.allclose(direct.log_error[:, order], permuted.log_error, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_set_size_and_weights_that_sum_to_one(count: int) -> None:
    model = network()
    with torch.no_grad():
        estimate, weights = model.with_weights(noise(2, count, 24, 24))
    assert estimate.images.shape == (2, count, 24, 24)
    assert torch.isfinite(estimate.images).all()
    for attended in weights:
        total = attended.to_source.sum(dim=-1) + attended.kept
        assert torch.allclose(total, torch.ones_like(total), atol=1e-5)
        assert (attended.kept >= -1e-6).all()
        assert attended.to_source.diagonal(dim1=-2, dim2=-1).abs().max() == 0
        if count == 1:
            assert torch.allclose(attended.kept, torch.ones_like(attended.kept))


def test_sets_of_a_batch_do_not_see_each_other() -> None:
    model = network()
    images = noise(3, 4, 24, 24)
    with torch.no_grad():
        together = model(images).images
        alone = torch.cat([model(images[i : i + 1]).images for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5 * float(alone.abs().max()))


def test_images_that_may_not_attend_to_each_other_do_not_matter_to_each_other() -> None:
    model = network()
    images = noise(1, 6, 24, 24)
    half = torch.tensor([0, 1, 0, 1, 1, 0])
    allowed = (half[:, None] == half)[None]
    with torch.no_grad():
        apart = model(images, allowed=allowed).images
        first = model(images[:, half == 0]).images
    assert torch.allclose(apart[:, half == 0], first, atol=1e-5 * float(first.abs().max()))


def test_the_transfer_of_a_perfect_microscope_changes_nothing() -> None:
    model = network()
    images = noise(1, 3, 24, 24)
    with torch.no_grad():
        plain, told = model(images).images, model(images, torch.ones(1, 3, 24, 13)).images
    assert torch.allclose(plain, told, atol=1e-4 * float(plain.abs().max()))


def test_attention_copies_the_one_twin_in_the_set_and_says_at_which_angle() -> None:
    """With weights that pick the twin, an image and its turned copy attend to each other at the right angle."""
    model = network()
    images = 8 * noise(1, 6, 24, 24)
    images[..., 0, :] = images[..., :, 0] = 0
    images[0, 4] = quarter_turn(images[0, 1])
    attention = model.attention[0].attend
    with torch.no_grad():
        channels = SMALL.channels
        attention.project.weight[: 2 * channels] *= 10  # type: ignore[union-attr, index]
        attention.project.weight[channels : 2 * channels] = attention.project.weight[:channels]  # type: ignore[union-attr]
        attention.measured_weight.zero_()  # type: ignore[union-attr, operator]
        attention.believed_weight.zero_()  # type: ignore[union-attr, operator]
        weights = model.with_weights(images)[1][0]
    by_angle = weights.posterior[:, 0, :, 4, 1].mean(dim=1)  # image 4 is image 1 turned by 90°
    assert int(by_angle.argmax()) == SMALL.n_angles // 4
    assert float(weights.to_source[0, :, 4, 1].min()) > 0.9


@pytest.mark.parametrize("count", [1, 5])
def test_every_parameter_learns(count: int) -> None:
    model = network()
    estimate = model(noise(1, count, 24, 24), smooth_transfer(count, 24))
    assert estimate.log_error is not None
    (estimate.images.square().mean() + estimate.log_error.square().mean()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is not None and bool(torch.isfinite(g).all()) for g in gradients.values())
    idle = {name for name, g in gradients.items() if g is not None and float(g.abs().max()) == 0}
    # An image alone has nothing to attend to.
    assert idle == set() if count > 1 else all(name.startswith("attention.") for name in idle)


def turned_by_steps(measured: MeasuredRings, image: int, steps: int) -> MeasuredRings:
    rings = measured.rings.clone()
    rings[0, image] = rings[0, image].roll(steps, 0)
    return MeasuredRings.of(rings, measured.profile)


@pytest.mark.parametrize(
    "changes",
    [{"convolution": "planar", "channels": 32}, {"likelihood": False}, {"inputs": "fourier"}],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_taken_away_for_comparison_leaves_the_rest_equivariant(changes: dict[str, Any]) -> None:
    model = network(replace(SMALL, **changes))
    measured = model.measure(noise(1, 4, 24, 24), None)
    with torch.no_grad():
        before = model.denoise_rings(measured).rings
        after = model.denoise_rings(turned_by_steps(measured, 1, 7)).rings
    expected = before.clone()
    expected[0, 1] = before[0, 1].roll(7, 0)
    assert (after - expected).abs().max() < 2e-5 * before.abs().max()


def test_plain_attention_turns_nothing() -> None:
    """All it gives lies at angle 0, so that another turn of one image changes what the others get from it."""
    model = network(replace(SMALL, attention="plain"))
    with torch.no_grad():
        for block in model.attention:
            block.attend.measured_weight.zero_()  # type: ignore[union-attr, operator]
    measured = model.measure(noise(1, 4, 24, 24), None)
    with torch.no_grad():
        found, turned = model.denoise_rings(measured), model.denoise_rings(turned_by_steps(measured, 1, 7))
    for weights in found.attended:
        assert weights.posterior[1:].abs().max() == 0
        assert weights.posterior[0].sum() > 0.1
    others = [0, 2, 3]
    assert (turned.rings - found.rings)[0, others].abs().max() > 1e-3 * found.rings.abs().max()


def test_without_the_likelihood_scores_are_learned_alone() -> None:
    """Queries of 0 then leave nothing to choose by: every image and angle weighs the same."""
    model = network(replace(SMALL, likelihood=False))
    attention = model.attention[0].attend
    with torch.no_grad():
        attention.project.weight[: 2 * SMALL.channels] = 0  # type: ignore[union-attr, index]
    posterior = model.with_weights(4 * noise(1, 5, 24, 24))[1][0].posterior.detach()
    others = posterior[..., ~torch.eye(5, dtype=torch.bool)]
    spread = others.view(SMALL.n_angles, 1, SMALL.heads, 5, 4)
    assert torch.allclose(spread, spread.mean(dim=(0, -1), keepdim=True).expand_as(spread), rtol=1e-4)


def test_bilinear_rings_leave_a_quarter_turn_exact() -> None:
    model = network(replace(SMALL, basis="bilinear"))
    images = noise(1, 3, 24, 24)
    images[..., 0, :] = images[..., :, 0] = 0
    turned = images.clone()
    turned[0, 2] = quarter_turn(images[0, 2])
    with torch.no_grad():
        before, after, radial = model(images).images, model(turned).images, network()(images).images
    expected = before[0].clone()
    expected[2] = quarter_turn(before[0, 2])
    assert (after[0] - expected).abs().max() < 1e-5 * before.abs().max()
    assert not torch.allclose(before, radial, atol=1e-2 * float(radial.abs().max()))


@pytest.mark.parametrize(("inputs", "hidden"), [("real", slice(9, None)), ("fourier", slice(None, 9))])
def test_the_network_is_shown_the_chosen_rings_alone(inputs: Any, hidden: slice) -> None:
    model = network(replace(SMALL, inputs=inputs, likelihood=False))
    shown = model.measure(noise(1, 2, 24, 24), None)
    assert shown.rings[..., hidden].abs().max() == 0
    assert MeasuredRings.of(shown.rings, shown.profile).spectrum.equal(shown.spectrum)
    whole = network().measure(noise(1, 2, 24, 24), None).rings
    kept = torch.ones(SMALL.frame.count, dtype=torch.bool)
    kept[hidden] = False
    assert torch.equal(shown.rings[..., kept], whole[..., kept])


def test_real_rings_alone_have_no_likelihood() -> None:
    with pytest.raises(ValueError, match="Fourier rings"):
        PolarTransformerSize(inputs="real")


def test_an_unknown_word_for_a_part_is_refused() -> None:
    with pytest.raises(ValueError, match="plain"):
        PolarTransformerSize(attention="fancy")  # type: ignore[arg-type]


def test_a_planar_network_holds_whole_planes() -> None:
    with pytest.raises(ValueError, match="planes of 16 rings"):
        PolarTransformer(replace(SMALL, convolution="planar", channels=20))


def test_attention_in_parts_is_attention_at_once() -> None:
    """What is worked out some images at a time, when nothing is learned, is what training sees whole."""
    model = network()
    images = 4 * noise(1, 70, 24, 24)  # more than two parts of 32
    whole, at_once = model.with_weights(images)
    with torch.no_grad():
        joined, in_parts = model.with_weights(images)
    assert torch.allclose(whole.images, joined.images, atol=1e-5 * float(joined.images.abs().max()))
    for one, other in zip(at_once, in_parts, strict=True):
        assert one.posterior.shape[2] == SMALL.heads
        assert torch.allclose(one.posterior.mean(dim=2, keepdim=True), other.posterior, rtol=1e-4, atol=1e-6)
        assert torch.allclose(one.to_source, other.to_source, rtol=1e-4, atol=1e-5)
        assert torch.allclose(one.evidence, other.evidence, atol=1e-4)
