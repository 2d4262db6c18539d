"""The conditional U-Net of diffusion (SR3, Saharia et al. 2021): what it is shown, and what it says of residuals.

SR3 concatenates the noisy image with the one it is conditional on, and tells the network the continuous noise level γ.
Ours sees the residual from a Gaussian estimate, in units of that estimate's error. With the target v, a network that
outputs nothing then samples from the estimate itself, its error included: all that is learned comes on top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

import torch
from torch import Tensor, nn

from clarice.denoise.filtered_input import filtered_channels
from clarice.denoise.gaussian_estimate import GaussianEstimate
from clarice.denoise.noise_schedule import Kind, NoiseSchedule
from clarice.geometry.fourier import shell_index

_GROUPS = 8
_HEAD_CHANNELS = 64
# Sines and cosines each by which a noise level is told.
_WAVES = 16
# Log-odds of γ at which it is kept how wrong a network is: of the linear schedule's first and last step, about.
_LEAST_ODDS, _LARGEST_ODDS, _LEVELS = -10.0, 14.0, 13
# Channels beside the residual: the particle by two filters, and the estimate's mean.
_SHOWN = 3


@dataclass(frozen=True)
class DiffusionSize:
    """How large the network is, and the diffusion it is made for.

    A level has `multiples` times `channels` and half the edge of the one before, `blocks` residual blocks on the way
    down and one more on the way up; images of the edges `attention` attend to themselves. `patch`: pixels of so many
    rows and columns enter as one. `estimate`: what the residual is taken from, the "joint" denoiser's images and the
    error it foretells, or zero and the power "spectrum" of the set. `target`: what the network says, "v" (Salimans &
    Ho 2022) or the "noise".
    """

    box: int = 64
    channels: int = 48
    multiples: Sequence[int] = (1, 2, 2)
    blocks: int = 1
    attention: Sequence[int] = (8,)
    patch: int = 2
    dropout: float = 0.0
    estimate: Literal["joint", "spectrum"] = "joint"
    target: Literal["v", "noise"] = "v"
    schedule: Kind = "linear"
    schedule_steps: int = 2000

    def __post_init__(self) -> None:
        for name in ("estimate", "target"):
            if getattr(self, name) not in (known := get_args(get_type_hints(type(self))[name])):
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(known)}")
        NoiseSchedule(self.schedule, self.schedule_steps)
        for name in ("multiples", "attention"):
            values = getattr(self, name)
            if not isinstance(values, (list, tuple)) or any(type(one) is not int or one < 1 for one in values):
                raise ValueError(f"{name} {values!r} must be a list of whole numbers of at least 1")
        if not self.multiples:
            raise ValueError("multiples must name at least one level")
        if self.channels % _GROUPS:
            raise ValueError(f"channels {self.channels} must be a multiple of {_GROUPS}, the groups of its norm")
        for multiple, edge in zip(self.multiples, self.edges, strict=True):
            width = multiple * self.channels
            if edge in self.attention and width % _heads(width):
                raise ValueError(
                    f"the {width} channels at edge {edge} do not go evenly into its {_heads(width)} heads of attention"
                )
        coarsest = self.patch * 2 ** (len(self.multiples) - 1)
        if self.box % coarsest:
            raise ValueError(f"box {self.box} must be a multiple of {coarsest} for its levels and patches")
        if not (isinstance(self.dropout, (int, float)) and 0 <= self.dropout < 1):
            raise ValueError(f"dropout {self.dropout!r} must be a number of at least 0 and below 1")

    @property
    def noise_schedule(self) -> NoiseSchedule:
        return NoiseSchedule(self.schedule, self.schedule_steps)

    @property
    def edges(self) -> list[int]:
        """Edge of the features on each level."""
        return [self.box // self.patch // 2**level for level in range(len(self.multiples))]


@dataclass(frozen=True)
class Condition:
    """What a sample is conditional on: `shown` (n, 3, L, L) beside the residual, and `told` (n, 2 (L // 2 + 1)).

    Shown are the particle by two filters and the mean of its estimate; told, by shell, are the logarithm of the
    estimate's squared error and the mean of (W H)².
    """

    shown: Tensor
    told: Tensor

    @classmethod
    def of(cls, noisy: Tensor, transfer: Tensor | None, estimate: GaussianEstimate) -> Condition:
        """Of whitened particles (n, L, L) with their W H (n, L, L // 2 + 1) or None."""
        shown = torch.cat([filtered_channels(noisy, transfer), estimate.mean[:, None]], dim=1)
        log_error = 2 * estimate.deviation.log()
        seen = torch.zeros_like(log_error) if transfer is None else _profile(transfer) - 1
        return cls(shown, torch.cat([log_error, seen], dim=1))

    def repeated(self, times: int) -> Condition:
        """Each image `times` times in a row."""
        return Condition(self.shown.repeat_interleave(times, dim=0), self.told.repeat_interleave(times, dim=0))


def _profile(transfer: Tensor) -> Tensor:
    """Mean of (W H)² by shell, (n, L // 2 + 1), on the grid of rfft2."""
    box = transfer.shape[-2]
    shell = torch.fft.ifftshift(shell_index(box, 2, transfer.device))[:, : box // 2 + 1].clamp(max=box // 2).flatten()
    sums = transfer.new_zeros((len(transfer), box // 2 + 1)).index_add(1, shell, transfer.square().flatten(1))
    return sums / torch.bincount(shell, minlength=box // 2 + 1)


class DiffusionNetwork(nn.Module):
    """Says of noisy residuals what they are without their noise; see `DiffusionSize`.

    `unsaid` (levels, L // 2 + 1): the mean squared error of what it says, in terms of v, by log-odds of γ and by shell.
    It is measured once a network is trained; 1, until then, is that of one that says nothing.
    """

    def __init__(self, size: DiffusionSize) -> None:
        super().__init__()
        self.size = size
        self.unsaid: Tensor
        self.register_buffer("unsaid", torch.ones((_LEVELS, size.box // 2 + 1)))
        widths = [size.channels * multiple for multiple in size.multiples]
        told = 4 * size.channels
        self.level = nn.Linear(2 * _WAVES, told)
        self.told = nn.Linear(2 * (size.box // 2 + 1), told)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(told, told), nn.SiLU())
        self.enter = nn.Conv2d((1 + _SHOWN) * size.patch**2, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        kept = [widths[0]]
        inward = widths[0]

        def block(channels_in: int, channels_out: int, level: int) -> _Block:
            return _Block(channels_in, channels_out, told, size.dropout, size.edges[level] in size.attention)

        for level, width in enumerate(widths):
            for _ in range(size.blocks):
                self.down.append(block(inward, width, level))
                inward = width
                kept.append(inward)
            if level < len(widths) - 1:
                self.down.append(nn.Conv2d(inward, inward, 3, stride=2, padding=1))
                kept.append(inward)
        self.middle = nn.ModuleList(block(inward, inward, len(widths) - 1) for _ in range(2))
        for level in reversed(range(len(widths))):
            for _ in range(size.blocks + 1):
                self.up.append(block(inward + kept.pop(), widths[level], level))
                inward = widths[level]
            if level > 0:
                self.up.append(_Enlarge(inward))
        self.leave = nn.Sequential(
            nn.GroupNorm(_GROUPS, inward), nn.SiLU(), nn.Conv2d(inward, size.patch**2, 3, padding=1)
        )
        _start_at_zero(self.leave[-1])

    def forward(self, residual: Tensor, remaining: Tensor, condition: Condition) -> Tensor:
        """The target (n, L, L) for noisy residuals (n, L, L) whose γ is `remaining` (n,)."""
        odds = log_odds(remaining)
        told: Tensor = self.mix(self.level(_waves(odds)) + self.told(condition.told))
        features = torch.cat([residual[:, None], condition.shown], dim=1)
        features = nn.functional.pixel_unshuffle(features, self.size.patch)
        features = self.enter(features.contiguous(memory_format=torch.channels_last))
        kept = [features]
        for layer in self.down:
            features = layer(features, told) if isinstance(layer, _Block) else layer(features)
            kept.append(features)
        for layer in self.middle:
            features = layer(features, told)
        for layer in self.up:
            features = (
                layer(torch.cat([features, kept.pop()], dim=1), told) if isinstance(layer, _Block) else layer(features)
            )
        return nn.functional.pixel_shuffle(self.leave(features).float(), self.size.patch)[:, 0]

    def cleaned(self, residual: Tensor, remaining: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """The residual (n, L, L) without its noise, as far as it can be told, and the noise (n, L, L) in it."""
        said = self(residual, remaining, condition)
        signal, noise = (share.float()[:, None, None] for share in (remaining.sqrt(), (1 - remaining).sqrt()))
        if self.size.target == "v":
            return signal * residual - noise * said, noise * residual + signal * said
        return (residual - noise * said) / signal, said

    def unsaid_at(self, remaining: Tensor) -> Tensor:
        """`unsaid` at γ = `remaining` (n,): (n, L // 2 + 1).

        Of a residual at that γ, (1 − γ) times as much is the variance of what it may be.
        """
        place = (log_odds(remaining) - _LEAST_ODDS) / (_LARGEST_ODDS - _LEAST_ODDS) * (_LEVELS - 1)
        place = place.clamp(0, _LEVELS - 1)
        below = place.long().clamp(max=_LEVELS - 2)
        return torch.lerp(self.unsaid[below], self.unsaid[below + 1], (place - below)[:, None])

    @staticmethod
    def levels() -> Tensor:
        """γ at which `unsaid` is kept, (levels,) float64."""
        return torch.linspace(_LEAST_ODDS, _LARGEST_ODDS, _LEVELS, dtype=torch.float64).sigmoid()

    def target(self, residual: Tensor, noise: Tensor, remaining: Tensor) -> Tensor:
        """What the network should say of clean residuals (n, L, L) with `noise` on them."""
        if self.size.target == "noise":
            return noise
        shares = (share.float()[:, None, None] for share in (remaining.sqrt(), (1 - remaining).sqrt()))
        signal_share, noise_share = shares
        return signal_share * noise - noise_share * residual


def log_odds(remaining: Tensor) -> Tensor:
    """Logarithm of γ / (1 − γ), float32."""
    return torch.logit(remaining.double(), eps=1e-7).float()


def _waves(odds: Tensor) -> Tensor:
    """Sines and cosines (n, 32) of log-odds (n,), of periods from 4 to 64."""
    frequency = 2 * math.pi / torch.logspace(math.log10(4), math.log10(64), _WAVES, device=odds.device)
    angle = odds[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _start_at_zero(layer: nn.Module) -> None:
    """Makes the output of a convolution zero until it is trained."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class _Block(nn.Module):
    """Two convolutions beside a skip connection, told the noise level by scale and offset of its second norm."""

    def __init__(self, channels_in: int, channels_out: int, told: int, dropout: float, attends: bool) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(_GROUPS, channels_in)
        self.first = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.tell = nn.Linear(told, 2 * channels_out)
        self.second_norm = nn.GroupNorm(_GROUPS, channels_out)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)
        self.attend = _SelfAttention(channels_out) if attends else nn.Identity()
        _start_at_zero(self.second)

    def forward(self, features: Tensor, told: Tensor) -> Tensor:
        inner = self.first(nn.functional.silu(self.first_norm(features)))
        scale, offset = self.tell(told)[..., None, None].chunk(2, dim=1)
        inner = self.second_norm(inner) * (1 + scale) + offset
        features = self.skip(features) + self.second(self.dropout(nn.functional.silu(inner)))
        attended: Tensor = self.attend(features)
        return attended


def _heads(channels: int) -> int:
    return max(1, channels // _HEAD_CHANNELS)


class _SelfAttention(nn.Module):
    """Every pixel attends to all others of its image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = _heads(channels)
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.project = nn.Conv2d(channels, 3 * channels, 1)
        self.leave = nn.Conv2d(channels, channels, 1)
        _start_at_zero(self.leave)

    def forward(self, features: Tensor) -> Tensor:
        count, channels, *edges = features.shape
        projected = self.project(self.norm(features)).reshape(count, 3, self.heads, channels // self.heads, -1)
        query, key, value = projected.transpose(-1, -2).unbind(dim=1)  # (n, heads, pixels, channels)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        attended: Tensor = features + self.leave(mixed.transpose(-1, -2).reshape(count, channels, *edges))
        return attended


class _Enlarge(nn.Module):
    """Twice the edge: nearest pixels, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        enlarged: Tensor = self.convolve(nn.functional.interpolate(features, scale_factor=2.0, mode="nearest"))
        return enlarged
