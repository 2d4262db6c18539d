"""The network that knows structures: what it says turns with what it is given, and is mirrored with it, exactly."""

from __future__ import annotations

import pytest
import torch
from tests.abinitio.structures import population, spread
from tests.abinitio.test_known_correlations import known_of, moved
from torch import Tensor, nn

from clarice.abinitio.moment_network import DegreeLinear, MomentNetwork, MomentNetworkSize, ProductBlock
from clarice.abinitio.structure_space import structure_space
from clarice.geometry.so3 import random_rotations
from clarice.geometry.sphere_products import SphereGrid
from clarice.geometry.wigner import mirrored, turned, wigner_matrices

SPACE = structure_space()
SIZE = MomentNetworkSize(channels=6, products=4, blocks=2, context=8)


@torch.no_grad()
def unevened(module: nn.Module) -> nn.Module:
    """The module with nothing left at zero."""
    for parameter in module.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape))
    return module.eval()


def network() -> MomentNetwork:
    made = unevened(MomentNetwork(SIZE))
    assert isinstance(made, MomentNetwork)
    made.spread.copy_(spread())
    return made


def fields_moved(fields: Tensor, mirror: bool) -> Tensor:
    """Fields ((degree + 1)², B, C) turned, and mirrored."""
    rotation = random_rotations(1, torch.Generator().manual_seed(4))
    given = fields.transpose(0, 1)
    there = turned(mirrored(given) if mirror else given, [m[0] for m in wigner_matrices(rotation, SPACE.degree)])
    return there.transpose(0, 1)


@torch.no_grad()
@pytest.mark.parametrize("mirror", [False, True])
def test_every_block_turns_with_its_fields(mirror: bool) -> None:
    degrees = SPACE.degree_of_harmonic
    fields, told = torch.randn(len(degrees), 3, SIZE.channels), torch.randn(3, SIZE.context)
    block = unevened(ProductBlock(SphereGrid(SPACE.degree), SIZE))
    sums = unevened(DegreeLinear(SPACE.degree, SIZE.channels, 5))
    before, after = block(fields_moved(fields, mirror), told, degrees), block(fields, told, degrees)
    assert float((before - fields_moved(after, mirror)).abs().max() / after.abs().max()) < 1e-5
    before, after = sums(fields_moved(fields, mirror), degrees), sums(fields, degrees)
    assert float((before - fields_moved(after, mirror)).abs().max() / after.abs().max()) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("mirror", [False, True])
def test_the_whole_network_turns_with_its_input(mirror: bool) -> None:
    made, noisy = network(), torch.randn(3, SPACE.size)
    level = torch.tensor([0.1, 1.0, 10.0])
    known, there = known_of(population()[:3]), known_of(moved(population()[:3] / spread(), 1, mirror) * spread())
    nearest = known.nearest(noisy)
    found = made.expected(noisy, nearest, known.context, level)
    turned_found = made.expected(moved(noisy, 1, mirror), moved(nearest, 1, mirror), known.context, level)
    assert float((turned_found - moved(found, 1, mirror)).abs().max() / found.abs().max()) < 1e-5
    anew = made(moved(noisy, 1, mirror), there, level)  # with what is known of the structure that was turned
    assert float((anew - moved(found, 1, mirror)).abs().max() / found.abs().max()) < 1e-3


@torch.no_grad()
def test_structures_of_a_batch_do_not_see_one_another() -> None:
    made, noisy, level = network(), torch.randn(3, SPACE.size), torch.tensor([0.1, 1.0, 10.0])
    known = known_of(population()[:3])
    alone = made(noisy[1:2], known_of(population()[1:2]), level[1:2])
    assert torch.allclose(made(noisy, known, level)[1:2], alone, atol=1e-5)


@torch.no_grad()
def test_at_the_faintest_noise_the_structure_is_believed() -> None:
    made, structures = network(), population()[:2] / spread()
    found = made(structures, known_of(population()[:2]), torch.full((2,), 1e-4))
    assert torch.allclose(found, structures, atol=1e-3 * float(structures.abs().max()))


def test_every_weight_learns() -> None:
    made = network()
    found = made(torch.randn(2, SPACE.size), known_of(population()[:2]), torch.ones(2))
    found.square().mean().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name
