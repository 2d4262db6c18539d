"""Simulated particle sets: `y = H * (S_{−t} P_R v) + noise`, with the truth beside them.

Signal, clean images and volume are scaled together so that the noise has unit variance a pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.errors import UsageError
from clarice.core.particles import ArraySource, Optics, ParticleSet, Poses
from clarice.core.progress import Progress, silent
from clarice.core.seeds import generator_of
from clarice.geometry.fourier import resize_centred
from clarice.geometry.so3 import random_rotations
from clarice.physics.atoms import Atoms
from clarice.physics.defocus import (
    defocus_groups,
    group_of_particle,
    optics_of_groups,
    read_defocus_table,
    unit_optics,
)
from clarice.physics.image_formation import form_images, through_ctf
from clarice.physics.noise import coloured_noise, poisson_image, poisson_scale, typical_spectrum, white_noise
from clarice.physics.potential import atom_projector, atoms_to_volume, resample_volume, volume_projector
from clarice.physics.structural_noise import (
    NO_STRUCTURAL_NOISE,
    StructuralNoise,
    Surroundings,
    on_detector,
    other_shapes,
)

NoiseKind = Literal["white", "coloured", "poisson", "none"]
Projector = Callable[[NDArray[np.float64]], Tensor]

# Share of the box that the structure's largest diameter fills.
FILL = 0.65
# Streams of random numbers, so that a change of one setting leaves the other draws as they were.
_STREAMS = ("rotations", "shifts", "defocus", "noise", "surroundings", "detector", "shapes")


@dataclass(frozen=True)
class MapPotential:
    """A map (L, L, L), axes (z, y, x), protein bright, to be projected instead of atoms."""

    volume: Tensor
    pixel_size_angstrom: float


Specimen = Atoms | MapPotential


@dataclass(frozen=True)
class SimulationSettings:
    """What to simulate. Without a pixel size the structure's diameter fills 65 % of the box.

    `snr` is the mean over the set of the mean square of the noiseless CTF-applied image over the whole box,
    over the noise variance per pixel; what is `structural` counts in neither. Shifts are uniform within ±`max_shift_px`
    in x and y. Unless `astigmatic`, both defocus values of a group are their mean.
    """

    particles: int
    box: int
    seed: int
    pixel_size_angstrom: float | None = None
    snr: float = 0.1
    max_shift_px: float = 3.0
    ctf: bool = True
    noise: NoiseKind = "white"
    voltage_kv: float = 300.0
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.1
    bfactor_angstrom2: float = 0.0
    defocus_groups: int = 50
    astigmatic: bool = True
    ctf_table: Path | None = None
    structural: StructuralNoise = NO_STRUCTURAL_NOISE

    def __post_init__(self) -> None:
        checks = (
            (self.particles >= 1, f"--particles {self.particles} must be at least 1"),
            (self.box >= 8, f"--box {self.box} must be at least 8 pixels"),
            (self.snr > 0, f"--snr {self.snr:g} must be above 0"),
            (
                0 <= self.max_shift_px <= self.box / 2,
                f"--shift-px {self.max_shift_px:g} must lie between 0 and half the box of {self.box} px",
            ),
            (self.defocus_groups >= 1, f"--defocus-groups {self.defocus_groups} must be at least 1"),
            (
                self.pixel_size_angstrom is None or self.pixel_size_angstrom > 0,
                f"--pixel-size {self.pixel_size_angstrom} must be above 0 Å",
            ),
            (self.voltage_kv > 0, f"--voltage-kv {self.voltage_kv:g} must be above 0"),
            (
                0 <= self.amplitude_contrast <= 1,
                f"--amplitude-contrast {self.amplitude_contrast:g} must lie between 0 and 1",
            ),
            (self.seed >= 0, f"--seed {self.seed} must not be negative"),
        )
        for holds, message in checks:
            if not holds:
                raise UsageError(message)


@dataclass(frozen=True)
class SimulatedSet:
    """A particle set (bright protein, noise of unit variance, no poses) and what is true of it.

    Poisson noise varies with the signal; its variance is 1 on average over the set.


    `images` (n, L, L): the particles' images, as `particles.read()` gives them.
    `clean` (n, L, L): CTF-free, noise-free projections in each particle's own frame, its shift included.
    `poses`: true rotations and centring shifts. `volume` (L, L, L): the map whose projections they are.
    `scale`: what volts were multiplied by. `noise_spectrum` (L // 2 + 1,): per-pixel variance by shell.
    """

    particles: ParticleSet
    images: NDArray[np.float32]
    clean: NDArray[np.float32]
    poses: Poses
    volume: NDArray[np.float32]
    settings: SimulationSettings
    scale: float
    noise_spectrum: NDArray[np.float32]


def _stream(seed: int, name: str) -> torch.Generator:
    return generator_of(seed, _STREAMS.index(name))


def default_pixel_size(specimen: Specimen, box: int) -> float:
    """Å per pixel at which the largest diameter fills 65 % of the box; a map keeps its field of view."""
    if isinstance(specimen, MapPotential):
        return specimen.pixel_size_angstrom * specimen.volume.shape[-1] / box
    diameter = specimen.diameter_angstrom()
    if diameter == 0:
        raise UsageError("a single atom has no diameter to set the pixel size by: pass --pixel-size")
    return diameter / (FILL * box)


def draw_poses(settings: SimulationSettings) -> Poses:
    """Rotations uniform on SO(3) and shifts uniform within ±max_shift_px, from the settings' seed."""
    rotations = random_rotations(settings.particles, _stream(settings.seed, "rotations"))
    generator = _stream(settings.seed, "shifts")
    unit = torch.rand((settings.particles, 2), generator=generator, dtype=torch.float64).numpy()
    return Poses(rotations, (2 * unit - 1) * settings.max_shift_px)


def draw_optics(settings: SimulationSettings) -> tuple[Optics, NDArray[np.int64]]:
    """Optics of each particle and its 0-based defocus group, from the settings' seed."""
    group = group_of_particle(settings.particles, settings.defocus_groups)
    if not settings.ctf:
        return unit_optics(settings.particles, settings.voltage_kv), group
    table = None if settings.ctf_table is None else read_defocus_table(settings.ctf_table)
    groups = defocus_groups(settings.defocus_groups, _stream(settings.seed, "defocus"), table)
    if not settings.astigmatic:
        groups[:, :2] = groups[:, :2].mean(axis=1, keepdims=True)
    optics = optics_of_groups(
        groups,
        group,
        voltage_kv=settings.voltage_kv,
        spherical_aberration_mm=settings.spherical_aberration_mm,
        amplitude_contrast=settings.amplitude_contrast,
        bfactor_angstrom2=settings.bfactor_angstrom2,
    )
    return optics, group


def _prepare(specimen: Specimen, box: int, pixel_size: float) -> tuple[Projector, Tensor]:
    """A projector at twice the box, and the volume at the box."""
    if isinstance(specimen, MapPotential):
        wide = resample_volume(specimen.volume, specimen.pixel_size_angstrom, 2 * box, pixel_size)
        return volume_projector(wide), resize_centred(wide, box, 3)
    return atom_projector(specimen, 2 * box, pixel_size), atoms_to_volume(specimen, box, pixel_size)


def _surroundings(
    specimen: Specimen, settings: SimulationSettings, pixel_size: float, projector: Projector
) -> Surroundings:
    """What lies beside the particles. Raises UsageError where a map would have to move a domain."""
    shapes: tuple[Projector, ...] = ()
    if settings.structural.floppy > 0:
        if isinstance(specimen, MapPotential):
            raise UsageError(
                "structural noise: floppy needs the atoms of a structure, and a map has none: leave it out"
            )
        rng = np.random.default_rng(_stream(settings.seed, "shapes").initial_seed())
        shapes = tuple(atom_projector(each, 2 * settings.box, pixel_size) for each in other_shapes(specimen, rng))
    generator = _stream(settings.seed, "surroundings")
    return Surroundings(settings.structural, settings.box, pixel_size, projector, shapes, generator)


def _array(folder: Path | None, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if folder is None:
        return np.empty(shape, dtype=np.float32)
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=shape)


def _chunk_rows(box: int) -> int:
    """Rows formed at once: fixed by the box alone, so that the noise drawn does not depend on the machine."""
    return max(1, 1_000_000 // box**2)


def _add_noise(
    signal: NDArray[np.float32], scale: float, deviation: float, settings: SimulationSettings, spectrum: Tensor
) -> None:
    """Turns `signal` in place into scaled noisy images, whose noise, of this deviation, is then made 1."""
    generator, faults = _stream(settings.seed, "noise"), _stream(settings.seed, "detector")
    rows = _chunk_rows(settings.box)
    for start in range(0, len(signal), rows):
        part = torch.from_numpy(signal[start : start + rows] * np.float32(scale))
        if settings.noise == "white":
            part = part + white_noise(len(part), settings.box, generator)
        elif settings.noise == "coloured":
            part = part + coloured_noise(len(part), settings.box, spectrum, generator)
        elif settings.noise == "poisson":
            part = poisson_image(part, generator) / deviation
        part += on_detector(settings.structural, len(part), settings.box, faults)
        signal[start : start + rows] = part.numpy()


def simulate(
    specimen: Specimen,
    settings: SimulationSettings,
    *,
    poses: Poses | None = None,
    folder: Path | None = None,
    progress: Progress = silent,
) -> SimulatedSet:
    """A particle set of `specimen` with its truth; the same settings give the same set.

    Atoms are centred on their scattering mass first. `poses` replace the drawn ones. With a `folder` the
    images live there in memory-mapped files instead of in memory.
    """
    specimen = specimen.centred() if isinstance(specimen, Atoms) else specimen
    count, box = settings.particles, settings.box
    pixel_size = settings.pixel_size_angstrom or default_pixel_size(specimen, box)
    poses = draw_poses(settings) if poses is None else poses
    if len(poses) != count:
        raise UsageError(f"{len(poses)} poses were given for {count} particles: give one a particle")
    optics, group = draw_optics(settings)
    projector, volume = _prepare(specimen, box, pixel_size)
    surroundings = _surroundings(specimen, settings, pixel_size, projector)
    clean, images = _array(folder, "clean", (count, box, box)), _array(folder, "images", (count, box, box))
    power, total, rows = 0.0, 0.0, _chunk_rows(box)
    for start in range(0, count, rows):
        index = np.arange(start, min(start + rows, count))
        rotations, seen = poses.rotations[index], (poses.subset(index), optics.subset(index), box, pixel_size)
        projections = projector(rotations)
        whole, signal = form_images(projections, *seen)
        shown = surroundings.as_shown(projections, rotations)
        if shown is not projections:
            signal = form_images(shown, *seen)[1]
        power += float(signal.double().square().sum())
        total += float(signal.double().sum())
        beside = surroundings.beside(projections)
        if beside is not None:
            signal = signal + through_ctf(torch.fft.rfft2(beside), *seen[1:])
        clean[index], images[index] = whole.numpy(), signal.numpy()
        progress("simulating", int(index[-1]) + 1, count)
    if power == 0:
        raise UsageError("the structure leaves no signal in the box: give one with atoms inside the box")
    pixels = count * box**2
    scale, deviation = float(np.sqrt(settings.snr * pixels / power)), 1.0
    if settings.noise == "poisson":
        scale, deviation = poisson_scale(power / pixels, total / pixels, settings.snr)
    flat = torch.ones(box // 2 + 1) if settings.noise != "none" else torch.zeros(box // 2 + 1)
    spectrum = typical_spectrum(box, pixel_size) if settings.noise == "coloured" else flat
    _add_noise(images, scale, deviation, settings, spectrum)
    scale /= deviation
    for start in range(0, count, rows):
        clean[start : start + rows] *= np.float32(scale)
    micrograph = np.array([f"micrograph_{number + 1:04d}.mrc" for number in group])
    particles = ParticleSet(ArraySource(images), pixel_size, optics=optics, micrograph=micrograph)
    truth = (volume * scale).numpy()
    return SimulatedSet(particles, images, clean, poses, truth, settings, scale, spectrum.float().numpy())
