"""Calibration makes foretold errors those that are made, and touches nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clarice.denoise.foretold_error import ForetoldError
from clarice.denoise.polar_transformer import PolarTransformer, PolarTransformerSize
from clarice.training.batches import SetBatch
from clarice.training.calibration import calibrate, endless, equal_sizes, fit
from clarice.training.set_draws import SetSettings

SMALL = PolarTransformerSize(
    box=24, n_angles=32, real_rings=9, fourier_rings=7, channels=16, heads=2, blocks_before=1, attention_blocks=1,
    blocks_after=1,
)  # fmt: skip


def blobs(position: int) -> SetBatch:
    """Two sets of four noisy disks of a size that differs from batch to batch."""
    generator = torch.Generator().manual_seed(position)
    axis = torch.arange(24) - 12
    radius = (axis[:, None] ** 2 + axis**2).sqrt()
    clean = ((radius < 3 + position % 5).float() * (0.5 + position % 3)).expand(2, 4, 24, 24).contiguous()
    noisy = clean + torch.randn(clean.shape, generator=generator)
    view = torch.zeros((2, 4), dtype=torch.int64)
    power = clean.square().sum(dim=(-2, -1)).mean(dim=1)
    return SetBatch(noisy, clean, None, view, torch.zeros(2, 4), torch.full((2,), 0.1), power)


def test_the_fit_finds_the_mean_error_wherever_it_depends_on_what_is_told() -> None:
    generator = torch.Generator().manual_seed(1)
    told = 3 + 2 * torch.randn((6000, 10), generator=generator)
    mean = torch.exp(0.5 * (told[:, :1] - 3) + torch.tensor([0.0, -3.0, 2.0]))
    squared = mean * torch.distributions.Chi2(8.0).sample((6000, 3)) / 8
    head = ForetoldError(5, 0, 1, 3)
    assert head.centre.shape == (10,)
    fit(head, told[:5000], squared[:5000])
    with torch.no_grad():
        foretold = head(told[5000:]).exp()
    for rows in (told[5000:, 0] < 2, told[5000:, 0] > 4):
        ratio = foretold[rows].mean(dim=0) / squared[5000:][rows].mean(dim=0)
        assert ((ratio - 1).abs() < 0.12).all(), ratio


def test_only_what_foretells_the_error_changes_and_then_fits_fresh_sets() -> None:
    torch.manual_seed(3)
    network = PolarTransformer(SMALL).eval().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = calibrate(network, endless(blobs, 100), 400)
    assert found.images == 400
    assert abs(found.before - 1) > 0.2
    assert found.after == pytest.approx(1, abs=0.1)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("foretell.") for name in changed)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_batches_go_on_from_where_they_are_told_to() -> None:
    asked: list[int] = []

    def batch(position: int) -> Tensor:
        asked.append(position)
        return torch.zeros(1)

    batches = endless(batch, 7)  # type: ignore[arg-type]
    for _ in range(3):
        next(batches)
    assert asked == [7, 8, 9]


@pytest.mark.parametrize("sets", [{}, {"sizes": [1, 32], "size_weights": [3, 1], "images_per_batch": 32}])
def test_all_sizes_of_sets_are_alike(sets: dict[str, object]) -> None:
    settings = SetSettings(seed=1, **equal_sizes(sets))  # type: ignore[arg-type]
    assert set(settings.size_weights) == {1.0}
    assert len(settings.sizes) == len(settings.size_weights)
