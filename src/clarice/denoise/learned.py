"""The trained networks as denoising methods: single images in batches, joint ones in neighbourhoods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.batches import is_out_of_memory
from clarice.core.large_array import large_array
from clarice.core.parallel import ordered_map
from clarice.core.particles import RowIndex
from clarice.core.progress import Progress, silent
from clarice.denoise.angular_attention import MeasuredRings
from clarice.denoise.attention_sources import sources_of
from clarice.denoise.neighbourhoods import invariants, neighbourhoods
from clarice.denoise.network_input import error_from_network, from_network, network_input
from clarice.denoise.networks import NETWORKS
from clarice.denoise.notes import Notes
from clarice.denoise.placed_network import PlacedNetwork
from clarice.denoise.polar_transformer import PolarTransformer
from clarice.denoise.registry import DenoisedRows, DenoiserFunction, TellingFunction, as_array, denoiser
from clarice.denoise.trained import TrainedNetwork, trained_names, trained_network
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

    def work(start: int) -> tuple[RowIndex, NDArray[np.float32]]:
        rows = np.arange(start, min(start + BATCH, len(noisy)))
        images, transfer = network_input(noisy, rows, trained.box)
        with placed.precision():
            estimate = placed.network(*placed.placed(images[:, None], None if transfer is None else transfer[:, None]))
        return rows, as_array(from_network(estimate.images[:, 0].float(), noisy.box))

    for rows, images in ordered_map(work, range(0, len(noisy), BATCH)):
        progress("denoising", int(rows[-1]) + 1, len(noisy))
        yield rows, images


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
        images = runner.joint(noisy, np.arange(count), notes)
        yield np.arange(count), as_array(from_network(images, noisy.box))
        return
    features = _features(noisy, runner, looked_through, progress)
    groups = neighbourhoods(features, size)
    yield from _in_row_order(noisy, runner, groups, progress, notes)


def look_alikes(noisy: NoisySet, trained: TrainedNetwork, size: int, progress: Progress = silent) -> list[RowIndex]:
    """All rows of a stack in groups of at most `size` that look alike whatever their in-plane angle."""
    if len(noisy) <= size:
        return [np.arange(len(noisy))]
    return neighbourhoods(_features(noisy, _Transformer(trained), LOOKED_THROUGH, progress), size)


def _features(noisy: NoisySet, runner: _Transformer, size: int, progress: Progress) -> NDArray[np.float32]:
    parts = np.array_split(np.arange(len(noisy)), -(-len(noisy) // size))

    def work(rows: RowIndex) -> tuple[RowIndex, NDArray[np.float32]]:
        return rows, as_array(runner.features(noisy, rows))

    found: list[NDArray[np.float32]] = []
    for rows, part in ordered_map(work, parts):
        found.append(part)
        progress("finding neighbours", int(rows[-1]) + 1, len(noisy))
    return np.concatenate(found)


def _in_row_order(
    noisy: NoisySet, runner: _Transformer, groups: Sequence[RowIndex], progress: Progress, notes: Notes | None
) -> Iterator[tuple[RowIndex, NDArray[np.float32]]]:
    """Denoises group after group and hands out the images in row order once all are there."""

    def work(rows: RowIndex) -> tuple[RowIndex, NDArray[np.float32]]:
        return rows, as_array(from_network(runner.joint(noisy, rows, notes), noisy.box))

    with large_array((len(noisy), noisy.box, noisy.box)) as waiting:
        done = 0
        for rows, images in ordered_map(work, groups):
            waiting[rows] = images
            done += len(rows)
            progress("denoising", done, len(noisy))
        for start in range(0, len(noisy), noisy.rows_per_chunk):
            rows = np.arange(start, min(start + noisy.rows_per_chunk, len(noisy)))
            yield rows, np.array(waiting[rows])


class _Transformer(PlacedNetwork):
    """A polar transformer at work on sets of a stack."""

    @torch.no_grad()
    def features(self, noisy: NoisySet, rows: RowIndex) -> Tensor:
        """Rotation-invariant features (k, F) of `rows`, looked through as one set."""
        network = self._transformer()
        with self.precision():
            sketch = network.early_sketch(self._measured(network, noisy, rows), BLOCKS_LOOKED_THROUGH)
        return invariants(sketch[0], network.ring_area).cpu()

    def joint(self, noisy: NoisySet, rows: RowIndex, notes: Notes | None = None) -> Tensor:
        """Estimates (k, box, box) of `rows`, denoised as one set, of which `notes` hears; two where memory runs out."""
        try:
            return self._as_one_set(noisy, rows, notes)
        except RuntimeError as error:
            if len(rows) == 1 or not is_out_of_memory(error):
                raise
        return torch.cat([self.joint(noisy, part, notes) for part in np.array_split(rows, 2)])

    @torch.no_grad()
    def _as_one_set(self, noisy: NoisySet, rows: RowIndex, notes: Notes | None) -> Tensor:
        network = self._transformer()
        with self.precision():
            found = network.denoise_rings(self._measured(network, noisy, rows))
            estimate = network.estimate_of(found)
        if notes is not None and estimate.log_error is not None:
            notes.sources(rows, sources_of(found.attended, rows, notes.sources_wanted))
            squared = error_from_network(estimate.log_error[0].exp().double().cpu(), noisy.box)
            notes.expected_error(rows, squared.numpy())
        return estimate.images[0].cpu()

    def _transformer(self) -> PolarTransformer:
        if not isinstance(self.network, PolarTransformer):
            raise TypeError("only a polar transformer denoises jointly")
        return self.network

    def _measured(self, network: PolarTransformer, noisy: NoisySet, rows: RowIndex) -> MeasuredRings:
        images, transfer = network_input(noisy, rows, self.box)
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
        denoiser(_name, _SUMMARIES[_name], _telling)(_function)
    elif NETWORKS[_name].alone:
        denoiser(_name, _SUMMARIES[_name])(_alone(_name))
