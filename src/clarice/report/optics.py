"""The microscope's part: defocus and astigmatism of the particles, and the constants of each optics group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clarice.report.charts import Chart, histogram
from clarice.report.folder import RunFiles, column
from clarice.report.wording import quantity

ANGSTROM_PER_MICROMETRE = 1e4


@dataclass(frozen=True)
class OpticsGroup:
    """Constants of one optics group, as text with units."""

    name: str
    voltage: str
    spherical_aberration: str
    amplitude_contrast: str
    pixel_size: str


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
            return OpticsSummary(_charts(column(table, "rlnDefocusU"), column(table, "rlnDefocusV")), _groups(run, name))
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
    columns = (
        ("rlnVoltage", "kV"),
        ("rlnSphericalAberration", "mm"),
        ("rlnAmplitudeContrast", ""),
        ("rlnImagePixelSize", "Å"),
    )
    known = [item for item in columns if item[0] in table.columns]
    distinct = table[[item[0] for item in known]].drop_duplicates()
    found = []
    for index, row in distinct.iterrows():
        texts = {key: quantity(float(row[key]), unit, 4) for key, unit in known}
        label = str(table.loc[index, "rlnOpticsGroupName"]) if "rlnOpticsGroupName" in table.columns else str(len(found) + 1)
        found.append(OpticsGroup(label, *(texts.get(key, quantity(None, unit)) for key, unit in columns)))
    return tuple(found)
