"""What is drawn for a batch of sets: sizes, views, turns, shifts, defocus, noise level. Small, and on the CPU.

All draws of a batch come from (seed, position), so every process draws the same batch and takes its share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.errors import UsageError
from clarice.core.particles import Optics
from clarice.core.seeds import generator_of, seeds_of
from clarice.geometry.so3 import random_rotations
from clarice.physics.defocus import defocus_groups
from clarice.training.surroundings import draw_strengths

FloatArray = NDArray[np.float64]

_STREAMS = ("shape", "poses", "optics", "noise", "surroundings")
# Microscopes of CTF-affected sets: kV, mm and amplitude contrast, each with its odds.
_VOLTAGES_KV, _VOLTAGE_ODDS = (300.0, 200.0), (0.8, 0.2)
_ABERRATIONS_MM, _ABERRATION_ODDS = (2.7, 2.0, 1.4, 0.01), (0.7, 0.1, 0.1, 0.1)
_AMPLITUDE_CONTRAST = (0.07, 0.1)
_WHOLE_NUMBERS, _LISTS = ("seed", "images_per_batch", "sizes"), ("sizes", "size_weights")
# Batches among which the one that takes most memory is looked for.
_LOOKED_THROUGH = 1000


@dataclass(frozen=True)
class SetSettings:
    """What the sets of endless training look like.

    A batch holds `images_per_batch` images as sets of one size, drawn from `sizes` with `size_weights`. Views of a
    set: one with the odds `one_view_share`, every image its own with `own_views_share`, otherwise a log-uniform
    number of views. SNR is log-uniform. `ctf_share` is a share of batches; the other shares are of sets. In
    `some_empty_share` of the sets a random share of the images is empty; a `structural_share` carries structural noise.
    """

    seed: int
    images_per_batch: int = 128
    sizes: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128)
    size_weights: Sequence[float] = (1.0, 0.5, 0.5, 1.0, 1.0, 2.0, 2.0, 2.0)
    one_view_share: float = 0.1
    own_views_share: float = 0.2
    least_snr: float = 0.005
    largest_snr: float = 0.2
    ctf_share: float = 0.5
    least_ctf_pixel_angstrom: float = 2.5
    shift_share: float = 0.5
    max_shift_px: float = 4.0
    poisson_share: float = 0.15
    empty_set_share: float = 0.08
    some_empty_share: float = 0.08
    structural_share: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            _insist_on_numbers(field.name, getattr(self, field.name))
        shares = ("one_view", "own_views", "ctf", "shift", "poisson", "empty_set", "some_empty", "structural")
        checks = [
            (self.seed >= 0, f"the seed {self.seed} must not be negative"),
            (self.images_per_batch >= 1, f"images_per_batch {self.images_per_batch} must be at least 1"),
            (min(self.sizes, default=0) >= 1, "sizes must be whole numbers of at least 1"),
            (len(self.sizes) == len(self.size_weights), "size_weights must be as many as sizes"),
            (min(self.size_weights, default=0) >= 0, "size_weights must not be negative"),
            (sum(self.size_weights) > 0, "size_weights must not all be 0"),
            (0 < self.least_snr <= self.largest_snr, "the SNR must be above 0, and its least below its largest"),
            (self.max_shift_px >= 0, f"max_shift_px {self.max_shift_px:g} must not be negative"),
            (self.least_ctf_pixel_angstrom >= 0, "least_ctf_pixel_angstrom must not be negative"),
            (self.one_view_share + self.own_views_share <= 1, "one_view_share and own_views_share exceed 1"),
            (self.empty_set_share + self.some_empty_share <= 1, "empty_set_share and some_empty_share exceed 1"),
        ]
        checks += [(0 <= getattr(self, f"{n}_share") <= 1, f"{n}_share must lie between 0 and 1") for n in shares]
        checks += [
            (self.images_per_batch % size == 0, f"images_per_batch {self.images_per_batch} is no multiple of {size}")
            for size in self.sizes
            if size > 0
        ]
        for holds, message in checks:
            if not holds:
                raise UsageError(f"training sets: {message}")


def _insist_on_numbers(name: str, value: Any) -> None:
    kinds = (int,) if name in _WHOLE_NUMBERS else (int, float)
    listed = isinstance(value, (list, tuple))
    numbers = value if listed else [value]
    if listed != (name in _LISTS) or not all(type(one) in kinds and math.isfinite(one) for one in numbers):
        wanted = "whole number" if name in _WHOLE_NUMBERS else "number"
        wanted = f"a list of {wanted}s" if name in _LISTS else f"a {wanted}"
        raise UsageError(f"training sets: {name} {value!r} must be {wanted}")


def with_defaults(sets: Mapping[str, Any]) -> dict[str, Any]:
    """The sets of a recipe, and what it leaves to `SetSettings`."""
    return {field.name: field.default for field in fields(SetSettings) if field.default is not MISSING} | dict(sets)


@dataclass(frozen=True)
class SetDraws:
    """B sets of N images: which specimen and view each image shows, and how it was turned, shifted and seen.

    `slot` (B,) into the pool; `view` (B, N), −1 for empty images; `rotations` (B, N, 3, 3) with the turn of
    `angle_rad` (B, N) in them; `shifts_px` (B, N, 2); `snr`, `poisson`, `noise_seed` (B,). `defocus_rows` (B, N, 3) as
    U, V in Å and the angle in degrees and `microscope` (B, 3) as kV, mm and amplitude contrast, or None without CTF.
    `strengths` (B, kinds): of structural noise, by `surroundings.KINDS`, or None where no set has any.
    """

    slot: NDArray[np.int64]
    view: Tensor
    rotations: Tensor
    angle_rad: Tensor
    shifts_px: Tensor
    snr: Tensor
    poisson: NDArray[np.bool_]
    noise_seed: NDArray[np.uint64]
    defocus_rows: FloatArray | None
    microscope: FloatArray | None
    strengths: FloatArray | None = None

    def share(self, rank: int, world: int) -> SetDraws:
        """The sets rank, rank + world, …: one process's part."""
        mine = slice(rank, None, world)
        whole = {field.name: getattr(self, field.name) for field in fields(self)}
        part: dict[str, Any] = {name: None if values is None else values[mine] for name, values in whole.items()}
        return SetDraws(**part)


def _stream(seed: int, position: int, name: str) -> torch.Generator:
    return generator_of(seed, position, _STREAMS.index(name))


def _uniform(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def _size_and_ctf(settings: SetSettings, shape: torch.Generator) -> tuple[int, bool]:
    """Images a set of a batch, and whether it has a CTF: the first draws of its stream "shape"."""
    weights = torch.tensor(settings.size_weights, dtype=torch.float64)
    size = settings.sizes[int(torch.multinomial(weights, 1, generator=shape))]
    return size, float(_uniform(shape, 1)) < settings.ctf_share


def largest_batch(settings: SetSettings, position: int) -> int:
    """The first batch with the largest sets, if possible with a CTF, of the many that come from `position` on."""
    coming = range(position, position + _LOOKED_THROUGH)
    return max(coming, key=lambda number: _size_and_ctf(settings, _stream(settings.seed, number, "shape")))


def draw_sets(settings: SetSettings, position: int, slots: int) -> SetDraws:
    """The draws of batch number `position`, over a pool of `slots` specimens."""
    shape = _stream(settings.seed, position, "shape")
    size, with_ctf = _size_and_ctf(settings, shape)
    sets = settings.images_per_batch // size
    rounds = [torch.randperm(slots, generator=shape) for _ in range(-(-sets // slots))]
    kind = _uniform(shape, sets, 6)
    view = _views(settings, kind[:, 0], kind[:, 1], size, shape)
    empty = _empties(settings, kind[:, 2], size, shape)
    log_snr = np.log(settings.least_snr) + kind[:, 3] * np.log(settings.largest_snr / settings.least_snr)

    poses = _stream(settings.seed, position, "poses")
    of_view = torch.from_numpy(random_rotations(sets * size, poses)).reshape(sets, size, 3, 3)
    angle = 2 * torch.pi * _uniform(poses, sets, size)
    turned = _in_plane(angle) @ of_view.gather(1, view[:, :, None, None].expand(-1, -1, 3, 3))
    reach = settings.max_shift_px * (kind[:, 4] < settings.shift_share)
    shifts = (2 * _uniform(poses, sets, size, 2) - 1) * reach[:, None, None]
    defocus, microscope = _optics(settings, position, sets, size) if with_ctf else (None, None)
    return SetDraws(
        slot=torch.cat(rounds)[:sets].numpy(),
        view=view.masked_fill(empty, -1),
        rotations=turned.float(),
        angle_rad=angle.float(),
        shifts_px=shifts.float(),
        snr=log_snr.exp().float(),
        poisson=(kind[:, 5] < settings.poisson_share).numpy(),
        noise_seed=np.array(seeds_of(settings.seed, position, _STREAMS.index("noise"), count=sets), dtype=np.uint64),
        defocus_rows=defocus,
        microscope=microscope,
        strengths=_strengths(settings, position, sets),
    )


def _strengths(settings: SetSettings, position: int, sets: int) -> FloatArray | None:
    if settings.structural_share == 0:
        return None
    drawn = draw_strengths(sets, settings.structural_share, _stream(settings.seed, position, "surroundings"))
    return drawn if drawn.any() else None


def _views(settings: SetSettings, kind: Tensor, number: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """The view each image shows, (B, N)."""
    drawn = torch.exp(number * np.log(size + 1)).long().clamp(1, size)  # log-uniform over 1 … N
    one, own = kind < settings.one_view_share, kind >= 1 - settings.own_views_share
    views = torch.where(one, 1, torch.where(own, size, drawn))
    chosen = (_uniform(generator, len(kind), size) * views[:, None]).long()
    return torch.where(own[:, None], torch.arange(size), chosen)


def _empties(settings: SetSettings, kind: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Which images hold no particle, (B, N) bool."""
    whole = kind < settings.empty_set_share
    some = ~whole & (kind < settings.empty_set_share + settings.some_empty_share)
    share = torch.where(whole, 1.0, torch.where(some, _uniform(generator, len(kind)), 0.0))
    return _uniform(generator, len(kind), size) < share[:, None]


def _in_plane(angle: Tensor) -> Tensor:
    """Rotations about z, (..., 3, 3), that turn content by `angle` from +x towards +y."""
    cosine, sine, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rows = (cosine, -sine, zero, sine, cosine, zero, zero, zero, one)
    return torch.stack(rows, dim=-1).reshape(*angle.shape, 3, 3)


def _optics(settings: SetSettings, position: int, sets: int, size: int) -> tuple[FloatArray, FloatArray]:
    generator = _stream(settings.seed, position, "optics")
    defocus = defocus_groups(sets * size, generator).reshape(sets, size, 3)
    columns = []
    for values, odds in ((_VOLTAGES_KV, _VOLTAGE_ODDS), (_ABERRATIONS_MM, _ABERRATION_ODDS)):
        index = torch.multinomial(torch.tensor(odds), sets, replacement=True, generator=generator).numpy()
        columns.append(np.asarray(values)[index])
    low, high = _AMPLITUDE_CONTRAST
    columns.append(low + (high - low) * _uniform(generator, sets).numpy())
    return defocus, np.stack(columns, axis=1)


def optics_in_pixels(draws: SetDraws, pixel_size_angstrom: FloatArray) -> Optics:
    """Optics of the B·N images for frequencies in cycles per pixel, of pixels (B,) that differ between sets.

    χ takes defocus with s² and C_s with s⁴, so dividing them by the pixel's square and fourth power does it.

    Raises ValueError for draws without CTF.
    """
    if draws.defocus_rows is None or draws.microscope is None:
        raise ValueError("these sets were drawn without a CTF")
    sets, size, _ = draws.defocus_rows.shape
    pixel = np.repeat(pixel_size_angstrom, size)
    rows = draws.defocus_rows.reshape(-1, 3) / np.stack([pixel**2, pixel**2, np.ones_like(pixel)], axis=1)
    kv, mm, contrast = np.repeat(draws.microscope, size, axis=0).T
    return Optics(kv, mm / pixel**4, contrast, rows[:, 0], rows[:, 1], rows[:, 2], *np.zeros((2, sets * size)))
