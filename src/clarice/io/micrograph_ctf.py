"""CTF parameters of micrographs, from a STAR file as RELION and CTFFIND leave it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clarice.core.errors import InputError
from clarice.io.micrograph import stem_of
from clarice.io.micrograph_pixel_size import one_value, pixel_size_in
from clarice.io.star import floats, read_star, texts

_NAME = "rlnMicrographName"
_DEFOCUS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
_PHASE_SHIFT, _MERIT = "rlnPhaseShift", "rlnCtfFigureOfMerit"
_MICROSCOPE = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")


@dataclass(frozen=True)
class MicrographCtf:
    """Of one micrograph: defocus U and V in Å, the angle of U and the shift of a phase plate in degrees.

    `figure_of_merit` of the fit, the larger the better; None where unknown.
    """

    defocus_u_angstrom: float
    defocus_v_angstrom: float
    defocus_angle_deg: float
    phase_shift_deg: float = 0.0
    figure_of_merit: float | None = None


@dataclass(frozen=True)
class MicrographCtfTable:
    """The CTF of each micrograph, by file name without folder and ending.

    `microscope`: kV, mm and amplitude contrast, or None where the file does not say; `pixel_size_angstrom` likewise.
    """

    path: Path
    by_stem: dict[str, MicrographCtf]
    microscope: tuple[float, float, float] | None
    pixel_size_angstrom: float | None


def read_micrograph_ctf(path: Path) -> MicrographCtfTable:
    """Raises InputError when no block has micrographs with their defocus, or a name stands there twice."""
    blocks = read_star(path)
    tables = [block for block in blocks.values() if {_NAME, *_DEFOCUS} <= set(block)]
    if len(tables) != 1:
        raise InputError(f"{path} must have one block with the columns _{_NAME} and _{', _'.join(_DEFOCUS)}")
    table = tables[0]
    stems = [stem_of(name) for name in texts(table, _NAME)]
    seen: set[str] = set()
    for stem in stems:
        if stem in seen:
            raise InputError(f"{path}: two micrographs are named {stem}, so that their CTF cannot be told apart")
        seen.add(stem)
    u, v, angle = (floats(table, name, str(path)).tolist() for name in _DEFOCUS)
    if _PHASE_SHIFT in table:
        phase = floats(table, _PHASE_SHIFT, str(path))
    else:
        phase = np.full(len(table), one_value(path, blocks, table, _PHASE_SHIFT) or 0.0)
    merit = floats(table, _MERIT, str(path)).tolist() if _MERIT in table else [None] * len(table)
    rows = (MicrographCtf(*row) for row in zip(u, v, angle, phase.tolist(), merit, strict=True))
    voltage, aberration, contrast = (one_value(path, blocks, table, name) for name in _MICROSCOPE)
    microscope = None
    if voltage is not None and aberration is not None and contrast is not None:
        microscope = (voltage, aberration, contrast)
    by_stem = dict(zip(stems, rows, strict=True))
    return MicrographCtfTable(path, by_stem, microscope, pixel_size_in(path, blocks, table))
