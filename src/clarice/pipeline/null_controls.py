"""Null controls: the denoiser and 2D classification of a run, at work on particles that show nothing.

Some particles of the stack, as many images of pure noise, and the same particles with their phases made random go the
same way. A method that makes particles of noise, or the same picture of whatever it is given, is told by what it makes
of the last two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clarice.classify.classes import Classes2D, classify
from clarice.core.particles import FloatArray
from clarice.core.progress import Progress, silent
from clarice.denoise.networks import is_denoising_network
from clarice.denoise.placed_network import PlacedNetwork
from clarice.denoise.registry import Denoiser, denoise_all
from clarice.denoise.trained import trained_network
from clarice.metrics.image import inscribed_disk
from clarice.physics.noisy_set import NoisySet
from clarice.physics.null_particles import phase_randomised, pure_noise
from clarice.pipeline.disjoint_sources import SharedPower, shared_power, source_groups
from clarice.pipeline.hidden_coefficients import Foretold, foretold

PARTICLES, NOISE, PHASES = "particles", "pure noise", "random phases"
# Images of each kind, of which so many are kept as pictures; and 2D classes of each kind.
IMAGES, SHOWN, CLASSES = 128, 4, 4
# A method is said to invent where noise leaves more than this share of the power that particles leave, or where two
# images that show nothing share more than this of the power that particles' images have. Random phases keep the power
# that a denoiser goes by, so that something in the middle may be left of them all: it must not be most of a particle.
MOST_POWER, MOST_SHARED, MOST_COMMON = 0.05, 0.05, 0.2
_ITERATIONS = 8


@dataclass(frozen=True)
class Control:
    """What became of one kind of images.

    `power`: of the denoised images, mean of Σ x̂² inside the disk; `common`, the share of it that lies in the picture
    they all have in common. `twice`: what two images of one particle denoised
    from disjoint sources share; empty where a method has no sources. `denoised` and `averages` (k, L, L): some
    images, and all class averages, the largest class first; `class_frc` the mean over classes of the FRC of halves.
    """

    kind: str
    power: float
    common: float
    twice: SharedPower
    denoised: NDArray[np.float32]
    averages: NDArray[np.float32]
    class_frc: FloatArray


@dataclass(frozen=True)
class Controls:
    """The particles and both controls, in this order.

    `foretold`: how much better than zeros a network foretells what is hidden of the particles; None of other methods.
    """

    method: str
    images: int
    each: Sequence[Control]
    foretold: Foretold | None = None

    def share_of_power(self, control: Control) -> float:
        """Power that was made of `control`, over that of the particles."""
        return control.power / self.each[0].power if self.each[0].power > 0 else float(control.power > 0)

    def common_power(self, control: Control) -> float:
        """Power of the picture that all images of `control` have in common, over the power of particles' images."""
        return max(control.common, 0.0) * self.share_of_power(control)

    def shared_curve(self, control: Control) -> FloatArray:
        """By Fourier shell, power that two images of `control` share over that of the particles' images.

        Of the particles it is their FRC. Against an FRC of its own, next to nothing that two images share would count.
        """
        return control.twice.over(self.each[0].twice.whole)

    def shared(self, control: Control) -> float | None:
        """The same of all shells that tell of structure; None where a method has no sources."""
        return control.twice.share_of(self.each[0].twice)

    @property
    def inventions(self) -> list[str]:
        """In words, what a method made of images that show nothing; none is as it should be."""
        told = []
        for control in self.each[1:]:
            share, shared = self.share_of_power(control), self.shared(control)
            common = self.common_power(control)
            if control.kind == NOISE and share > MOST_POWER:
                told.append(f"{share:.0%} of the power that particles leave is left by pure noise")
            elif common > MOST_COMMON:
                told.append(f"all images of {control.kind} become one picture, with {common:.0%} of that power")
            if shared is not None and shared > MOST_SHARED:
                told.append(f"two images of {control.kind} from disjoint sources share {shared:.0%} of that power")
        if self.foretold is not None and not self.foretold.sees:
            told.append("what was hidden of the particles is foretold hardly better than by images of zeros")
        return told

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        noise = next(control for control in self.each if control.kind == NOISE)
        if self.inventions:
            told = "; ".join(self.inventions)
            return f"{told}: what {self.method} leaves of these particles cannot be told from what it leaves of nothing"
        left = _words(self.share_of_power(noise))
        told = f"of the power that {self.method} leaves of particles, pure noise leaves {left}"
        shared = [self.shared(control) for control in self.each[1:]]
        known = [share for share in shared if share is not None]
        if known:
            told += f", and two images that show nothing share {_words(max(known))}"
        return f"{told}: it does not make particles of noise"


def _words(share: float) -> str:
    return "less than 0.1 %" if share < 1e-3 else f"{100 * share:.1f} %"


def null_controls(
    noisy: NoisySet, method: Denoiser, diameter_px: float, seed: int, progress: Progress = silent
) -> Controls:
    """The controls of a denoiser on at most 128 particles of a prepared stack, spread evenly over it."""
    some = noisy.subset(noisy.sample_rows(IMAGES))
    kinds = {PARTICLES: some, NOISE: pure_noise(some, seed), PHASES: phase_randomised(some, seed)}
    each = []
    for number, (kind, images) in enumerate(kinds.items()):
        progress(kind, number, len(kinds))
        each.append(_control(kind, images, method, diameter_px, seed))
    progress("", len(kinds), len(kinds))
    seen = foretold(some, trained_network(method.name), seed) if is_denoising_network(method.name) else None
    return Controls(method.name, len(some), each, seen)


def _control(kind: str, images: NoisySet, method: Denoiser, diameter_px: float, seed: int) -> Control:
    denoised = denoise_all(method(images), len(images), images.box)
    classes = classify(images, min(CLASSES, len(images)), iterations=_ITERATIONS, diameter_px=diameter_px, seed=seed)
    inside = denoised[:, inscribed_disk(images.box)]
    power = float((inside**2).sum(axis=1).mean())
    twice = _shared_by_disjoint_sources(images, method.name, seed)
    return Control(
        kind, power, _common(inside), twice, denoised[images.sample_rows(SHOWN)], classes.images, _class_frc(classes)
    )


def _common(images: NDArray[np.float32]) -> float:
    """Share of the power of images (n, p) that lies in their mean; 0 on average where nothing is common to two."""
    count, power = len(images), float((images.astype(np.float64) ** 2).sum(axis=1).mean())
    if count < 2 or power == 0:
        return 0.0
    of_mean = float((images.mean(axis=0, dtype=np.float64) ** 2).sum())
    return (count * of_mean - power) / ((count - 1) * power)


def _shared_by_disjoint_sources(images: NoisySet, method: str, seed: int) -> SharedPower:
    """Of every fourth image. A method that sees each image by itself has the image's own two halves as sources."""
    if not is_denoising_network(method):
        return SharedPower(np.zeros(0), np.zeros(0))
    trained = trained_network(method)
    groups = source_groups(images, trained)
    return shared_power(PlacedNetwork(trained), images, groups, np.arange(len(images)) % 4 == 0, seed)


def _class_frc(classes: Classes2D) -> FloatArray:
    """Mean over the classes that have one."""
    known = np.isfinite(classes.frc).all(axis=1)
    return classes.frc[known].mean(axis=0) if known.any() else np.zeros(0)
