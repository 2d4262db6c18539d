"""The microscope's part: defocus and astigmatism of the particles, and the constants of each optics group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clarice.report.charts import Chart, histogram
from clarice.report.folder import RunFiles, column
from clarice.report.wording import quantity

ANGSTROM_PER_MICROMETRE = 1e4
CONSTANTS = {
    "rlnVoltage": ("Voltage", "kV"),
    "rlnSphericalAberration": ("Spherical aberration", "mm"),
    "rlnAmplitudeContrast": ("Amplitude contrast", ""),
    "rlnImagePixelSize": ("Pixel size", "Å"),
}


@dataclass(frozen=True)
class OpticsGroup:
    """What one optics group, or several alike, holds constant, as (name, value with unit)."""

    name: str
    constants: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class OpticsSummary:
    """Defocus charts (empty without CTF columns) and the optics groups."""

    charts: tuple[Chart, ...]
    groups: tuple[OpticsGroup, ...]


def optics_summary(run: RunFiles) -> OpticsSummary | None:
    """Read from the first particle table that has CTF columns; None when there is none."""
    for name in ("particles.star", "prepared.star"):
        table = run.table(name, "rlnDefocusU")
        if table is not None:
            return OpticsSummary(
                _charts(column(table, "rlnDefocusU"), column(table, "rlnDefocusV")), _groups(run, name)
            )
    return None


def _charts(defocus_u: np.ndarray | None, defocus_v: np.ndarray | None) -> tuple[Chart, ...]:
    if defocus_u is None:
        return ()
    defocus_v = defocus_u if defocus_v is None else defocus_v
    mean = (defocus_u + defocus_v) / 2 / ANGSTROM_PER_MICROMETRE
    astigmatism = np.abs(defocus_u - defocus_v)
    spread = f"{mean.min():.2f} to {mean.max():.2f} µm, median {np.median(mean):.2f} µm (positive is underfocus)."
    return (
        histogram("Defocus", spread, mean, "mean defocus (µm)"),
        histogram(
            "Astigmatism",
            f"Difference of the two defocus values; median {np.median(astigmatism):.0f} Å.",
            astigmatism,
            "astigmatism (Å)",
        ),
    )


def _groups(run: RunFiles, name: str) -> tuple[OpticsGroup, ...]:
    table = run.table(name, "rlnVoltage")
    if table is None:
        return ()
    known = [column for column in CONSTANTS if column in table.columns]
    found = []
    for values, rows in table.groupby(known, sort=False):
        title = str(rows["rlnOpticsGroupName"].iloc[0]) if "rlnOpticsGroupName" in table.columns else ""
        others = rows["rlnOpticsGroup"].nunique() - 1 if "rlnOpticsGroup" in table.columns else 0
        texts = (_with_unit(str(value), CONSTANTS[column][1]) for column, value in zip(known, values, strict=True))
        labels = (CONSTANTS[column][0] for column in known)
        suffix = f" and {others} alike" if others > 0 else ""
        found.append(OpticsGroup(f"Optics {title}".strip() + suffix, tuple(zip(labels, texts, strict=True))))
    return tuple(found)


def _with_unit(text: str, unit: str) -> str:
    try:
        return quantity(float(text), unit, 4)
    except ValueError:
        return text
