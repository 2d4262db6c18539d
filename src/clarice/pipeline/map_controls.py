"""Controls of a map: do its particles fit it better than noise does, and better than they fit a wrong molecule?

Each half set is laid on the map of the other half, which none of its images had a part in, over all views and at low
resolution. So is as much pure noise, and so are the same particles with random phases; and the particles are laid on a
molecule that is not theirs, of the same size, symmetry and power spectrum. Noise that is turned until it fits a map
makes that map again, faintly (Henderson 2013): a map that is believed must be more than that, and more than its
molecule's size and brightness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.abinitio.evidence import RandomPhases
from clarice.abinitio.grey_scale import compared_radius
from clarice.abinitio.half_sets import HalfSets
from clarice.abinitio.pose_assignment import lay_halves_on
from clarice.abinitio.reconstruct import spectral_prior, spherical_support
from clarice.abinitio.refinement import Settings
from clarice.core.particles import FloatArray, spread_rows
from clarice.core.progress import Progress, silent
from clarice.geometry.fourier import centred_fft3, centred_ifft3, fourier_resize, shell_index, shell_mean, up_to_radius
from clarice.metrics.shells import FIRST_TELLING_SHELL, fsc
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet
from clarice.physics.null_particles import phase_randomised, pure_noise
from clarice.physics.potential import atoms_to_volume

PARTICLES, NOISE, PHASES, WRONG = "particles", "pure noise", "random phases", "particles on a wrong molecule"
# Images of each kind.
IMAGES = 256
# Particles that each half set must hold for a verdict.
FEWEST = 10
# Standard errors that a gain in log-likelihood must stand out by.
ERRORS = 3.0
# The wrong molecule: which one, its mass before it takes on the particle's size, and the share of its atoms inside.
_WRONG_SEED, _WRONG_KDA, _INSIDE = 4711, 200.0, 0.999
_ROUNDS = 5
# Rings beyond the finest that is laid.
_MARGIN = 3


@dataclass(frozen=True)
class LaidKind:
    """What became of one kind of images.

    `gain` (n,): log-likelihood of each image on the map it was laid on, against pure noise; `volume` (b, b, b) what all
    of them make; `fsc` (b // 2 + 1,) between its halves; `power`: what these share, over what particles' halves share,
    None where these share nothing.
    """

    kind: str
    gain: FloatArray
    volume: Tensor
    fsc: FloatArray
    power: float | None


@dataclass(frozen=True)
class MapControls:
    """Particles, noise, random phases and wrong molecule in this order, all up to `radius_px` Fourier pixels.

    `reference` and `wrong` (b, b, b): the run's map and the wrong molecule as images were laid on them. `fewest`:
    images of the smaller half set.
    """

    each: Sequence[LaidKind]
    reference: Tensor
    wrong: Tensor
    radius_px: float
    fewest: int

    @property
    def images(self) -> int:
        """How many of each kind."""
        return len(self.each[0].gain)

    @property
    def over_noise(self) -> tuple[float, float]:
        """How much better than noise the particles fit the other half's map, in log-likelihood each; standard error."""
        own, noise = self.each[0].gain, self.each[1].gain
        return float(own.mean() - noise.mean()), float(np.sqrt((own.var(ddof=1) + noise.var(ddof=1)) / self.images))

    @property
    def over_phases(self) -> tuple[float, float]:
        """How much better than with random phases; standard error of the differences, image by image."""
        return self._over(self.each[2])

    @property
    def over_wrong(self) -> tuple[float, float]:
        """How much better than on the wrong molecule; standard error of the differences, image by image."""
        return self._over(self.each[3])

    def _over(self, control: LaidKind) -> tuple[float, float]:
        difference = self.each[0].gain - control.gain
        return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(self.images))

    @property
    def doubts(self) -> list[str]:
        """In words, what speaks against the map; none is as it should be.

        The power that noise makes is told beside them: it grows as particles show less, right as their map may be.
        """
        if self.fewest < FEWEST:
            return [f"one half set has {self.fewest} particles, by which its map cannot be judged"]
        found = []
        if _hidden_in_error(self.over_noise):
            found.append(
                f"particles fit the map of the other half set no better than pure noise ({_text(self.over_noise)})"
            )
        noise = self.each[1].gain.mean()  # a map with noise in it is unlikely for any image
        if not RandomPhases.of(self.each[0].gain - noise, self.each[2].gain - noise).stands_out:
            lost = _text(self.over_phases)
            found.append(f"particles lose too little of their fit when their phases are made random ({lost})")
        if _hidden_in_error(self.over_wrong):
            found.append(f"particles fit a wrong molecule of its size and spectrum as well ({_text(self.over_wrong)})")
        return found

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.doubts:
            return f"{'; '.join(self.doubts)}: the map may be no more than what its images were turned towards"
        power = self.each[1].power
        made = "" if power is None else f"; the map that noise makes there has {100 * max(power, 0):.1f} % of the power"
        return (
            "particles fit the map of the other half set, which they had no part in since the first map, better than "
            f"pure noise does by {_text(self.over_noise)} in log-likelihood each, better than with random phases by "
            f"{_text(self.over_phases)}, and better than a wrong molecule by "
            f"{_text(self.over_wrong)}{made}: the map is what its particles show"
        )


def _hidden_in_error(gain: tuple[float, float]) -> bool:
    return gain[0] <= ERRORS * gain[1]


def _text(gain: tuple[float, float]) -> str:
    return (
        f"{gain[0]:.2f} ± {max(gain[1], 0.01):.2f}" if abs(gain[0]) < 10 else f"{gain[0]:.0f} ± {max(gain[1], 0.1):.1f}"
    )


def map_controls(
    particles: NoisySet,
    half_maps: Tensor,
    half_set: HalfSets,
    settings: Settings,
    progress: Progress = silent,
) -> MapControls:
    """The controls of a map with `half_maps` (2, L, L, L), on at most 128 particles of each half, spread evenly.

    `half_set` (n,) of the particles; of `settings`, resolution and grid are those of the controls.
    """
    box = particles.box
    radius = compared_radius(box, settings.diameter_px)
    small = min(box, 2 * int(np.ceil(radius + _MARGIN)))
    support = spherical_support(small, settings.diameter_px * small / box)
    references = _filtered_by_agreement(_in_box(half_maps, small), support)
    wrong = wrong_molecule(references, support, settings, particles.particles.pixel_size_angstrom * box / small)
    rows = _sampled(half_set)
    some, halves = particles.subset(rows), half_set[rows]
    laid_with = replace(settings, start_radius_px=radius)
    crossed = references.flip(0)
    each: list[LaidKind] = []
    whole = 0.0
    kinds = (
        (PARTICLES, some, crossed),
        (NOISE, pure_noise(some, settings.seed), crossed),
        (PHASES, phase_randomised(some, settings.seed), crossed),
        (WRONG, some, torch.stack([wrong, wrong])),
    )
    for number, (kind, images, volumes) in enumerate(kinds):
        progress(kind, number, len(kinds))
        laid = lay_halves_on(images, volumes, halves, laid_with)
        shared = _shared_power(laid.halves * support, radius)
        agreement = fsc(laid.halves[0].numpy(), laid.halves[1].numpy(), support.numpy())
        mean = up_to_radius(laid.halves.mean(dim=0), radius, 3) * support
        whole = shared if kind == PARTICLES else whole
        power = shared / whole if whole > 0 else None
        each.append(LaidKind(kind, laid.log_evidence, mean, agreement, power))
    progress("", len(kinds), len(kinds))
    fewest = int(min(np.sum(halves == half) for half in (1, 2)))
    return MapControls(each, references.mean(dim=0), wrong, radius, fewest)


def _sampled(half_set: HalfSets) -> NDArray[np.int64]:
    """Rows of both half sets, as many of each as there are, up to half of `IMAGES`, each spread evenly."""
    members = [np.flatnonzero(half_set == half) for half in (1, 2)]
    return np.sort(np.concatenate([spread_rows(rows, IMAGES // 2) for rows in members]))


def wrong_molecule(references: Tensor, support: Tensor, settings: Settings, pixel_size_angstrom: float) -> Tensor:
    """A made-up molecule (b, b, b) in the place of one that `references` (2, b, b, b) show: as large, as symmetric, and
    of the same power in every shell.
    """
    box = references.shape[-1]
    atoms = make_molecule(_WRONG_SEED, mass_kda=_WRONG_KDA, symmetry=settings.symmetry)
    reach = float(np.quantile(np.linalg.norm(atoms.positions_angstrom, axis=1), _INSIDE))
    radius = float(support.sum() * 3 / (4 * np.pi)) ** (1 / 3) * pixel_size_angstrom
    scaled = replace(atoms, positions_angstrom=atoms.positions_angstrom * (radius / reach))
    volume = atoms_to_volume(scaled, box, pixel_size_angstrom) * support
    wanted = _power(references)
    for _ in range(_ROUNDS):  # the support bends a spectrum that was right without it
        amplitude = (wanted / _power(volume[None]).clamp_min(1e-30)).sqrt()
        volume = _times(volume, amplitude) * support
    return volume


def _in_box(volumes: Tensor, box: int) -> Tensor:
    """Maps in a smaller box of the same field: the same spectrum, so that grey values grow as voxels do."""
    scale = (volumes.shape[-1] / box) ** 3
    return torch.stack([fourier_resize(volume, box, 3) * scale for volume in volumes])


def _filtered_by_agreement(volumes: Tensor, support: Tensor) -> Tensor:
    """Half maps (2, b, b, b) as far as they agree: each shell times its FSC, Wiener's filter of a half map."""
    agreement = fsc(volumes[0].numpy(), volumes[1].numpy(), support.numpy())
    weight = torch.from_numpy(agreement).float().clamp(0, 1)
    return torch.stack([_times(volume, weight) * support for volume in volumes])


def _times(volume: Tensor, weight: Tensor) -> Tensor:
    """A map with every Fourier shell times its weight (b // 2 + 1,); corners as the last shell."""
    shells = shell_index(volume.shape[-1], 3).clamp(max=len(weight) - 1)
    filtered: Tensor = centred_ifft3(centred_fft3(volume) * weight[shells]).real
    return filtered


def _power(volumes: Tensor) -> Tensor:
    """Mean |V(k)|² of each shell (b // 2 + 1,), over maps (m, b, b, b)."""
    return torch.stack([spectral_prior(volume) for volume in volumes]).mean(dim=0)


def _shared_power(halves: Tensor, radius: float) -> float:
    """Σ Re F₁ F₂* over the shells from `FIRST_TELLING_SHELL` to `radius`: what two half maps have in common."""
    first, second = centred_fft3(halves[0]), centred_fft3(halves[1])
    by_shell = shell_mean((first * second.conj()).real, 3)
    shells = torch.arange(len(by_shell))
    counted = (shells >= FIRST_TELLING_SHELL) & (shells <= radius)
    return float((by_shell * shells.square())[counted].sum())
