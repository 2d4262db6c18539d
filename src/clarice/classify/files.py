"""Classes on disk: classes.mrcs and .star, class_members.star and classes.json, and back for selection."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clarice.classify.classes import Classes2D
from clarice.classify.select import ClassQuality
from clarice.core.errors import InputError
from clarice.core.particles import FloatArray, ParticleSet
from clarice.io.atomic import writing
from clarice.io.mrc import write_mrc
from clarice.io.paths import name_from
from clarice.io.relion import ORIGINS_PX, RelionTable
from clarice.io.stack import write_particles
from clarice.io.star import write_star

IMAGES, TABLE, MEMBERS, RECORD = "classes.mrcs", "classes.star", "class_members.star", "classes.json"
# RELION says so of a class whose resolution cannot be told.
UNKNOWN_RESOLUTION_ANGSTROM = 999.0
_MEASURES = ("resolution_angstrom", "contrast", "class_fit")


def write_classes(
    classes: Classes2D,
    particles: ParticleSet,
    folder: Path,
    *,
    sign: int = 1,
    settings: dict[str, Any] | None = None,
) -> None:
    """Writes the four files of a classification into `folder`.

    `particles` is the raw set the classes were made of, row for row; its table is kept in the members' file.
    `sign` −1 writes averages with dark protein, as in the input. `settings` go into classes.json. Raises
    OutputError.
    """
    write_mrc(folder / IMAGES, sign * classes.images, classes.pixel_size_angstrom, mode="float32", is_volume=False)
    write_star(folder / TABLE, {"model_classes": class_table(classes, folder)})
    write_particles(
        particles,
        folder / MEMBERS,
        class_number=classes.class_number,
        extra_columns=member_columns(classes, particles),
        drop_columns=ORIGINS_PX,
    )
    with writing(folder / RECORD) as temporary:
        text = json.dumps(record_of(classes, settings or {}), indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def class_table(classes: Classes2D, folder: Path) -> pd.DataFrame:
    """One row a class, as in the block model_classes of RELION's model files."""
    resolution = np.where(
        np.isfinite(classes.resolution_angstrom), classes.resolution_angstrom, UNKNOWN_RESOLUTION_ANGSTROM
    )
    name = name_from(folder / IMAGES, folder / TABLE)
    return pd.DataFrame(
        {
            "rlnReferenceImage": [f"{number:06d}@{name}" for number in range(1, len(classes) + 1)],
            "rlnClassDistribution": classes.population / max(1, int(classes.population.sum())),
            "rlnEstimatedResolution": resolution,
            "rlnClassNumber": np.arange(1, len(classes) + 1),
            "rlnClassPriorOffsetX": np.zeros(len(classes)),
            "rlnClassPriorOffsetY": np.zeros(len(classes)),
        }
    )


def member_columns(classes: Classes2D, particles: ParticleSet) -> dict[str, FloatArray]:
    """What class_members.star says of each particle beside its class.

    In two dimensions only psi has a meaning: rot and tilt of an earlier refinement become 0, since beside the
    new psi they would tell a wrong pose.
    """
    columns = {
        "rlnAnglePsi": classes.psi_deg,
        "rlnOriginXAngst": classes.shift_angstrom[:, 0],
        "rlnOriginYAngst": classes.shift_angstrom[:, 1],
        "rlnMaxValueProbDistribution": classes.probability,
    }
    table = particles.table
    for name in ("rlnAngleRot", "rlnAngleTilt"):
        if isinstance(table, RelionTable) and name in table.particles:
            columns[name] = np.zeros(len(particles))
    return columns


def record_of(classes: Classes2D, settings: dict[str, Any]) -> dict[str, Any]:
    """The content of classes.json; null stands for what an empty class lacks."""
    measures = {name: getattr(classes, name) for name in _MEASURES}
    rows = [
        {
            "number": index + 1,
            "population": int(classes.population[index]),
            **{name: _number(values[index]) for name, values in measures.items()},
        }
        for index in range(len(classes))
    ]
    return {
        "particles": int(classes.population.sum()),
        "box": int(classes.images.shape[-1]),
        "pixel_size_angstrom": classes.pixel_size_angstrom,
        "diameter_angstrom": classes.diameter_px * classes.pixel_size_angstrom,
        "log_likelihood": list(classes.log_likelihood),
        **settings,
        "classes": rows,
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def quality_of(classes: Classes2D) -> ClassQuality:
    """What selection looks at, of classes just made."""
    return ClassQuality(classes.population, classes.resolution_angstrom, classes.contrast, classes.class_fit)


def read_quality(path: Path) -> ClassQuality:
    """What selection looks at, from a classes.json. Raises InputError when it is missing or damaged."""
    if not path.is_file():
        raise InputError(f"{path} is missing: --auto needs it beside the members' file `clarice classify` wrote")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["classes"]
        numbers = [int(row["number"]) for row in rows]
        values = {
            name: np.array([np.nan if row[name] is None else float(row[name]) for row in rows]) for name in _MEASURES
        }
        population = np.array([int(row["population"]) for row in rows])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not the record of a classification: run `clarice classify` again") from error
    if numbers != list(range(1, len(rows) + 1)):
        raise InputError(f"{path} does not list its classes in order: run `clarice classify` again")
    return ClassQuality(population, **values)
