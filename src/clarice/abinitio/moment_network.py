"""A network that knows what molecules look like: from a structure under noise, and what moments tell, the structure.

It is the denoiser of a diffusion (Karras et al., NeurIPS 2022) over structures in the learned space (`structure_space`)
and by that the prior of learned reconstruction (`structure_draws`). Its input are a structure z + σ n under noise, the
structure nearest to that which has the measured correlations (`known_correlations`), and, in numbers that do not turn,
σ and the correlations themselves. Its output is the structure to be expected.

Turned input gives turned output, and mirrored input mirrored output, exactly: what acts on degree l are sums over
channels, one matrix for all its orders; products of functions on the sphere (`geometry.sphere_products`); and factors
made of numbers that do not turn. Radii are channels, as they are in the polar transformer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clarice.abinitio.known_correlations import KnownCorrelations
from clarice.abinitio.structure_space import StructureSpace, structure_space
from clarice.geometry.sphere_products import SphereGrid

# Waves by which the network is told log σ.
_WAVES = 8
_TINY = 1e-6


@dataclass(frozen=True)
class MomentNetworkSize:
    """Channels of functions on the sphere, products of two a block, blocks, and width of what does not turn."""

    channels: int = 48
    products: int = 32
    blocks: int = 5
    context: int = 128


class MomentNetwork(nn.Module):
    """Expected structures (B, size), in scaled coefficients. `spread` (size,) scales them; training measures it."""

    spread: Tensor
    harmonic_degree: Tensor
    table: Tensor
    back: Tensor

    def __init__(self, size: MomentNetworkSize) -> None:
        super().__init__()
        self.size = size
        space = structure_space()
        degree, width = space.degree, space.counts[0]
        table, back = space.places
        for name, values in (("harmonic_degree", space.degree_of_harmonic), ("table", table), ("back", back)):
            self.register_buffer(name, values, persistent=False)
        self.register_buffer("spread", torch.ones(space.size))
        known = sum(count * (count + 1) // 2 for count in space.counts) + 1
        self.context = nn.Sequential(
            nn.Linear(known + 1 + 2 * _WAVES, size.context),
            nn.SiLU(),
            nn.Linear(size.context, size.context),
            nn.SiLU(),
        )
        grid = SphereGrid(degree)
        self.into = DegreeLinear(degree, 2 * width, size.channels)
        self.blocks = nn.ModuleList(ProductBlock(grid, size) for _ in range(size.blocks))
        self.out = DegreeLinear(degree, size.channels, width, gain=0.1)

    @property
    def space(self) -> StructureSpace:
        """The space structures live in."""
        return structure_space()

    def forward(self, noisy: Tensor, known: KnownCorrelations, sigma: Tensor) -> Tensor:
        """The structures (B, size) expected from `noisy` (B, size), under noise of standard deviation `sigma` (B,)."""
        return self.expected(noisy, known.nearest(noisy), known.context.to(noisy), sigma)

    def expected(self, noisy: Tensor, nearest: Tensor, context: Tensor, sigma: Tensor) -> Tensor:
        """The same from what `known` tells of them."""
        kept = (1 + sigma.square()).rsqrt()[:, None]  # of noisy structures of about 1 in each coefficient
        told = self.context(torch.cat([context, _waves(sigma)], dim=-1))
        seen = torch.cat([self._as_table(noisy * kept), self._as_table(nearest)], dim=-1)
        fields = self.into(seen, self.harmonic_degree)
        for block in self.blocks:
            fields = block(fields, told, self.harmonic_degree)
        change = self._as_coefficients(self.out(_of_length_1(fields), self.harmonic_degree))
        return noisy * kept.square() + change * sigma[:, None] * kept

    def _as_table(self, coefficients: Tensor) -> Tensor:
        """((degree + 1)², B, S_0) of (B, size)."""
        return nn.functional.pad(coefficients, (0, 1))[:, self.table].transpose(0, 1)

    def _as_coefficients(self, table: Tensor) -> Tensor:
        return table.transpose(0, 1).flatten(1)[:, self.back]


class DegreeLinear(nn.Module):
    """Sums over channels with weights of each degree's own: ((degree + 1)², B, C) to ((degree + 1)², B, C')."""

    def __init__(self, degree: int, channels_in: int, channels_out: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(degree + 1, channels_in, channels_out))
        nn.init.normal_(self.weight, std=gain / math.sqrt(channels_in))

    def forward(self, fields: Tensor, degrees: Tensor) -> Tensor:
        """`degrees` ((degree + 1)²,): l of each harmonic."""
        return torch.bmm(fields, self.weight[degrees])


class ProductBlock(nn.Module):
    """Adds to functions on the sphere what products of two sums over them make, and a sum over them."""

    def __init__(self, grid: SphereGrid, size: MomentNetworkSize) -> None:
        super().__init__()
        degree, channels, products = grid.degree, size.channels, size.products
        self.grid = grid
        self.gain = nn.Parameter(torch.ones(degree + 1, 1, channels))
        self.told_gain = _silent(nn.Linear(size.context, (degree + 1) * channels))
        self.told_share = _silent(nn.Linear(size.context + products, products))
        self.factors = DegreeLinear(degree, channels, 2 * products)
        self.of_products = DegreeLinear(degree, products, channels, gain=0.5)
        self.of_fields = DegreeLinear(degree, channels, channels, gain=0.5)

    def forward(self, fields: Tensor, told: Tensor, degrees: Tensor) -> Tensor:
        """`fields` ((degree + 1)², B, C) with `told` (B, context)."""
        gain = self.gain + self.told_gain(told).unflatten(-1, (-1, fields.shape[-1])).transpose(0, 1)
        scaled = _of_length_1(fields) * gain[degrees]
        first, second = self.factors(scaled, degrees).permute(1, 2, 0).chunk(2, dim=1)
        products = self.grid.product(first, second).permute(2, 0, 1)
        power = products.square().mean(dim=0)  # (B, products): numbers that do not turn
        share = 2 * torch.sigmoid(self.told_share(torch.cat([told, (power + 1e-4).log()], dim=-1)))
        products = products * (power.mean(dim=-1, keepdim=True) + _TINY).rsqrt() * share
        return fields + self.of_products(products, degrees) + self.of_fields(scaled, degrees)


def _of_length_1(fields: Tensor) -> Tensor:
    """Each structure's functions over their root mean square."""
    return fields * (fields.square().mean(dim=(0, 2), keepdim=True) + _TINY).rsqrt()


def _silent(layer: nn.Linear) -> nn.Linear:
    """The layer with weights of 0: what it tells is learned."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _waves(sigma: Tensor) -> Tensor:
    """log σ and waves of it, (B, 1 + 2 · _WAVES)."""
    level = sigma.log()[:, None] / 4
    phases = level * (math.pi / 4 * 2.0 ** torch.arange(_WAVES, device=sigma.device))
    return torch.cat([level, phases.sin(), phases.cos()], dim=-1)
