"""The record of how particles were made ready: enough to do it again, and to take its effects back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.errors import InputError
from clarice.core.particles import FloatArray, ParticleSet
from clarice.geometry.fourier import fourier_resize
from clarice.physics.noisy_set import NoisySet
from clarice.pipeline.preflight.verdict import CtfState

# Relative error of a measured noise spectrum, and how far (Fourier pixels) the removal of each image's background
# reaches: below, the particle's own halo was taken with the background, and the CTF makes much of little.
MEASURED_NOISE_ERROR, BACKGROUND_REACH = 0.05, 1.5


def noise_error(box: int) -> FloatArray:
    """Relative error of the noise's variance in prepared images, by shell (box // 2 + 1,)."""
    shells = np.arange(box // 2 + 1)
    return np.asarray(MEASURED_NOISE_ERROR + np.exp(-((shells / BACKGROUND_REACH) ** 2)))


@dataclass(frozen=True)
class GroupNoise:
    """Noise of one optics group: σ per pixel in the input's grey values, and its spectrum in the working box.

    `spectrum` (w // 2 + 1 shells) is the per-pixel variance of images divided by `sigma` and cropped.
    `optics_group` is None for the pool of groups too small to stand alone.
    """

    optics_group: int | None
    sigma: float
    spectrum: tuple[float, ...]


@dataclass(frozen=True)
class Preparation:
    """How images became prepared ones: `y = W · crop(sign · (raw − background mean) / σ)`, W = 1 / √spectrum.

    `groups[0]` is the pool; `per_image_scale` says that σ is each image's own, not its group's.
    """

    sign: int
    ctf_state: CtfState
    input_box: int
    input_pixel_size_angstrom: float
    working_box: int
    working_pixel_size_angstrom: float
    background_radius_px: float
    per_image_scale: bool
    groups: tuple[GroupNoise, ...]

    def whitening(self) -> FloatArray:
        """W of each group, (g, working_box // 2 + 1): it multiplied the signal along with the noise."""
        spectra: FloatArray = np.array([group.spectrum for group in self.groups])
        return np.asarray(1 / np.sqrt(spectra))

    def noise_group(self, particles: ParticleSet) -> NDArray[np.int64]:
        """Row of `whitening` for each particle (n,)."""
        rows = np.zeros(len(particles), dtype=np.int64)
        if particles.optics_group is not None:
            for index, group in enumerate(self.groups):
                if group.optics_group is not None:
                    rows[particles.optics_group == group.optics_group] = index
        return rows

    def noisy_set(self, prepared: ParticleSet) -> NoisySet:
        """What a denoiser is given, of particles prepared this way."""
        optics = None if self.ctf_state == "none" else prepared.optics
        return NoisySet(
            particles=replace(prepared, optics=optics),
            whitening=self.whitening(),
            noise_group=self.noise_group(prepared),
            noise_error=noise_error(self.working_box),
            phase_flipped=self.ctf_state == "flipped",
        )

    def restore(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Denoised images (k, w, w) in the input's box and sign, in units of the input's noise σ."""
        resized = fourier_resize(torch.from_numpy(images), self.input_box, 2)
        return np.ascontiguousarray((self.sign * resized).numpy(), dtype=np.float32)

    def take_back(self, images: NDArray[np.float32]) -> Tensor:
        """Images (k, L, L) that `restore` gave, as they were: (k, w, w)."""
        return fourier_resize(torch.from_numpy(self.sign * images), self.working_box, 2)

    def as_record(self) -> dict[str, Any]:
        """The content of `prepared.json`, the pool's noise also at its top; `from_record` reads it back."""
        pool = self.groups[0]
        return {**asdict(self), "noise_sigma": pool.sigma, "noise_spectrum": list(pool.spectrum)}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Preparation:
        """The preparation that `as_record` wrote. Raises InputError when the record is not one."""
        try:
            own = {key: record[key] for key in cls.__dataclass_fields__ if key != "groups"}
            groups = tuple(
                GroupNoise(item["optics_group"], float(item["sigma"]), tuple(map(float, item["spectrum"])))
                for item in record["groups"]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the record of the preparation lacks {error}: prepare the stack again") from error
        return cls(**own, groups=groups)
