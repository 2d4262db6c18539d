"""Attention over (other image, relative angle): which images show the same view, and turned by how much.

For each head, a softmax over (j, φ) jointly of scores s_ij(φ), and `o_i = Σ a_ij(φ) T_φ v_j`. The scores add two parts:

    learned     ⟨q_i, T_φ k_j⟩ / √(d T)
    likelihood  Σ_k w_k [⟨y_i, T_φ x̂_j⟩_k − ½ h_i(k) ‖x̂_j‖²_k]

With all ring weights w_k = 1 the second is the logarithm of how probable the measured image y_i is if it shows what
image j is so far believed to show, x̂_j, turned by φ: h is (W H)² and noise has variance 1. So a block starts as a step
of expectation maximisation in which every image is a class, and learns from there. An image never attends to itself,
since its own noise would match best: what it keeps for itself is a further choice of the softmax, without a value,
and its own features pass beside the attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clarice.denoise.angular_weights import AngularWeights
from clarice.denoise.polar_layers import ImageNorm
from clarice.geometry.angular import (
    RULED_OUT,
    assign,
    average_spectra,
    correlate_factors,
    right_factors,
    to_spectrum,
)

# Images for which attention is worked out at once on a CPU when nothing is learned: scores are gone through several
# times, and so many stay in its cache (sets of 256 and 512 in half the time).
_ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class MeasuredRings:
    """Images as they were measured: rings (B, n, T, R), their packed spectrum, and what filtered them.

    The last K of the rings are Fourier rings. `spectrum` (M, B, n, 2R); `profile` (B, n, K): mean of (W H)² over each
    Fourier ring, less 1.
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
    Fourier transforms along the angle is linear over channels, so it is done on the spectra. `ring_area` (K,): weights
    with which sums over Fourier rings are those over images. `plain`: no image is turned, φ = 0 alone is open. Without
    `likelihood` scores are the learned part alone. Both are there to measure what they take away.
    """

    def __init__(
        self,
        channels: int,
        rings: int,
        heads: int,
        ring_area: Tensor,
        *,
        plain: bool = False,
        likelihood: bool = True,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels do not divide into {heads} heads")
        self.heads = heads
        self.plain, self.likelihood = plain, likelihood
        self.ring_area: Tensor
        self.register_buffer("ring_area", ring_area, persistent=False)
        profile = len(ring_area)
        self.norm = ImageNorm(channels)
        self.project = nn.Linear(channels, 3 * channels, bias=False)  # queries, keys, values
        if likelihood:
            with torch.no_grad():
                self.project.weight[: 2 * channels] *= 0.3  # it leads at first
            trust = torch.linspace(0.5, 1.25, heads)[:, None]
            self.measured_weight = nn.Parameter(trust.expand(heads, profile).clone())
            self.believed_weight = nn.Parameter(torch.zeros(heads, profile))
        self.kept = nn.Linear(channels, heads)
        self.merge = nn.Linear(channels + heads * rings, channels, bias=False)
        self.tell = nn.Linear((2 + profile) * heads, channels)

    def forward(
        self, features: Tensor, believed: Tensor, measured: MeasuredRings, allowed: Tensor | None = None
    ) -> tuple[Tensor, AngularWeights]:
        """`believed` (B, n, T, K): Fourier rings of each image's present estimate.

        `allowed` (B, n, n) bool: which sources each image may use; itself is never one.
        """
        normed = self.norm(features)
        count, n_angles = features.shape[1:3]
        asks, answers, value = self._projections(normed)
        energy = features.new_zeros((1, 1, count, 1))
        if self.likelihood:
            seen, known = self._likelihood_factors(measured, believed, asks.dtype)
            asks, answers = torch.cat([asks, seen], dim=-1), torch.cat([answers, known], dim=-1)
            energy = self._energy(measured, believed)
        closed = _closed(count, allowed, features.device)
        energy = energy.masked_fill(closed[:, None], RULED_OUT)
        angles = 1 if self.plain else n_angles
        choices = angles * (~closed).sum(dim=-1).clamp_min(1)  # (1 or B, n): what is kept competes with all of them
        kept = self.kept(normed.mean(dim=2)).transpose(1, 2).float() + choices.log()[:, None]  # (B, H, n)
        asks, factors = asks.flatten(-2), right_factors(answers.flatten(-2))
        values = (value, measured.spectrum.to(value.dtype))

        def attend(rows: slice) -> tuple[AngularWeights, Tensor]:
            scores = correlate_factors(asks[..., rows, :], factors, n_angles).float() + energy[:, :, rows]
            if self.plain:
                scores = torch.cat([scores[:1], torch.full_like(scores[1:], RULED_OUT)])
            weights = AngularWeights.of(assign(scores, kept[..., rows]))
            return weights, self._averages(weights, *values)

        if torch.is_grad_enabled() or features.device.type != "cpu":
            weights, averaged = attend(slice(None))
        else:
            weights, averaged = _in_parts(attend, count)
        told = torch.cat([weights.evidence, weights.to_source @ measured.profile[:, None]], dim=-1)
        told = self.tell(told.transpose(1, 2).flatten(-2))[:, :, None]
        return features + averaged + told, weights

    def _projections(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Spectra (M, B, H, n, 2, d), real and imaginary parts, of queries and keys; (M, B, H, n, 2d) of values."""
        n_angles, channels = normed.shape[-2:]
        spectrum = torch.view_as_real(torch.fft.rfft(normed.float(), dim=2, norm="ortho"))  # (B, n, M, C, 2)
        # Contiguous, or torch copies the weights for every (frequency, image): four times the time of a whole network.
        by_frequency = spectrum.permute(2, 0, 1, 4, 3).to(normed.dtype).contiguous()
        packed = self.project(by_frequency)  # (M, B, n, 2, 3C)
        by_head = packed.unflatten(-1, (3, self.heads, -1)).permute(4, 0, 1, 5, 2, 3, 6)
        return by_head[0] / math.sqrt(channels // self.heads * n_angles), by_head[1], by_head[2].flatten(-2)

    def _likelihood_factors(
        self, measured: MeasuredRings, believed: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Spectra (M, B, H, n, 2, K) of what was measured, weighed by ring and head, and of what is believed."""
        rings = len(self.ring_area)
        raw = measured.spectrum.view(*measured.spectrum.shape[:-1], 2, -1)[..., -rings:]  # (M, B, n, 2, K)
        estimate = to_spectrum(believed.float().transpose(-2, -1))
        estimate = estimate.view(*estimate.shape[:-1], 2, rings)
        by_measured = self.ring_area * self.measured_weight  # (H, K)
        by_believed = self.ring_area * self.believed_weight
        shape = (1, 1, self.heads, 1, 1, rings)
        seen = raw[:, :, None] * by_measured.view(shape) + estimate[:, :, None] * by_believed.view(shape)
        known = estimate[:, :, None].expand_as(seen)
        return seen.to(dtype), known.to(dtype)

    def _energy(self, measured: MeasuredRings, believed: Tensor) -> Tensor:
        """−½ Σ_k w_k h_i(k) ‖x̂_j‖²_k, (B, H, n, j)."""
        power = believed.float().square().sum(dim=2) * self.ring_area  # (B, j, K)
        filtered = (1 + measured.profile)[:, None] * self.measured_weight[:, None]  # (B, H, n, K)
        return -0.5 * (filtered @ power[:, None].transpose(-2, -1))

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


def _in_parts(attend: Callable[[slice], tuple[AngularWeights, Tensor]], count: int) -> tuple[AngularWeights, Tensor]:
    """What `attend` finds for some of `count` images at a time, joined."""
    parts, averages = [], []
    for start in range(0, count, _ROWS_AT_ONCE):
        weights, averaged = attend(slice(start, start + _ROWS_AT_ONCE))
        parts.append(weights.over_heads())
        averages.append(averaged)
    return AngularWeights.joined(parts), torch.cat(averages, dim=1)


def _closed(count: int, allowed: Tensor | None, device: torch.device) -> Tensor:
    """True where an image may not attend, itself included: (1 or B, n, n)."""
    itself = torch.eye(count, dtype=torch.bool, device=device)[None]
    return itself if allowed is None else itself | ~allowed
