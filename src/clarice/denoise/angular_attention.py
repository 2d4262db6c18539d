"""Attention over (other image, relative angle): which images show the same view, and turned by how much.

For each head, `s_ij(φ) = ⟨q_i, T_φ k_j⟩ / √(d T)`, a softmax over (j, φ) jointly, and `o_i = Σ a_ij(φ) T_φ v_j`. An
image never attends to itself, since its own noise would match best: what an image keeps for itself is a further
choice of the softmax, without a value, and its own features pass beside the attention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clarice.denoise.polar_layers import ImageNorm
from clarice.geometry.angular import RULED_OUT, assign, average_spectra, correlate_spectra, to_spectrum


@dataclass(frozen=True)
class AngularWeights:
    """Attention a_ij(φ) of B sets: `posterior` (T, B, H, n, j); with `kept` (B, H, n) it sums to 1 over (φ, j).

    Index φ: source j turned by +2πφ/T lies on image i.
    """

    posterior: Tensor

    @property
    def kept(self) -> Tensor:
        """Weight each image gives to no other, (B, H, n)."""
        return 1 - self.posterior.sum(dim=(0, -1))

    def to_source(self) -> Tensor:
        """Weight each image gives to each source, at any angle: (B, H, n, j)."""
        return self.posterior.sum(dim=0)

    def evidence(self) -> Tensor:
        """What tells how far noise was averaged out, (B, H, n, 2): weight given away and log of effective sources."""
        given = self.posterior.sum(dim=(0, -1))
        concentration = self.posterior.square().sum(dim=(0, -1)) / given.square().clamp_min(1e-12)
        effective = torch.where(given > 1e-6, -torch.log(concentration.clamp_min(1e-12)), torch.zeros_like(given))
        return torch.stack([given, effective / math.log(100)], dim=-1)


@dataclass(frozen=True)
class MeasuredRings:
    """Images as they were measured: rings (B, n, T, R), their packed spectrum, and what filtered them.

    `spectrum` (M, B, n, 2R); `profile` (B, n, K): mean of (W H)² over each Fourier ring.
    """

    rings: Tensor
    spectrum: Tensor
    profile: Tensor

    @classmethod
    def of(cls, rings: Tensor, profile: Tensor) -> MeasuredRings:
        return cls(rings, to_spectrum(rings.transpose(-2, -1)), profile)


class AngularAttention(nn.Module):
    """Adds to each image's features (B, n, T, C) what the others hold, aligned; returns the weights as well.

    Beside the values, a learned reading of the features, each head averages the images' own rings as they were
    measured: the mean that more sources make better, whatever the features forgot. Everything between the two
    Fourier transforms along the angle is linear over channels, so it is done on the spectra.
    """

    def __init__(self, channels: int, rings: int, profile: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels do not divide into {heads} heads")
        self.heads = heads
        self.norm = ImageNorm(channels)
        self.project = nn.Linear(channels, 3 * channels, bias=False)  # queries, keys, values
        self.kept = nn.Linear(channels, heads)
        self.log_temperature = nn.Parameter(torch.full((heads,), math.log(2.0)))
        self.merge = nn.Linear(channels + heads * rings, channels, bias=False)
        self.tell = nn.Linear((2 + profile) * heads, channels)

    def forward(
        self, features: Tensor, measured: MeasuredRings, allowed: Tensor | None = None
    ) -> tuple[Tensor, AngularWeights]:
        """`allowed` (B, n, n) bool: which sources each image may use; itself is never one."""
        normed = self.norm(features)
        n_angles = features.shape[-2]
        query, key, value = self._projections(normed)
        scores = correlate_spectra(query, key, n_angles).float()
        scores = scores + _closed(features, allowed)
        kept = self.kept(normed.mean(dim=2)).transpose(1, 2).float() + math.log(n_angles)  # (B, H, n)
        weights = AngularWeights(assign(scores, kept))
        averaged = self._averages(weights, value, measured.spectrum.to(value.dtype))
        told = torch.cat([weights.evidence(), weights.to_source() @ measured.profile[:, None]], dim=-1)
        told = self.tell(told.transpose(1, 2).flatten(-2))[:, :, None]
        return features + averaged + told, weights

    def _projections(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Spectra (M, B, H, n, 2d) of queries, keys and values."""
        n_angles, channels = normed.shape[-2:]
        spectrum = torch.view_as_real(torch.fft.rfft(normed.float(), dim=2, norm="ortho"))  # (B, n, M, C, 2)
        packed = self.project(spectrum.permute(2, 0, 1, 4, 3).to(normed.dtype))  # (M, B, n, 2, 3C)
        by_head = packed.unflatten(-1, (3, self.heads, -1)).permute(4, 0, 1, 5, 2, 3, 6).flatten(-2)
        scale = self.log_temperature.exp() / math.sqrt(channels // self.heads * n_angles)
        query: Tensor = by_head[0] * scale[:, None, None].to(by_head.dtype)
        return query, by_head[1], by_head[2]

    def _averages(self, weights: AngularWeights, value: Tensor, measured: Tensor) -> Tensor:
        """Values and measured rings averaged by the weights, merged over heads: (B, n, T, C)."""
        n_angles, _, heads, count = weights.posterior.shape[:4]
        posterior = weights.posterior.to(value.dtype)
        values = average_spectra(posterior, value)  # (M, B, H, n, 2d)
        # All heads average the same rings: one product over (head, image).
        rings = average_spectra(posterior.flatten(2, 3), measured)
        rings = rings.view(*rings.shape[:2], heads, count, -1)
        both = [part.view(*part.shape[:-1], 2, -1).permute(0, 1, 3, 4, 2, 5).flatten(-2) for part in (values, rings)]
        merged = self.merge(torch.cat(both, dim=-1)).float()  # (M, B, n, 2, C)
        spectrum = torch.complex(merged[..., 0, :], merged[..., 1, :])
        averaged: Tensor = torch.fft.irfft(spectrum.permute(1, 2, 0, 3), n=n_angles, dim=2, norm="ortho")
        return averaged


def _closed(features: Tensor, allowed: Tensor | None) -> Tensor:
    """`RULED_OUT` where an image may not attend, itself included, else 0: (1 or B, 1, n, n)."""
    count = features.shape[1]
    itself = torch.eye(count, dtype=torch.bool, device=features.device)[None]
    closed = itself if allowed is None else itself | ~allowed
    return torch.zeros(closed.shape, device=features.device).masked_fill(closed, RULED_OUT)[:, None]
