"""What joint training made of each network, as if it had been trained by itself: a folder to ship its weights from."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from clarice.abinitio.trained_moment_network import NAME as STRUCTURES_NAME
from clarice.core.errors import InputError, UsageError
from clarice.io.atomic import writing
from clarice.io.weights import read_weights, weights_path, write_weights
from clarice.training.joint_network import DENOISER, STRUCTURES
from clarice.training.joint_task import CENTRED_FROM_EVERYWHERE
from clarice.training.logs import LOG_NAME
from clarice.training.plateau import TRAINED_BELOW, last_quarter_gain
from clarice.training.summary import LAST_WEIGHTS, SUMMARY_NAME

# Keys of a joint recipe that are a denoiser's as well.
_OF_DENOISERS = ("seed", "network", "sets", "specimens", "validation", "loss", "training", "data", "cache", "molecules")
_VALIDATION, _IMAGES = "validation_", "validation_images-"


def part_folder(run_folder: Path, part: str | None) -> Path:
    """`run_folder`/`part` with weights, summary and log of that network alone, written anew.

    Raises UsageError for a part that is none, InputError when the run has no weights yet.
    """
    if part not in (DENOISER, STRUCTURES):
        raise UsageError(f"{run_folder} trained two networks: name one with --part {DENOISER} or --part {STRUCTURES}")
    stored = read_weights(run_folder / LAST_WEIGHTS)
    tensors = {name.removeprefix(f"{part}."): t for name, t in stored.tensors.items() if name.startswith(f"{part}.")}
    recipe = _recipe_of(stored.card["recipe"], part)
    folder = run_folder / part
    folder.mkdir(exist_ok=True)
    write_weights(folder / LAST_WEIGHTS, tensors, {**stored.card, "recipe": recipe})
    validations = _write_log(run_folder / LOG_NAME, folder / LOG_NAME, part)
    summary = json.loads((run_folder / SUMMARY_NAME).read_text(encoding="utf-8"))
    gain = last_quarter_gain(validations)
    summary |= {
        "recipe": recipe,
        "validations": validations,
        "last_quarter_gain": gain,
        "trained": None if gain is None else gain < TRAINED_BELOW,
    }
    with writing(folder / SUMMARY_NAME) as temporary:
        temporary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return folder


def _recipe_of(recipe: dict[str, Any], part: str) -> dict[str, Any]:
    """The recipe of a task that trains the part alone: of structures, the one that they had been learned by."""
    if part == DENOISER:
        own = {key: recipe[key] for key in _OF_DENOISERS if key in recipe}
        sets = {**recipe.get("sets", {}), **CENTRED_FROM_EVERYWHERE}
        return {"task": "denoiser", **own, "sets": sets}
    begun = read_weights(Path(recipe["structures"]) if recipe.get("structures") else weights_path(STRUCTURES_NAME))
    kept = {key: recipe.get(key) for key in ("seed", "training", "data", "cache", "molecules")}
    return {"task": "structures", **begun.card["recipe"], **kept}


def _write_log(source: Path, target: Path, part: str) -> list[tuple[int, float]]:
    """The log with the part's own figures; returns its error by images seen."""
    try:
        with source.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(
            f"{source} cannot be read ({error.strerror}): export from the folder of the training"
        ) from error
    written, validations = [], []
    for row in rows:
        of_images = {
            name.replace(_IMAGES, _VALIDATION): value for name, value in row.items() if name.startswith(_IMAGES)
        }
        of_structures = {
            name: value for name, value in row.items() if name.startswith(_VALIDATION) and not name.startswith(_IMAGES)
        }
        figures = of_images if part == DENOISER else of_structures
        if part == DENOISER and all(of_images.values()):
            figures["validation_error"] = str(sum(map(float, of_images.values())) / len(of_images))
        written.append({"images": row["images"], "loss": row["loss"], "validation_error": "", **figures})
        if written[-1]["validation_error"]:
            validations.append((int(row["images"]), float(written[-1]["validation_error"])))
    with writing(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(written[0]) if written else ["images", "loss", "validation_error"])
        writer.writeheader()
        writer.writerows(written)
    return validations
