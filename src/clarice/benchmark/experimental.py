"""The protocol `experimental`: a network as shipped and fine-tuned, on real particles of a molecule that is known.

Nothing is simulated, so no image has a clean one to be held against. What counts instead: how well hidden coefficients
of held-out particles are foretold, what two images of one particle from disjoint sources share, what is made of noise,
and how far the map of the raw particles agrees with the known structure, beside the run's own controls.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clarice.benchmark.measured import CLARICE, Usage, run_measured
from clarice.benchmark.protocol import laid_on
from clarice.benchmark.records import Column, Results, Row
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.benchmark.structures import load_subject, structures_folder
from clarice.core.errors import InputError
from clarice.metrics.map_files import Cube, read_cube
from clarice.physics.potential import atoms_to_volume

NAME = "experimental"
VERSION = 1
SHIPPED, TUNED = "as shipped", "fine-tuned"
METHODS = ("polar-transformer", "polar-cnn")
# Fourier shells over which images from disjoint sources are compared: the first three tell size and brightness.
TELLING = slice(4, 9)
# Up to where a map's mean agreement with the known structure counts.
TO_ANGSTROM = 15.0
COLUMNS = (
    Column("particles of", "entry"),
    Column("network", "method"),
    Column("weights", "weights"),
    Column("trained on images", "images", "{:,}"),
    Column("held-out error less that of zeros", "over_zeros", "{:+.4f}"),
    Column("gain by tuning", "gain", "{:.4f}"),
    Column("±", "gain_error", "{:.4f}"),
    Column("FRC of disjoint sources, shells 4 to 8", "disjoint_frc", "{:.2f}"),
    Column("two images of noise share", "noise_shared", "{:.2%}"),
    Column("noise keeps", "noise_power", "{:.2%}"),
    Column("denoiser", "denoiser_verdict"),
    Column("stated, Å", "stated_angstrom", "{:.1f}"),
    Column("FSC 0.5 with the structure, Å", "fsc_05_angstrom", "{:.1f}"),
    Column(f"mean FSC to {TO_ANGSTROM:.0f} Å", "mean_fsc", "{:.2f}"),
    Column("particles over noise", "over_noise", "{:.1f}"),
    Column("over random phases", "over_phases", "{:.1f}"),
    Column("over a wrong molecule", "over_wrong", "{:.1f}"),
    Column("map", "map_verdict"),
    Column("tuning, s", "tuning_seconds", "{:.0f}"),
    Column("run, s", "seconds", "{:.0f}"),
    Column("peak memory, MB", "peak_memory_mb", "{:.0f}"),
    Column("load before", "load_before", "{:.1f}"),
    Column("note", "note"),
)
KEYS = ("entry", "method", "weights")


@dataclass(frozen=True)
class RealStack:
    """Particles below the data folder, the structure that they show, its point group and diameter.

    `pixel_scale`: true pixel size over that in the table, as the known structure tells it.
    """

    name: str
    star: str
    entry: str
    symmetry: str
    diameter_angstrom: float
    pixel_scale: float


# EMPIAR-10146; in its micrographs ferritin fits at 1.52 Å a pixel, not at the 1.5 Å that they state.
APOFERRITIN = RealStack("apoferritin", "particles/apoferritin/particles.star", "4v1w", "O", 130.0, 1.52 / 1.5)


@dataclass(frozen=True)
class ExperimentalRequest:
    """A call of the protocol: networks, images to tune each on (None: as many as `clarice finetune` takes), places."""

    data: Path
    out: Path
    work: Path
    methods: Sequence[str] = METHODS
    images: int | None = None
    seed: int = 0
    threads: int = 2
    resume: bool = False
    program: Sequence[str] = CLARICE
    timeout_seconds: float = 7200.0
    stack: RealStack = APOFERRITIN

    @property
    def star(self) -> Path:
        """The table of particles. Raises InputError where it is not."""
        path = self.data / self.stack.star
        if not path.is_file():
            raise InputError(f"{path} is missing: name the folder that holds {self.stack.star} by --data")
        return path


def experimental(request: ExperimentalRequest, *, shown: Callable[[Row], None]) -> Results:
    """Runs the protocol, `shown` and saved network by network; finished rows of a resumed call are kept.

    Raises InputError where the particles or the structure are not below the data folder.
    """
    stack = request.stack
    settings: dict[str, Any] = {
        "stack": stack.name,
        "structure": stack.entry,
        "symmetry": stack.symmetry,
        "diameter": f"{stack.diameter_angstrom:.0f} Å",
        "pixel of the structure over the table's": round(stack.pixel_scale, 4),
        "first map": "projection-matching",
        "images to tune on": request.images or "as many as clarice finetune takes",
        "seed": request.seed,
        "threads": request.threads,
    }
    results = Results(NAME, VERSION, settings, KEYS, COLUMNS)
    results.places = tuple(str(path) for path in (request.work, request.out, request.data))
    results.trained_on = (
        "the training structures, as the card of each network's weights says; tuned on the particles themselves"
    )
    if request.resume:
        results.take_up(request.out)
    _ = request.star, structures_folder(request.data)

    def tasks() -> Iterator[Task]:
        for method in request.methods:
            keys: list[Row] = [
                {"entry": stack.name, "method": method, "weights": weights} for weights in (SHIPPED, TUNED)
            ]
            yield Task(tuple(keys), partial(measure_pair, method, request))

    return measure_rows(results, tasks(), request.out, summarise=summarise, shown=shown, show_kept=True)


def measure_pair(method: str, request: ExperimentalRequest) -> list[Row]:
    """The row of a network as shipped, and of the same fine-tuned."""
    folder = request.work / NAME / request.stack.name / method
    folder.mkdir(parents=True, exist_ok=True)
    tuned = folder / "tuned"
    command: list[str | Path] = [*request.program, "finetune", request.star, "-o", tuned, "--network", method]
    command += ["--seed", str(request.seed), *([] if request.images is None else ["--images", str(request.images)])]
    usage = _measured(command, tuned, request)  # goes on where an earlier call stopped
    if usage.failed:
        failed: Row = {"failed": True, "note": f"fine-tuning: {usage.message}"}
        return [failed, dict(failed)]
    told = json.loads((tuned / "finetuning.json").read_text(encoding="utf-8"))
    rows = []
    for weights, foretold in ((SHIPPED, _before(told)), (TUNED, _after(told))):
        by = [] if weights == SHIPPED else ["env", f"CLARICE_WEIGHTS={tuned / 'weights'}"]
        rows.append({**foretold, **_run(method, by, folder / weights.replace(" ", "-"), request)})
    return rows


def _before(told: dict[str, Any]) -> Row:
    return {
        "over_zeros": told["before"] - told["nothing"],
        "disjoint_frc": float(np.mean(told["frc_before"][TELLING])),
        "noise_shared": told["noise_before"],
    }


def _after(told: dict[str, Any]) -> Row:
    return {
        "images": told["images"],
        "over_zeros": told["after"] - told["nothing"],
        "gain": told["gain"],
        "gain_error": told["error"],
        "disjoint_frc": float(np.mean(told["frc_after"][TELLING])),
        "noise_shared": told["noise_after"],
        "tuning_seconds": told["seconds"],
        "note": None if told["better"] else told["sentence"],
    }


def _run(method: str, by: Sequence[str], run: Path, request: ExperimentalRequest) -> Row:
    """A whole run with the network, judged by its own controls and by the known structure."""
    stack = request.stack
    shutil.rmtree(run, ignore_errors=True)
    command: list[str | Path] = [*by, *request.program, "run", request.star, "-o", run, "--method", method]
    command += ["--symmetry", stack.symmetry, "--diameter", f"{stack.diameter_angstrom:g}"]
    command += ["--first-map", "projection-matching", "--seed", str(request.seed)]
    usage = _measured(command, run, request)
    row: Row = {"seconds": round(usage.seconds, 1), "peak_memory_mb": round(usage.peak_memory_mb)}
    if usage.failed:
        return {**row, "failed": True, "note": f"run: {usage.message}"}
    return {**row, **_controls(run), **_map(run, request)}


def _measured(command: Sequence[str | Path], folder: Path, request: ExperimentalRequest) -> Usage:
    return run_measured(
        command,
        folder=folder.parent,
        log=folder.with_name(f"{folder.name}.log"),
        threads=request.threads,
        timeout_seconds=request.timeout_seconds,
    )


def _controls(run: Path) -> Row:
    """What a run says of its denoiser and of its map."""
    denoiser, found, fsc = (
        json.loads((run / name).read_text(encoding="utf-8"))
        for name in ("controls.json", "map_controls.json", "fsc.json")
    )
    noise = next(kind for kind in denoiser["kinds"] if kind["kind"] == "pure noise")
    return {
        "noise_power": noise["power_share"],
        "denoiser_verdict": "invents" if denoiser["invents"] else "sound",
        "over_noise": found["gain_over_noise"][0],
        "over_phases": found["gain_over_random_phases"][0],
        "over_wrong": found["gain_over_wrong_molecule"][0],
        "map_verdict": "doubted" if found["doubtful"] else "sound",
        "stated_angstrom": float(fsc["resolution_angstrom"]["0.143"]),
    }


def _map(run: Path, request: ExperimentalRequest) -> Row:
    """The map against the known structure, on the grid whose pixel size the structure tells."""
    read = read_cube(run / "map.mrc")
    found = replace(read, pixel_size_angstrom=read.pixel_size_angstrom * request.stack.pixel_scale)
    atoms = load_subject(request.stack.entry, structures_folder(request.data)).atoms
    truth = atoms_to_volume(atoms, found.box, found.pixel_size_angstrom).numpy()
    laid = laid_on(found, Cube(truth, found.pixel_size_angstrom, found.path))
    last = int(found.box * found.pixel_size_angstrom / TO_ANGSTROM)
    return {
        "fsc_05_angstrom": laid.scores.fsc_05_angstrom,
        "mean_fsc": round(float(np.mean(laid.curve[1 : last + 1])), 4),
        "fsc": np.round(laid.curve, 4).tolist(),
    }


def summarise(results: Results) -> None:
    """What fine-tuning did to each network."""
    rows = {(row["method"], row["weights"]): row for row in results.rows if not row.get("failed")}
    results.summary = {}
    for method in dict.fromkeys(method for method, _ in rows):
        before, after = (rows.get((method, weights)) for weights in (SHIPPED, TUNED))
        if before is None or after is None:
            continue
        results.summary[method] = (
            f"held-out error less that of zeros {before['over_zeros']:+.4f} as shipped, {after['over_zeros']:+.4f} "
            f"tuned (gain {after['gain']:.4f} ± {after['gain_error']:.4f}); FRC of disjoint sources "
            f"{before['disjoint_frc']:.2f}, {after['disjoint_frc']:.2f}; mean FSC of the map with the structure to "
            f"{TO_ANGSTROM:.0f} Å {before['mean_fsc']:.2f}, {after['mean_fsc']:.2f}"
        )
