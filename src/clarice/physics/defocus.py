"""Optics of simulated particles: defocus and astigmatism by micrograph, from a table or a plain model."""

from __future__ import annotations

import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from clarice.core.errors import InputError
from clarice.core.particles import Optics

FloatArray = NDArray[np.float64]

# Without a table: underfocus normal about 2.0 µm (σ 0.47 µm) within 0.8–3.9 µm, which is how the micrographs
# of EMPIAR-10028 spread; astigmatism |U − V| normal about 200 Å, at any angle.
_MEAN_ANGSTROM, _SIGMA_ANGSTROM = 20_200.0, 4_700.0
_RANGE_ANGSTROM = (8_000.0, 38_700.0)
_ASTIGMATISM_ANGSTROM, _ASTIGMATISM_SIGMA = 200.0, 80.0


def read_defocus_table(path: Path) -> FloatArray:
    """Distinct (U, V, angle) rows (k, 3), Å and degrees, of a CTF table (`.npz` with arrays ctf and columns).

    Raises InputError when the file is not such a table.
    """
    if not path.is_file():
        raise InputError(f"CTF table {path} does not exist: give an .npz with the arrays ctf and columns")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = [str(name) for name in archive["columns"]]
            table = np.asarray(archive["ctf"], dtype=np.float64)
        columns = [names.index(name) for name in ("DefU", "DefV", "DefAng")]
        return np.unique(table[:, columns], axis=0)
    except (ValueError, TypeError, OSError, EOFError, LookupError, AttributeError, BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path} is no CTF table: it needs arrays ctf and columns with DefU, DefV and DefAng"
        ) from error


def _draw_model(count: int, generator: torch.Generator) -> FloatArray:
    normal = torch.randn((count, 2), generator=generator, dtype=torch.float64).numpy()
    angle = torch.rand(count, generator=generator, dtype=torch.float64).numpy() * 180
    mean = np.clip(_MEAN_ANGSTROM + _SIGMA_ANGSTROM * normal[:, 0], *_RANGE_ANGSTROM)
    half = np.abs(_ASTIGMATISM_ANGSTROM + _ASTIGMATISM_SIGMA * normal[:, 1]) / 2
    return np.stack([mean + half, mean - half, angle], axis=1)


def _draw_table(table: FloatArray, count: int, generator: torch.Generator) -> FloatArray:
    order = torch.randperm(len(table), generator=generator).numpy()
    return np.asarray(table[np.resize(order, count)])


def defocus_groups(count: int, generator: torch.Generator, table: FloatArray | None = None) -> FloatArray:
    """`count` draws of (U, V, angle), Å and degrees: distinct rows of `table` while they last, or a model."""
    return _draw_model(count, generator) if table is None else _draw_table(table, count, generator)


def group_of_particle(particles: int, groups: int) -> NDArray[np.int64]:
    """0-based defocus group of each particle: equal runs in order, as particles come from micrographs."""
    return np.arange(particles, dtype=np.int64) * min(groups, max(particles, 1)) // max(particles, 1)


def optics_of_groups(
    groups: FloatArray,
    group: NDArray[np.int64],
    *,
    voltage_kv: float,
    spherical_aberration_mm: float,
    amplitude_contrast: float,
    bfactor_angstrom2: float,
) -> Optics:
    """Optics of particles whose defocus is that of their `group`, without phase shift."""
    count = len(group)
    defocus = groups[group]
    return Optics(
        voltage_kv=np.full(count, voltage_kv),
        spherical_aberration_mm=np.full(count, spherical_aberration_mm),
        amplitude_contrast=np.full(count, amplitude_contrast),
        defocus_u_angstrom=defocus[:, 0],
        defocus_v_angstrom=defocus[:, 1],
        defocus_angle_deg=defocus[:, 2],
        phase_shift_deg=np.zeros(count),
        bfactor_angstrom2=np.full(count, bfactor_angstrom2),
    )


def unit_optics(count: int, voltage_kv: float) -> Optics:
    """Optics whose CTF is 1 everywhere: pure amplitude contrast, no defocus, no aberration (sin π/2)."""
    zero = np.zeros(count)
    return Optics(np.full(count, voltage_kv), zero, np.ones(count), zero, zero, zero, zero, zero)
