"""The denoisers by name: one file and one decorator add a method to commands, contract tests and tables."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from clarice.core.errors import InputError, UsageError
from clarice.core.particles import RowIndex
from clarice.core.progress import Progress, silent
from clarice.denoise.diffusion_sampling import SamplingSettings
from clarice.denoise.networks import NETWORKS
from clarice.denoise.notes import Notes, Renumbered
from clarice.denoise.trained import NETWORKS_OF, insist_on_weights
from clarice.physics.noisy_set import NoisySet

DenoisedRows = Iterator[tuple[RowIndex, NDArray[np.float32]]]

# Each module registers its methods when it is imported.
METHOD_MODULES = ("wiener", "covariance_wiener", "learned", "diffusion")
# What denoises unless another method is asked for.
DEFAULT_METHOD = "polar-transformer"


class DenoiserFunction(Protocol):
    """Maps a set to estimates of x: row numbers and images (k, L, L), in row order, every row once.

    It keeps no data between calls, and whatever it learns from the set it learns anew in each call.
    """

    def __call__(self, noisy: NoisySet, *, progress: Progress = silent) -> DenoisedRows: ...


class TellingFunction(Protocol):
    """A denoiser function that tells `notes` what it knows beside the images, before their rows are yielded."""

    def __call__(self, noisy: NoisySet, notes: Notes, *, progress: Progress = silent) -> DenoisedRows: ...


@dataclass(frozen=True)
class Denoiser:
    """A registered method: its name on the command line, one line about it, and the function.

    `telling` is the same function for methods that know more than their images, None for the others. `sampling`: how
    it draws samples, None for methods that draw none. `shared`: several processes share out its work, and the first
    yields all images.
    """

    name: str
    summary: str
    function: DenoiserFunction
    telling: TellingFunction | None = None
    sampling: SamplingSettings | None = None
    shared: bool = False

    @property
    def several_samples(self) -> bool:
        """Whether it can tell how far samples of one image lie apart."""
        return self.sampling is not None and self.sampling.samples > 1

    def __call__(
        self,
        noisy: NoisySet,
        *,
        halves_apart: bool = False,
        progress: Progress = silent,
        notes: Notes | None = None,
    ) -> DenoisedRows:
        """Row numbers and CTF-free images (k, L, L) in row order, protein bright, in the units of x.

        With `halves_apart`, each half set is denoised as if the other did not exist, so that maps from the
        two stay independent. Raises InputError when the set then says nothing about halves. `notes` hears what the
        method knows beside the images, if it does.
        """
        if not len(noisy):
            return iter(())
        if not halves_apart:
            return self._run(noisy, notes, progress)
        streams = [
            (rows, self._run(part, None if notes is None else Renumbered(notes, rows), progress))
            for rows, part in _halves(noisy)
        ]
        return merged(streams)

    def _run(self, noisy: NoisySet, notes: Notes | None, progress: Progress) -> DenoisedRows:
        if notes is None or self.telling is None:
            return self.function(noisy, progress=progress)
        return self.telling(noisy, notes, progress=progress)


_registered: dict[str, Denoiser] = {}


def denoiser(
    name: str,
    summary: str,
    telling: TellingFunction | None = None,
    *,
    sampling: SamplingSettings | None = None,
    shared: bool = False,
) -> Callable[[DenoiserFunction], DenoiserFunction]:
    """Registers the decorated function as method `name`; `summary` is its line in the command's help."""

    def register(function: DenoiserFunction) -> DenoiserFunction:
        if name in _registered and _registered[name].function is not function:
            raise ValueError(f"two denoisers are named {name}")
        _registered[name] = Denoiser(name, summary, function, telling, sampling, shared)
        return function

    return register


def _load() -> None:
    for module in METHOD_MODULES:
        importlib.import_module(f"clarice.denoise.{module}")


def denoiser_names() -> list[str]:
    """Every registered method, in alphabetical order."""
    _load()
    return sorted(_registered)


def get_denoiser(name: str) -> Denoiser:
    """The method `name`. Raises UsageError, with the names there are, for any other, and InputError for a trained one
    whose weights are not there.
    """
    _load()
    if name not in _registered:
        for network in NETWORKS_OF.get(name, (name,) if name in NETWORKS else ()):
            insist_on_weights(network)
        raise UsageError(f"there is no denoising method {name!r}: choose one of {', '.join(denoiser_names())}")
    return _registered[name]


def _halves(noisy: NoisySet) -> list[tuple[RowIndex, NoisySet]]:
    half_set = noisy.particles.half_set
    if half_set is None:
        raise InputError(
            "the particles carry no half sets to keep apart: add the column _rlnRandomSubset, or denoise them together"
        )
    unknown = np.flatnonzero((half_set != 1) & (half_set != 2))
    if len(unknown):
        raise InputError(
            f"row {unknown[0] + 1} belongs to neither half set (_rlnRandomSubset is not 1 or 2), so the halves cannot "
            "be kept apart: complete the column, or denoise them together"
        )
    parts = (np.flatnonzero(half_set == half) for half in np.unique(half_set))
    return [(rows, noisy.subset(rows)) for rows in parts]


def merged(parts: list[tuple[RowIndex, DenoisedRows]]) -> DenoisedRows:
    """The union in row order of parts denoised by themselves, at most a chunk of each part waiting.

    `parts` holds the rows of the whole set that each part stands for, ascending and disjoint.
    """
    streams = [_numbered(rows, stream) for rows, stream in parts]
    waiting = [next(stream, None) for stream in streams]
    while any(item is not None for item in waiting):
        present = {index: item for index, item in enumerate(waiting) if item is not None}
        first = min(present, key=lambda index: int(present[index][0][0]))
        # Rows of the other parts that lie between would come too late once a part runs past them.
        limit = min((int(item[0][0]) for index, item in present.items() if index != first), default=None)
        rows, images = present[first]
        count = len(rows) if limit is None else int(np.searchsorted(rows, limit))
        yield rows[:count], images[:count]
        left = (rows[count:], images[count:])
        waiting[first] = left if len(left[0]) else next(streams[first], None)


def _numbered(rows: RowIndex, stream: DenoisedRows) -> DenoisedRows:
    for part, images in stream:
        yield rows[part], images


def denoise_all(denoised: DenoisedRows, count: int, box: int) -> NDArray[np.float32]:
    """Every image of a stream in one array (count, box, box), for sets that fit in memory."""
    images = np.empty((count, box, box), dtype=np.float32)
    for rows, part in denoised:
        images[rows] = part
    return images


def as_array(images: torch.Tensor) -> NDArray[np.float32]:
    """A tensor of images as the float32 array a denoiser yields."""
    return np.ascontiguousarray(images.detach().to("cpu", torch.float32).numpy())
