"""The shipped network that knows structures gives what its example says, and knows molecules it was not trained on."""

from __future__ import annotations

import torch

from clarice.abinitio.structure_space import structure_space
from clarice.abinitio.trained_moment_network import NAME, example_replayed, load_moment_network
from clarice.io.weights import read_weights, weights_path
from clarice.training.structure_task import UNKNOWN, seen_structures, validation_structures

PATH = weights_path(NAME)


def test_the_example_replays() -> None:
    found, made = example_replayed(PATH)
    assert made.std() > 0
    assert torch.allclose(found, made, atol=5e-3 * float(made.abs().max()))


def test_it_is_small_and_has_a_card() -> None:
    assert PATH.stat().st_size <= 16 * 2**20
    page = PATH.with_suffix(".md").read_text(encoding="utf-8")
    assert f"{read_weights(PATH).card['images']:,} images" in page


@torch.no_grad()
def test_it_beats_both_what_it_is_given_and_the_best_factor_of_it() -> None:
    """On molecules from beyond the training's seeds, under noise as strong as they are."""
    network = load_moment_network(PATH)
    structures = validation_structures(3, None).repeat(4, 1)
    level = torch.ones(len(structures))
    error = {}
    for known in (0.0, UNKNOWN):
        errors = torch.full((len(structures),), known, dtype=torch.float64)
        seen = seen_structures(structures, network.spread, level, errors, torch.Generator().manual_seed(1))
        found = network.expected(seen.noisy, seen.nearest, seen.context, level)
        relative = [
            ((x - seen.clean) ** 2).sum() / (seen.clean**2).sum() for x in (found, seen.nearest, seen.noisy / 2)
        ]
        error[known] = [float(value) for value in relative]
    assert error[0.0][0] < 0.8 * error[0.0][1]
    assert error[0.0][0] < 0.7 * error[0.0][2]
    assert error[0.0][0] < error[UNKNOWN][0] < 0.9 * error[UNKNOWN][2]
    assert structure_space().size == network.spread.numel()
