"""Particles cut from micrographs: boxes about picks, background flattened and normalised, with the CTF of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.counting import counted
from clarice.core.errors import InputError, UsageError
from clarice.core.particles import FloatArray
from clarice.core.progress import Progress, silent
from clarice.geometry.fourier import fourier_resize, radius_grid
from clarice.io.micrograph import read_micrograph
from clarice.io.micrograph_ctf import MicrographCtf
from clarice.io.mrc import MrcStackWriter
from clarice.io.star import write_star
from clarice.physics.ctf_fit import CtfFit, FitRange, Microscope, fit_ctf
from clarice.pipeline.extraction_sources import Source
from clarice.pipeline.run_folder import nobody

IMAGES, TABLE = "particles.mrcs", "particles.star"
_PHASE_SHIFT, _MERIT = "rlnPhaseShift", "rlnCtfFigureOfMerit"
_BOXES_AT_ONCE = 256


@dataclass(frozen=True)
class ExtractionSettings:
    """Edge of the box in pixels of the micrograph, and of the images written (the same, or less: Fourier-cropped).

    Beyond `background_radius_px`, in pixels of the box, lies background. `invert`: protein that is dark in the
    micrographs is bright in the images. Raises UsageError for sizes that cannot be.
    """

    box: int
    output_box: int
    background_radius_px: float
    invert: bool = False

    def __post_init__(self) -> None:
        if self.box < 16:
            raise UsageError(f"--box {self.box} must be at least 16 pixels")
        if not 16 <= self.output_box <= self.box:
            raise UsageError(f"--scale-to {self.output_box} must lie between 16 and the box of {self.box} px")
        if not 0 < self.background_radius_px < self.box / 2:
            raise UsageError(
                f"--background-radius {self.background_radius_px:g} must lie between 0 and half the box, {self.box} px"
            )


@dataclass(frozen=True)
class Extracted:
    """How many particles were written, how many picks lay too near to an edge, and how many micrographs had a CTF
    fitted that tells no more than one fitted to noise.
    """

    particles: int
    left_out: int
    doubtful_fits: int


class FlatBoxError(InputError):
    """Image `row` of several has no noise around its particle."""

    def __init__(self, row: int) -> None:
        super().__init__("a box has no noise around its particle: the micrograph is empty there, or masked")
        self.row = row


def extract(
    sources: Sequence[Source],
    folder: Path,
    settings: ExtractionSettings,
    microscope: Microscope,
    pixel_size_angstrom: float,
    *,
    fit_within: FitRange | None = None,
    tell: Callable[[str], None] = nobody,
    progress: Progress = silent,
) -> Extracted:
    """Writes `particles.mrcs` and, last, `particles.star` into `folder`.

    Raises InputError when a micrograph is unreadable, or empty around a pick, or no pick has room for a box.
    """
    pixel = pixel_size_angstrom
    rows: list[pd.DataFrame] = []
    left_out = doubtful = 0
    with MrcStackWriter(folder / IMAGES, settings.output_box, pixel * settings.box / settings.output_box) as stack:
        for number, source in enumerate(sources, start=1):
            image = read_micrograph(source.path)
            centres = source.centres_px
            inside = has_room(centres, image.shape, settings.box)
            left_out += int((~inside).sum())
            ctf, fit = source.ctf, None
            if ctf is None:
                fit = fit_ctf(image, pixel, microscope, fit_within)
                u, v, degrees = fit.defocus_u_angstrom, fit.defocus_v_angstrom, fit.defocus_angle_deg
                ctf = MicrographCtf(u, v, degrees, figure_of_merit=fit.correlation)
            for images in _boxes(source.name, image, centres[inside], settings):
                stack.append(images)
            rows.append(_rows(source.name, centres[inside], ctf))
            doubtful += _tell_of(source.name, int(inside.sum()), ctf, fit, tell)
            progress("extracting", number, len(sources))
        if stack.count == 0:
            raise InputError(
                f"none of {counted(left_out, 'pick')} leaves room for a box of {settings.box} pixels inside its "
                f"micrograph ({sources[0].path} is the first): take a smaller --box"
            )
    table = pd.concat(rows, ignore_index=True)
    table.insert(0, "rlnImageName", [f"{row + 1:06d}@{IMAGES}" for row in range(len(table))])
    write_star(folder / TABLE, {"optics": _optics(settings, microscope, pixel), "particles": _without_unknown(table)})
    return Extracted(len(table), left_out, doubtful)


def _tell_of(name: str, count: int, ctf: MicrographCtf, fit: CtfFit | None, tell: Callable[[str], None]) -> bool:
    """Tells what was cut from a micrograph, and warns of a fit that is no better than one to noise: whether it is."""
    fitted = f", fitted with a correlation of {fit.correlation:.3f}" if fit else ""
    tell(f"{name}: {counted(count, 'particle')}, defocus {ctf.defocus_u_angstrom / 1e4:.2f} µm{fitted}")
    if fit is None or not fit.is_no_better_than_noise:
        return False
    tell(
        f"warning: the CTF of {name} is doubtful, because noise alone is fitted with a correlation of up to "
        f"{fit.noise_correlation:.3f}: give it by --ctf, or leave the micrograph out"
    )
    return True


def has_room(centres_px: FloatArray, shape: tuple[int, ...], box: int) -> NDArray[np.bool_]:
    """Which centres (n, 2) have a whole box about them in a micrograph of `shape` (H, W): (n,)."""
    corner = np.rint(centres_px).astype(np.int64) - box // 2
    limit = np.array([shape[1], shape[0]]) - box
    return np.asarray(((corner >= 0) & (corner <= limit)).all(axis=1))


def _boxes(
    name: str, image: NDArray[np.float32], centres_px: FloatArray, settings: ExtractionSettings
) -> Iterator[NDArray[np.float32]]:
    """Normalised images (k, L, L) about the pixels nearest to the centres, which come to lie at index L // 2.

    Raises InputError, naming the micrograph and the pick, where there is no noise around it.
    """
    box = settings.box
    corners = np.rint(centres_px).astype(np.int64) - box // 2
    for start in range(0, len(corners), _BOXES_AT_ONCE):
        cut = np.stack([image[y : y + box, x : x + box] for x, y in corners[start : start + _BOXES_AT_ONCE]])
        try:
            flat = normalised(torch.from_numpy(cut), settings.background_radius_px)
        except FlatBoxError as error:
            x, y = centres_px[start + error.row]
            raise InputError(
                f"{name} has no noise around its pick at x {x:g}, y {y:g}: it is empty there, or masked, so take the "
                "pick out"
            ) from error
        if settings.output_box != box:
            # Cropping takes noise away with the frequencies it had: again 1 outside the particle.
            smaller = fourier_resize(flat, settings.output_box, 2)
            flat = normalised(smaller, settings.background_radius_px * settings.output_box / box)
        yield np.ascontiguousarray((-flat if settings.invert else flat).numpy(), dtype=np.float32)


def normalised(images: Tensor, background_radius_px: float) -> Tensor:
    """Images (n, L, L) whose background is a plane taken away, with standard deviation 1.

    Background lies beyond the radius; the plane is the one of least squares there. Raises FlatBoxError for a
    background without any noise.
    """
    box = images.shape[-1]
    outside = (radius_grid(box) > background_radius_px).flatten()
    axis = torch.arange(box, dtype=torch.float64) - box // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    plane = torch.stack([torch.ones_like(x), x, y]).flatten(1)
    flat = images.flatten(1).double()
    fitted = flat[:, outside] @ torch.linalg.pinv(plane[:, outside])
    flat = flat - fitted @ plane
    sigma = flat[:, outside].std(dim=1, keepdim=True)
    silent_rows = torch.nonzero(sigma[:, 0] <= 1e-9 * images.flatten(1).abs().amax(dim=1))
    if len(silent_rows):
        raise FlatBoxError(int(silent_rows[0]))
    return (flat / sigma).view(images.shape).float()


def _rows(name: str, centres_px: FloatArray, ctf: MicrographCtf) -> pd.DataFrame:
    count = len(centres_px)
    return pd.DataFrame({
        "rlnMicrographName": np.array([name] * count, dtype=object),
        "rlnCoordinateX": np.rint(centres_px[:, 0]),
        "rlnCoordinateY": np.rint(centres_px[:, 1]),
        "rlnOpticsGroup": np.ones(count, dtype=np.int32),
        "rlnDefocusU": np.full(count, ctf.defocus_u_angstrom),
        "rlnDefocusV": np.full(count, ctf.defocus_v_angstrom),
        "rlnDefocusAngle": np.full(count, ctf.defocus_angle_deg),
        _PHASE_SHIFT: np.full(count, ctf.phase_shift_deg),
        _MERIT: np.full(count, np.nan if ctf.figure_of_merit is None else ctf.figure_of_merit),
    })  # fmt: skip


def _without_unknown(table: pd.DataFrame) -> pd.DataFrame:
    """The table less the phase shift where no micrograph has any, and the figure of merit where none is known."""
    unused = [name for name, known in ((_PHASE_SHIFT, table[_PHASE_SHIFT] != 0), (_MERIT, table[_MERIT].notna()))
              if not known.any()]  # fmt: skip
    return table.drop(columns=unused)


def _optics(settings: ExtractionSettings, microscope: Microscope, pixel: float) -> pd.DataFrame:
    return pd.DataFrame({
        "rlnOpticsGroupName": ["opticsGroup1"],
        "rlnOpticsGroup": [1],
        "rlnMicrographOriginalPixelSize": [pixel],
        "rlnVoltage": [microscope.voltage_kv],
        "rlnSphericalAberration": [microscope.spherical_aberration_mm],
        "rlnAmplitudeContrast": [microscope.amplitude_contrast],
        "rlnImagePixelSize": [pixel * settings.box / settings.output_box],
        "rlnImageSize": [settings.output_box],
        "rlnImageDimensionality": [2],
    })  # fmt: skip
