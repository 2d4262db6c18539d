"""The trained networks as denoising methods: single images in batches, joint ones in neighbourhoods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.batches import is_out_of_memory
from clarice.core.large_array import large_array
from clarice.core.particles import RowIndex
from clarice.core.progress import Progress, silent
from clarice.denoise.angular_attention import MeasuredRings
from clarice.denoise.attention_sources import sources_of
from clarice.denoise.neighbourhoods import invariants, neighbourhoods
from clarice.denoise.network_input import (
    allowed_sources,
    error_from_network,
    explicit_transfer,
    from_network,
    network_input,
)
from clarice.denoise.networks import NETWORKS
from clarice.denoise.notes import Notes, Sources
from clarice.denoise.placed_network import PlacedNetwork
from clarice.denoise.polar_transformer import PolarTransformer
from clarice.denoise.registry import DenoisedRows, DenoiserFunction, TellingFunction, as_array, denoiser
from clarice.denoise.trained import TrainedNetwork, trained_names, trained_network
from clarice.io.kept_results import Arrays, map_parts
from clarice.physics.noisy_set import NoisySet

# Images that a single-image network takes at once.
BATCH = 128
# Images of a set that attend to one another: more help one another more, at a cost in time that grows as they do.
NEIGHBOURHOOD = 256
# Images of a set in the pass before, which only looks for what is alike: time grows with it, neighbours hardly differ.
LOOKED_THROUGH = 128
# Blocks of attention after which what is alike is known: neighbours after all of them are no better.
BLOCKS_LOOKED_THROUGH = 4

_SUMMARIES = {
    "polar-transformer": "a network that aligns, clusters and averages: particles denoise one another",
    "polar-cnn": "the same network without attention: each particle alone, in polar coordinates",
    "unet": "U-Net: each particle alone",
    "dncnn": "DnCNN: each particle alone",
}


def denoise_alone(noisy: NoisySet, trained: TrainedNetwork, progress: Progress = silent) -> DenoisedRows:
    """Each image by itself, streamed in row order."""
    placed = PlacedNetwork(trained)

    def work(rows: RowIndex) -> Arrays:
        images, transfer = network_input(noisy, rows, trained.box)
        with placed.precision():
            estimate = placed.network(*placed.placed(images[:, None], None if transfer is None else transfer[:, None]))
        return {"images": as_array(from_network(estimate.images[:, 0].float(), noisy.box))}

    parts = [np.arange(start, min(start + BATCH, len(noisy))) for start in range(0, len(noisy), BATCH)]
    for rows, found in map_parts("denoising", work, parts, progress, for_all=False):
        yield rows, found["images"]


def denoise_jointly(
    noisy: NoisySet,
    trained: TrainedNetwork,
    progress: Progress = silent,
    size: int = NEIGHBOURHOOD,
    looked_through: int = LOOKED_THROUGH,
    notes: Notes | None = None,
) -> DenoisedRows:
    """Images that denoise one another, in neighbourhoods of at most `size`, in row order.

    A stack of more than `size` images is gone through twice: in sets of `looked_through` as they come, which yields
    features that do not depend on in-plane angles, and then in sets of those that look alike. Time grows linearly
    with the stack. `notes` hears where each image came from and how wrong it is expected to be.
    """
    runner = _Transformer(trained)
    count = len(noisy)
    if count <= size:
        groups = [np.arange(count)]
    else:
        groups = _kept_neighbourhoods(_features(noisy, runner, looked_through, progress), size)
    yield from _in_row_order(noisy, runner, groups, progress, notes)


def look_alikes(
    noisy: NoisySet,
    trained: TrainedNetwork,
    size: int,
    progress: Progress = silent,
    shown: Tensor | None = None,
) -> list[RowIndex]:
    """All rows of a stack in groups of at most `size` that look alike whatever their in-plane angle.

    By those Fourier coefficients alone that are `shown` (b, b // 2 + 1) of the network's box b; by all, if None.
    """
    if len(noisy) <= size:
        return [np.arange(len(noisy))]
    return neighbourhoods(_features(noisy, _Transformer(trained, shown), LOOKED_THROUGH, progress), size)


def _kept_neighbourhoods(features: NDArray[np.float32], size: int) -> list[RowIndex]:
    """Neighbourhoods as one process found them: where features differ by rounding, another might cut elsewhere."""

    def work(rows: RowIndex) -> Arrays:  # noqa: ARG001
        groups = neighbourhoods(features, size)
        return {"order": np.concatenate(groups), "sizes": np.array([len(group) for group in groups])}

    ((_, found),) = map_parts("neighbourhoods", work, [np.arange(len(features))], at_once=False)
    return np.split(found["order"], np.cumsum(found["sizes"])[:-1])


def _features(noisy: NoisySet, runner: _Transformer, size: int, progress: Progress) -> NDArray[np.float32]:
    parts = np.array_split(np.arange(len(noisy)), -(-len(noisy) // size))

    def work(rows: RowIndex) -> Arrays:
        return {"features": as_array(runner.features(noisy, rows))}

    return np.concatenate([found["features"] for _, found in map_parts("finding neighbours", work, parts, progress)])


def _in_row_order(
    noisy: NoisySet, runner: _Transformer, groups: Sequence[RowIndex], progress: Progress, notes: Notes | None
) -> Iterator[tuple[RowIndex, NDArray[np.float32]]]:
    """Denoises group after group and hands out the images in row order once all are there."""

    wanted = 0 if notes is None else notes.sources_wanted

    def work(rows: RowIndex) -> Arrays:
        return runner.joint(noisy, rows, wanted)

    found = map_parts("denoising", work, groups, progress, for_all=False)
    first = next(found, None)
    if first is None:  # another process takes up the images
        return
    with large_array((len(noisy), noisy.box, noisy.box)) as waiting:
        for rows, part in chain((first,), found):
            waiting[rows] = part["images"]
            if notes is not None:
                _tell(notes, rows, part)
        for start in range(0, len(noisy), noisy.rows_per_chunk):
            rows = np.arange(start, min(start + noisy.rows_per_chunk, len(noisy)))
            yield rows, np.array(waiting[rows])


def _tell(notes: Notes, rows: RowIndex, part: Arrays) -> None:
    if "squared_error" in part:
        notes.sources(rows, Sources(part["row"], part["angle_deg"], part["weight"], part["kept"]))
        notes.expected_error(rows, part["squared_error"])


class _Transformer(PlacedNetwork):
    """A polar transformer at work on sets of a stack, of which it sees the coefficients `shown`, all if None."""

    def __init__(self, trained: TrainedNetwork, shown: Tensor | None = None) -> None:
        super().__init__(trained)
        self.shown = shown

    @torch.no_grad()
    def features(self, noisy: NoisySet, rows: RowIndex) -> Tensor:
        """Rotation-invariant features (k, F) of `rows`, looked through as one set."""
        network = self._transformer()
        with self.precision():
            allowed = self.optional(allowed_sources(noisy, rows))
            sketch = network.early_sketch(self._measured(network, noisy, rows), BLOCKS_LOOKED_THROUGH, allowed)
        return invariants(sketch[0], network.ring_area).cpu()

    def joint(self, noisy: NoisySet, rows: RowIndex, sources_wanted: int) -> Arrays:
        """`images` (k, L, L) of `rows`, denoised as one set; as two where memory runs out.

        Where sources are wanted, the fields of `Sources` as well, and `squared_error` (k, L // 2 + 1).
        """
        try:
            return self._as_one_set(noisy, rows, sources_wanted)
        except RuntimeError as error:
            if len(rows) == 1 or not is_out_of_memory(error):
                raise
        halves = [self.joint(noisy, part, sources_wanted) for part in np.array_split(rows, 2)]
        return {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}

    @torch.no_grad()
    def _as_one_set(self, noisy: NoisySet, rows: RowIndex, sources_wanted: int) -> Arrays:
        network = self._transformer()
        with self.precision():
            allowed = self.optional(allowed_sources(noisy, rows))
            found = network.denoise_rings(self._measured(network, noisy, rows), allowed)
            estimate = network.estimate_of(found)
        told = {"images": as_array(from_network(estimate.images[0].cpu(), noisy.box))}
        if sources_wanted and estimate.log_error is not None:
            sources = sources_of(found.attended, rows, sources_wanted)
            squared = error_from_network(estimate.log_error[0].exp().double().cpu(), noisy.box)
            told |= {**vars(sources), "squared_error": squared.numpy()}
        return told

    def _transformer(self) -> PolarTransformer:
        if not isinstance(self.network, PolarTransformer):
            raise TypeError("only a polar transformer denoises jointly")
        return self.network

    def _measured(self, network: PolarTransformer, noisy: NoisySet, rows: RowIndex) -> MeasuredRings:
        images, transfer = network_input(noisy, rows, self.box)
        if self.shown is not None:
            transfer = explicit_transfer(transfer, images) * self.shown
        return network.measure(*self.placed(images[None], None if transfer is None else transfer[None]))


def _alone(name: str) -> DenoiserFunction:
    def function(noisy: NoisySet, *, progress: Progress = silent) -> DenoisedRows:
        return denoise_alone(noisy, trained_network(name), progress)

    return function


def _jointly(name: str) -> tuple[DenoiserFunction, TellingFunction]:
    def function(noisy: NoisySet, *, progress: Progress = silent) -> DenoisedRows:
        return denoise_jointly(noisy, trained_network(name), progress)

    def telling(noisy: NoisySet, notes: Notes, *, progress: Progress = silent) -> DenoisedRows:
        return denoise_jointly(noisy, trained_network(name), progress, notes=notes)

    return function, telling


for _name in trained_names():
    if NETWORKS[_name].joint:
        _function, _telling = _jointly(_name)
        denoiser(_name, _SUMMARIES[_name], _telling, shared=True)(_function)
    elif NETWORKS[_name].alone:
        denoiser(_name, _SUMMARIES[_name], shared=True)(_alone(_name))
