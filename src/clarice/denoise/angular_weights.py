"""Attention over (other image, relative angle) once it was given, and what can be said of it image by image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AngularWeights:
    """Attention a_ij(φ) of B sets: `posterior` (T, B, H, n, j); with `kept` (B, H, n) it sums to 1 over (φ, j).

    Index φ: source j turned by +2πφ/T lies on image i. `to_source` (B, H, n, j): weight at any angle. `evidence`
    (B, H, n, 2) tells how far noise was averaged out: weight given away, and log of effective sources. Weights that
    were given in parts hold the mean posterior over heads, (T, B, 1, n, j).
    """

    posterior: Tensor
    to_source: Tensor
    evidence: Tensor

    @classmethod
    def of(cls, posterior: Tensor) -> AngularWeights:
        """From the posterior of all heads."""
        to_source = posterior.sum(dim=0)
        given = to_source.sum(dim=-1)
        concentration = posterior.square().sum(dim=(0, -1)) / given.square().clamp_min(1e-12)
        effective = torch.where(given > 1e-6, -torch.log(concentration.clamp_min(1e-12)), torch.zeros_like(given))
        return cls(posterior, to_source, torch.stack([given, effective / math.log(100)], dim=-1))

    @classmethod
    def joined(cls, parts: Sequence[AngularWeights]) -> AngularWeights:
        """Of all images, from those of some of them each, in order."""
        return cls(
            torch.cat([part.posterior for part in parts], dim=3),
            torch.cat([part.to_source for part in parts], dim=2),
            torch.cat([part.evidence for part in parts], dim=2),
        )

    def over_heads(self) -> AngularWeights:
        """With the posterior's mean over heads."""
        return AngularWeights(self.posterior.mean(dim=2, keepdim=True), self.to_source, self.evidence)

    @property
    def kept(self) -> Tensor:
        """Weight each image gives to no other, (B, H, n)."""
        return 1 - self.evidence[..., 0]
