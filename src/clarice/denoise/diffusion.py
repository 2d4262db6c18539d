"""Denoising by conditional diffusion: samples of what each particle may be, around what is known of it already.

Each particle's samples are drawn by itself, conditional on its image and on a Gaussian estimate of it: what the joint
denoiser made of it and how wrong that may be, or no more than the power spectrum of the set. Their mean is the estimate
of least error; one sample looks as a particle would, but is one possibility among many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clarice.core.errors import InputError
from clarice.core.particles import RowIndex
from clarice.core.progress import Progress, silent
from clarice.core.seeds import seeds_of
from clarice.denoise.diffusion_network import Condition, DiffusionNetwork, DiffusionSize
from clarice.denoise.diffusion_sampling import Draws, SamplingSettings, path_of, sample_residuals
from clarice.denoise.gaussian_estimate import GaussianEstimate
from clarice.denoise.learned import denoise_jointly
from clarice.denoise.network_input import error_from_network, from_network, network_input
from clarice.denoise.notes import Notebook, Notes, Sources
from clarice.denoise.placed_network import PlacedNetwork
from clarice.denoise.refiner import Refiner
from clarice.denoise.registry import DenoisedRows, Denoiser, as_array, denoiser, get_denoiser
from clarice.denoise.trained import TrainedNetwork, trained_names, trained_network, weights_digest
from clarice.denoise.wiener import signal_spectrum
from clarice.geometry.fourier import fourier_resize, power_by_shell
from clarice.io.kept_results import Arrays, map_parts
from clarice.io.weights import weights_path
from clarice.physics.noisy_set import NoisySet

NAME, REFINER, REFINED = "diffusion", "refiner", "diffusion+refiner"
USUAL, USUAL_REFINED = SamplingSettings(steps=10, samples=8), SamplingSettings(steps=2, samples=4)
# The network whose images and foretold errors a sample of a "joint" estimate goes out from.
FIRST = "polar-transformer"
# Samples in the network at once, of one particle or several.
BATCH = 64


@dataclass(frozen=True)
class Posterior:
    """What samples say of k particles: `samples` (k, K, L, L), in the box of the network.

    `prior_error` (k, S): squared error by shell of the estimates they were drawn around. `refined` (k, L, L): their
    mean as the refiner corrected it, None where none did.
    """

    samples: Tensor
    prior_error: Tensor
    refined: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """The estimate of least error, (k, L, L)."""
        return self.samples.mean(dim=1) if self.refined is None else self.refined

    @property
    def deviation(self) -> Tensor | None:
        """Standard deviation of each pixel, (k, L, L); None of a single sample."""
        return None if self.samples.shape[1] == 1 else self.samples.std(dim=1)

    @property
    def squared_error(self) -> Tensor:
        """Expected squared error of `mean` by shell, (k, S), per coefficient of the orthonormal transform.

        The samples' variance v by shell, times 1 + 1 / K for K samples that were not refined. One sample is as far from
        the truth as from another sample, so that its error is 2 v; v is then taken from the estimate it was drawn
        around.
        """
        count = self.samples.shape[1]
        of_few = 1 + 1 / count if self.refined is None else 1.0
        if count == 1:
            return of_few * self.prior_error
        apart = self.samples - self.samples.mean(dim=1, keepdim=True)
        return power_by_shell(apart).sum(dim=1) / (count - 1) * of_few


def sampled_posterior(
    placed: PlacedNetwork,
    noisy: Tensor,
    transfer: Tensor | None,
    estimate: GaussianEstimate,
    settings: SamplingSettings,
    drawn_by: Sequence[tuple[int, ...]],
    refiner: PlacedNetwork | None = None,
) -> Posterior:
    """Samples of whitened particles (k, L, L) with their W H (k, L, L // 2 + 1) or None, in the network's box.

    `drawn_by`: k whole numbers or several, by which beside the seed each particle's noise is drawn: its samples do not
    depend on its neighbours.
    """
    network = _network(placed)
    known = estimate.to(placed.device)
    condition = Condition.of(*placed.placed(noisy, transfer), known)
    seeds = [seed for words in drawn_by for seed in seeds_of(settings.seed, *words, count=settings.samples)]
    with placed.precision():
        residual = sample_residuals(network, condition.repeated(settings.samples), settings, Draws(seeds, placed.box))
    images = known.repeated(settings.samples).images(residual).cpu()
    samples = images.view(len(drawn_by), settings.samples, *images.shape[1:])
    refined = None
    if refiner is not None:
        with refiner.precision(), torch.no_grad():
            corrected = _refiner(refiner)(residual.view(samples.shape).mean(dim=1), condition)
        refined = known.images(corrected).cpu()
    return Posterior(samples, estimate.squared_error.cpu(), refined)


def _network(placed: PlacedNetwork) -> DiffusionNetwork:
    if not isinstance(placed.network, DiffusionNetwork):
        raise TypeError("only a diffusion network samples")
    return placed.network


def _refiner(placed: PlacedNetwork) -> Refiner:
    if not isinstance(placed.network, Refiner):
        raise TypeError("only a refiner refines")
    return placed.network


def _draws_of(noisy: NoisySet, rows: RowIndex) -> list[tuple[int, ...]]:
    """Row numbers and half sets: where each half is denoised by itself, both count their rows from 0."""
    halves = noisy.particles.half_set
    return [(int(row), 0 if halves is None else int(halves[row])) for row in rows]


def denoise_by_diffusion(
    noisy: NoisySet,
    trained: TrainedNetwork,
    settings: SamplingSettings,
    progress: Progress = silent,
    notes: Notes | None = None,
    refiner: TrainedNetwork | None = None,
) -> DenoisedRows:
    """The mean of each particle's samples, corrected by a `refiner` if any, in row order.

    `notes` hears how far the samples lie apart. Raises InputError when a network that another was trained on is
    not there, UsageError for more steps than there are.
    """
    placed = PlacedNetwork(trained)
    path_of(_network(placed), settings)  # steps that cannot be are refused before the joint denoiser takes its time
    correcting = None
    if refiner is not None:
        matching(NAME, refiner)
        if FIRST in refiner.card.get("trained_on", {}):
            matching(FIRST, refiner)
        correcting = PlacedNetwork(refiner)
    step = max(1, BATCH // settings.samples)
    for rows, estimate in _estimates(noisy, trained, _network(placed).size, notes, progress):

        def work(some: RowIndex, first: int = int(rows[0]), estimate: GaussianEstimate = estimate) -> Arrays:
            part = slice(int(some[0]) - first, int(some[-1]) + 1 - first)
            seen = network_input(noisy, some, placed.box)
            known = GaussianEstimate(estimate.mean[part], estimate.squared_error[part])
            drawn_by = _draws_of(noisy, some)
            return _arrays(sampled_posterior(placed, *seen, known, settings, drawn_by, correcting), noisy.box)

        parts = [rows[start : start + step] for start in range(0, len(rows), step)]
        for some, found in map_parts("sampling", work, parts):
            if notes is not None:
                notes.expected_error(some, found["squared_error"])
            if notes is not None and "deviation" in found:
                notes.deviation(some, found["deviation"])
            progress("sampling", int(some[-1]) + 1, len(noisy))
            yield some, found["images"]


def _arrays(found: Posterior, box: int) -> Arrays:
    """`images` (k, L, L), `squared_error` (k, L // 2 + 1) and, of several samples, `deviation` (k, L, L)."""
    arrays = {
        "images": as_array(from_network(found.mean, box)),
        "squared_error": error_from_network(found.squared_error.double(), box).numpy(),
    }
    if found.deviation is not None:
        arrays["deviation"] = as_array(from_network(found.deviation, box))
    return arrays


def _estimates(
    noisy: NoisySet, trained: TrainedNetwork, size: DiffusionSize, notes: Notes | None, progress: Progress
) -> Iterator[tuple[RowIndex, GaussianEstimate]]:
    """What is known of the particles before, in the network's box, in row order."""
    if size.estimate == "spectrum":
        power = error_from_network(signal_spectrum(noisy, progress=progress)[None], trained.box)
        for start in range(0, len(noisy), noisy.rows_per_chunk):
            rows = np.arange(start, min(start + noisy.rows_per_chunk, len(noisy)))
            nothing = torch.zeros((len(rows), trained.box, trained.box))
            yield rows, GaussianEstimate(nothing, power.expand(len(rows), -1))
        return
    heard = _Heard(len(noisy), notes)
    for rows, images in denoise_jointly(noisy, matching(FIRST, trained), progress, notes=heard):
        mean = fourier_resize(torch.from_numpy(images), trained.box, 2) * (noisy.box / trained.box)
        yield rows, GaussianEstimate(mean, error_from_network(heard.foretold(rows), trained.box))


class _Heard(Notebook):
    """Keeps the errors that the joint denoiser expects and passes its sources on to `notes`."""

    def __init__(self, count: int, notes: Notes | None) -> None:
        super().__init__(count, 1 if notes is None else notes.sources_wanted)
        self._notes = notes

    def sources(self, rows: RowIndex, sources: Sources) -> None:
        if self._notes is not None:
            self._notes.sources(rows, sources)

    def foretold(self, rows: RowIndex) -> Tensor:
        """Expected squared error by shell of rows that were denoised."""
        if self.error_by_shell is None:
            raise TypeError(f"{FIRST} foretells no error")
        return torch.from_numpy(self.error_by_shell[rows])


def matching(name: str, trained: TrainedNetwork) -> TrainedNetwork:
    """The network `name` of which the card of another says that it was `trained` on its output.

    Raises InputError when its weights are not there, or not those: the other would be misled.
    """
    found = trained_network(name)
    wanted, there = trained.card.get("trained_on", {}).get(name), weights_digest(weights_path(name))
    if wanted not in (None, there):
        raise InputError(
            f"{weights_path(name)} ({there}) is not the {name} ({wanted}) that {trained.kind.name} was trained on: "
            "take both from one release, or train the latter anew"
        )
    return found


def sampling_denoiser(name: str, settings: SamplingSettings) -> Denoiser:
    """A sampling method with other than its usual settings. Raises InputError when its weights are not there."""
    return replace(get_denoiser(name), sampling=settings, **_functions(name, settings))


def _functions(name: str, settings: SamplingSettings) -> dict[str, Any]:
    """The two functions of a registered method."""

    def telling(noisy: NoisySet, notes: Notes | None, *, progress: Progress = silent) -> DenoisedRows:
        trained = trained_network(NAME)
        refiner = trained_network(REFINER) if name == REFINED else None
        return denoise_by_diffusion(noisy, trained, settings, progress, notes, refiner)

    def function(noisy: NoisySet, *, progress: Progress = silent) -> DenoisedRows:
        return telling(noisy, None, progress=progress)

    return {"function": function, "telling": telling}


def _register(name: str, summary: str, settings: SamplingSettings) -> None:
    made = _functions(name, settings)
    denoiser(name, summary, made["telling"], sampling=settings)(made["function"])


if NAME in trained_names():
    _register(NAME, "conditional diffusion: the mean of samples of what each particle may be", USUAL)
    if REFINER in trained_names():
        _register(REFINED, "the same by few steps, and a light network that corrects the result", USUAL_REFINED)
