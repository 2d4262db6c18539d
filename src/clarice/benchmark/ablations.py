"""The protocol `ablations`: what each part of the polar transformer is worth, at an equal number of training images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clarice.benchmark.ablation_variants import IMAGES, KINDS, SETS, STRUCTURES, VARIANTS, Variant, recipe_content
from clarice.benchmark.code_version import code_version
from clarice.benchmark.denoise_table import paired_ratio
from clarice.benchmark.records import Column, Results, Row
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.core.errors import UsageError
from clarice.core.progress import Progress, silent
from clarice.denoise.trained import TrainedNetwork, load_trained
from clarice.training.batches import SetBatch
from clarice.training.denoising_loss import relative_error
from clarice.training.loop import train
from clarice.training.recipe import recipe_of
from clarice.training.summary import LAST_WEIGHTS
from clarice.training.validation import ValidationSettings, validation_sets

NAME = "ablations"
VERSION = 1
# The kind of sets by which variants are put in order.
JUDGED_BY = "general"
_SETS_AT_ONCE = 4
COLUMNS = (
    Column("variant", "variant"),
    Column("seed", "seed"),
    Column("question", "question"),
    Column("parameters", "parameters", "{:,}"),
    *(Column(f"{kind.name}, relative MSE", kind.name, "{:.4f}") for kind in KINDS),
    Column("held against", "against"),
    Column(f"{JUDGED_BY}, over that", "ratio", "{:.3f}"),
    Column("95 % over structures", "ratio_interval", "{0[0]:.3f} to {0[1]:.3f}"),
    Column("note", "note"),
)


@dataclass(frozen=True)
class AblationRequest:
    """What a call is to do: train each of `variants` on `images` images for each seed, and judge it."""

    variants: Sequence[Variant]
    out: Path
    work: Path
    data: Path | None = None
    seeds: Sequence[int] = (1,)
    images: int = IMAGES
    structures: int = STRUCTURES
    threads: int = 2
    resume: bool = False

    def __post_init__(self) -> None:
        least = SETS["images_per_batch"]
        if self.images < least:
            raise UsageError(f"--images {self.images} must be at least {least}, one batch")
        if self.structures < 1:
            raise UsageError(f"--structures {self.structures} must be at least 1")

    def results(self) -> Results:
        """Results to fill: empty, or those of the call that is resumed. Variants and seeds may differ between calls."""
        settings: dict[str, Any] = {
            "images": self.images,
            "structures": f"{self.structures} of {'procedural molecules' if self.data is None else 'validation.npz'}",
            "sets": "; ".join(f"{k.name}: {k.images} images of {k.views or 'as many'} views" for k in KINDS),
            "snr": KINDS[0].snr,
            "box": 32,
            "training": ", ".join(f"{name} {value}" for name, value in SETS.items()),
            "threads": self.threads,
        }
        results = Results(NAME, VERSION, settings, ("variant", "seed"), COLUMNS)
        results.places = tuple(str(path) for path in (self.work, self.out, self.data) if path is not None)
        source = "procedural molecules" if self.data is None else "the training structures and procedural molecules"
        results.trained_on = f"{source}, in this protocol"
        if self.resume:
            results.take_up(self.out)
        if self.data is None:
            results.notes.append("trained and judged on procedural molecules, which stand in for the PDB entries")
        return results

    @cached_property
    def judged_on(self) -> dict[str, SetBatch]:
        """Sets of validation structures, the same for all variants. Raises UsageError where there are too few."""
        return validation_sets(
            ValidationSettings(box=32, structures=self.structures, kinds=KINDS), self.data, self.work
        )


def ablations(request: AblationRequest, *, shown: Callable[[Row], None], progress: Progress = silent) -> Results:
    """Runs the protocol, `shown` and saved row by row; a training that was cut short goes on where it stopped.

    Raises UsageError when there are fewer structures to judge on than asked for, KeyboardInterrupt on a signal to stop.
    """
    torch.set_num_threads(request.threads)
    results = request.results()
    progress("validation sets", len(request.judged_on), len(KINDS))  # made before hours of training, not after
    tasks = _tasks(request, progress)
    return measure_rows(results, tasks, request.out, summarise=summarise, shown=shown)


def _tasks(request: AblationRequest, progress: Progress) -> Iterator[Task]:
    for seed in request.seeds:
        for variant in request.variants:
            key: Row = {"variant": variant.name, "seed": seed}
            yield Task((key,), partial(_rows, variant, seed, request, progress))


def _rows(variant: Variant, seed: int, request: AblationRequest, progress: Progress) -> list[Row]:
    folder = _training_folder(variant, seed, request)
    folder.mkdir(parents=True, exist_ok=True)
    content = recipe_content(variant, request.images, seed, request.data, request.work)
    recipe = recipe_of(content, folder / "recipe.yaml")
    outcome = train(recipe, folder, progress=lambda _, done, all_: progress(variant.name, done, all_))
    if outcome.end == "signal":
        raise KeyboardInterrupt  # a network trained by half is no row
    trained = load_trained(folder / LAST_WEIGHTS)
    errors = {name: errors_of(trained, sets, request.structures) for name, sets in request.judged_on.items()}
    return [
        {
            "question": variant.question,
            "parameters": trained.parameters,
            **{name: round(float(values.mean()), 5) for name, values in errors.items()},
            "by_structure": {name: [round(float(v), 5) for v in values] for name, values in errors.items()},
            "training_seconds": round(outcome.seconds, 1),
            "last_quarter_gain": outcome.last_quarter_gain,
        }
    ]


def _training_folder(variant: Variant, seed: int, request: AblationRequest) -> Path:
    """Where a training lies: one by other code, on other data or on more images is another one."""
    source = "molecules" if request.data is None else "structures"
    made_by = f"{request.images}-{source}-{str(code_version().source_sha256)[:8]}"
    return request.work / NAME / made_by / f"{variant.name.replace(' ', '-')}-seed{seed}"


@torch.no_grad()
def errors_of(trained: TrainedNetwork, sets: SetBatch, structures: int) -> NDArray[np.float64]:
    """Relative error on the sets of each structure, (structures,)."""
    found = []
    for start in range(0, len(sets.noisy), _SETS_AT_ONCE):
        part = sets.sets(slice(start, start + _SETS_AT_ONCE))
        images = trained.network(part.noisy, part.transfer).images
        found.append(relative_error(images, part.clean, part.power))
    return torch.cat(found).double().view(structures, -1).mean(dim=1).numpy()


def summarise(results: Results) -> None:
    """Holds every variant against the one it differs from in one thing, of the same seed: see `Variant.against`."""
    finished = {(row["variant"], row["seed"]): row for row in results.rows if not row.get("failed")}
    against = {variant.name: variant.against for variant in VARIANTS}
    for row in results.rows:
        for key in ("against", "ratio", "ratio_interval"):
            row.pop(key, None)
    for (name, seed), row in finished.items():
        other = finished.get((against[name], seed))
        if other is None or other is row:
            continue
        ours, theirs = ({str(i): v for i, v in enumerate(one["by_structure"][JUDGED_BY])} for one in (row, other))
        ratio = paired_ratio(ours, theirs)
        if ratio is not None:
            row["against"] = other["variant"]
            row["ratio"], row["ratio_interval"] = ratio
    results.summary = dict(_sentences(list(finished.values())))


def _sentences(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """For each variant its ratio, as the geometric mean over seeds."""
    for name in dict.fromkeys(row["variant"] for row in rows):
        held = [row for row in rows if row["variant"] == name and "ratio" in row]
        if held:
            ratios = [row["ratio"] for row in held]
            mean = math.exp(float(np.mean(np.log(ratios))))
            apart = f", {min(ratios):.3f} to {max(ratios):.3f} over {len(ratios)} seeds" if len(ratios) > 1 else ""
            yield f"{name}: error in {JUDGED_BY} sets over that of {held[0]['against']}", f"{mean:.3f}{apart}"
