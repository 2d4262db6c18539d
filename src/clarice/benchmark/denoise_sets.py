"""Sets the protocol `denoise` is run on: signals imaged once a sheet the exact way, noise added by seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.benchmark.denoise_cells import Cell, Sheet
from clarice.benchmark.structures import Subject
from clarice.core.particles import ArraySource, Optics, ParticleSet, Poses
from clarice.physics.noise import poisson_image, poisson_scale, white_noise
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.physics.turned_views import TurnedViews, turned_views

MAX_SHIFT_PX = 3.0
Images = NDArray[np.float32]


@dataclass(frozen=True)
class Signals:
    """A set without noise: `signal` (n, L, L) with its CTF, mean square 1; `clean` (n, L, L) without, alike scaled."""

    subject: Subject
    number: int
    signal: Images
    clean: Images
    shown: TurnedViews
    optics: Optics | None
    pixel_size_angstrom: float

    def rows(self, rows: NDArray[np.int64]) -> Signals:
        """Some of the images."""
        shown = TurnedViews(self.shown.view[rows], self.shown.angle_rad[rows], self.shown.poses.subset(rows))
        optics = None if self.optics is None else self.optics.subset(rows)
        return replace(self, signal=self.signal[rows], clean=self.clean[rows], shown=shown, optics=optics)


@dataclass(frozen=True)
class ImageSet:
    """A set of images of one molecule: `noisy` (n, L, L), noise of variance 1; `clean` (n, L, L) in the same units."""

    subject: Subject
    number: int
    noisy: Images
    clean: Images
    shown: TurnedViews
    optics: Optics | None
    pixel_size_angstrom: float

    def __len__(self) -> int:
        return len(self.noisy)

    @property
    def box(self) -> int:
        """Edge of the images, pixels."""
        return int(self.noisy.shape[-1])

    @property
    def poses(self) -> Poses:
        """The true poses."""
        return self.shown.poses

    def particles(self) -> ParticleSet:
        """The images with their optics: what a method may know."""
        return ParticleSet(ArraySource(self.noisy), self.pixel_size_angstrom, optics=self.optics)

    def noisy_set(self) -> NoisySet:
        """The images as denoisers are given them."""
        return white_set(self.particles())

    def emptied(self, noise: str, seed: int) -> ImageSet:
        """The same set with noise alone, of the kind `noise`."""
        generator = torch.Generator().manual_seed(seed)
        nothing = torch.zeros(self.noisy.shape)
        drawn = poisson_image(nothing, generator) if noise == "poisson" else white_noise(len(self), self.box, generator)
        return replace(self, noisy=drawn.numpy(), clean=nothing.numpy())


def seed_of(*words: object) -> int:
    """A seed that any other words change."""
    digest = hashlib.sha256(" ".join(map(str, words)).encode()).digest()
    return int.from_bytes(digest[:4], "big")


class SignalStore:
    """Signals of a sheet by structure, simulated when first asked for and kept in `folder` as memory-mapped files."""

    def __init__(self, sheet: Sheet, sets: int, seed: int, box: int, ctf_table: Path | None, folder: Path) -> None:
        self.sheet, self.sets, self.seed, self.box, self.ctf_table = sheet, sets, seed, box, ctf_table
        self.folder = folder
        self._made: dict[tuple[str, int], Signals] = {}

    def signals(self, subject: Subject) -> Iterator[Signals]:
        """A structure's sets. Sets of one image are the images of one stack, whose SNR they have on average."""
        if self.sheet.size == 1:
            stack = self._stack(subject, 0, self.sets)
            for row in range(self.sets):
                yield replace(stack.rows(np.array([row])), number=row)
            return
        for number in range(self.sets):
            yield self._stack(subject, number, self.sheet.size)

    def _stack(self, subject: Subject, number: int, count: int) -> Signals:
        key = (subject.entry, number)
        if key not in self._made:
            self._made[key] = self._simulated(subject, number, count)
        return self._made[key]

    def _simulated(self, subject: Subject, number: int, count: int) -> Signals:
        sheet = self.sheet
        seed = seed_of(self.seed, subject.entry, sheet.setting, sheet.size, sheet.ctf, number)
        shift = MAX_SHIFT_PX if sheet.with_ctf else 0.0
        shown = turned_views(count, sheet.views, shift, torch.Generator().manual_seed(seed))
        settings = SimulationSettings(
            count,
            self.box,
            seed,
            snr=1.0,
            max_shift_px=shift,
            ctf=sheet.with_ctf,
            noise="none",
            ctf_table=self.ctf_table,
        )
        place = self.folder / f"{subject.entry}_{number}"
        place.mkdir(parents=True)
        made = simulate(subject.atoms, settings, poses=shown.poses, folder=place)
        optics = made.particles.optics if sheet.with_ctf else None
        return Signals(subject, number, made.images, made.clean, shown, optics, made.particles.pixel_size_angstrom)


def with_noise(signals: Signals, cell: Cell, seed: int) -> ImageSet:
    """The set with the cell's noise, of variance 1 a pixel on average over the set."""
    words = (seed, signals.subject.entry, cell.name, signals.number)
    generator = torch.Generator().manual_seed(seed_of(*words))
    signal, clean = torch.from_numpy(np.array(signals.signal)), torch.from_numpy(np.array(signals.clean))
    if cell.noise == "poisson":
        contrast, deviation = poisson_scale(1.0, float(signal.mean()), cell.snr)
        noisy: Tensor = poisson_image(signal * contrast, generator) / deviation
        clean = clean * (contrast / deviation)
    else:
        noisy = signal * cell.snr**0.5 + white_noise(len(signal), signal.shape[-1], generator)
        clean = clean * cell.snr**0.5
    return ImageSet(
        signals.subject,
        signals.number,
        noisy.numpy(),
        clean.numpy(),
        signals.shown,
        signals.optics,
        signals.pixel_size_angstrom,
    )


def joined(sets: list[ImageSet]) -> NoisySet:
    """Several sets of one molecule as one, for methods that look at each image by itself."""
    images = np.concatenate([one.noisy for one in sets])
    optics = None
    if sets[0].optics is not None:
        parts = [one.optics for one in sets if one.optics is not None]
        optics = Optics(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0])})
    return white_set(ParticleSet(ArraySource(images), sets[0].pixel_size_angstrom, optics=optics))
