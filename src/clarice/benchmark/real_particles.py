"""The protocol `real`: networks as shipped and fine-tuned, on real particles of a molecule that is known, and the map.

Nothing is simulated, so no image has a clean one to be held against. What counts instead: how well hidden coefficients
of held-out particles are foretold, what two images of one particle from disjoint sources share, what is made of noise;
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
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.abinitio.reconstruct import spherical_mean
from clarice.benchmark.measured import Usage
from clarice.benchmark.protocol import laid_on
from clarice.benchmark.real_data import SHIPPED, TUNED, RealDataRequest
from clarice.benchmark.records import Column, Results, Row
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.benchmark.structures import load_subject, structures_folder
from clarice.core.errors import InputError, ResourceError
from clarice.metrics.map_files import Cube, read_cube
from clarice.metrics.shells import FIRST_TELLING_SHELL, fsc
from clarice.physics.potential import atoms_to_volume

NAME = "real"
VERSION = 1
MAP = "none: raw particles"
METHODS = ("polar-transformer", "polar-cnn")
# Fourier shells over which images from disjoint sources are compared: of less, brightness and size are most.
COMPARED = slice(4, 9)
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
    Column("stated, Å", "stated_angstrom", "{:.1f}"),
    Column("FSC 0.5 with the structure, Å", "fsc_05_angstrom", "{:.1f}"),
    Column(f"mean FSC to {TO_ANGSTROM:.0f} Å", "mean_fsc", "{:.2f}"),
    Column("of the structure's spherical mean", "mean_fsc_round", "{:.2f}"),
    Column("of both without their spherical means", "mean_fsc_rest", "{:.2f}"),
    Column("particles over noise", "over_noise", "{:.1f}"),
    Column("over random phases", "over_phases", "{:.1f}"),
    Column("over a wrong molecule", "over_wrong", "{:.1f}"),
    Column("controls", "verdict"),
    Column("time, s", "seconds", "{:.0f}"),
    Column("peak memory, MB", "peak_memory_mb", "{:.0f}"),
    Column("load before", "load_before", "{:.1f}"),
    Column("note", "note"),
)
KEYS = ("entry", "method", "weights")
# Of raw particles alone, so that the map is the same whatever weights denoise them.
FIRST_MAP = "projection-matching"


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


@dataclass(frozen=True, kw_only=True)
class RealRequest(RealDataRequest):
    """A call of the protocol: networks, and images to tune each on (None: as many as `clarice finetune` takes)."""

    methods: Sequence[str] = METHODS
    images: int | None = None
    stack: RealStack = APOFERRITIN

    @property
    def star(self) -> Path:
        """The table of particles. Raises InputError where it is not."""
        path = self.data / self.stack.star
        if not path.is_file():
            raise InputError(f"{path} is missing: name the folder that holds {self.stack.star} by --data")
        return path


def real(request: RealRequest, *, shown: Callable[[Row], None]) -> Results:
    """Runs the protocol, `shown` and saved network by network; finished rows of a resumed call are kept.

    Fine-tuning takes up what a resumed call left. Raises InputError where the particles or the structure are not below
    the data folder.
    """
    stack = request.stack
    settings: dict[str, Any] = {
        "stack": stack.name,
        "structure": stack.entry,
        "symmetry": stack.symmetry,
        "diameter": f"{stack.diameter_angstrom:.0f} Å",
        "pixel of the structure over the table's": round(stack.pixel_scale, 4),
        "first map": FIRST_MAP,
        "images to tune on": request.images or "as many as clarice finetune takes",
        "seed": request.seed,
        "threads": request.threads,
    }
    results = Results(NAME, VERSION, settings, KEYS, COLUMNS)
    results.places = request.places
    results.trained_on = (
        "the training structures, as the card of each network's weights says; tuned on the particles themselves"
    )
    if request.resume:
        results.take_up(request.out)
    _ = request.star, structures_folder(request.data)

    def tasks() -> Iterator[Task]:
        for number, method in enumerate(request.methods):
            kinds = (SHIPPED, TUNED, MAP) if number == 0 else (SHIPPED, TUNED)  # no weights have a part in the map
            keys: list[Row] = [
                {"entry": stack.name, "method": "–" if kind == MAP else method, "weights": kind} for kind in kinds
            ]
            yield Task(tuple(keys), partial(measure, method, request, of_map=MAP in kinds))

    return measure_rows(results, tasks(), request.out, summarise=summarise, shown=shown, show_kept=True)


def measure(method: str, request: RealRequest, *, of_map: bool) -> list[Row]:
    """The rows of a network as shipped and fine-tuned, and `of_map` that of the map of the raw particles."""
    folder = request.work / NAME / request.stack.name / method
    folder.mkdir(parents=True, exist_ok=True)
    tuned = folder / f"tuned-{request.images or 'usual'}-{request.seed}"
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    told, tuning = request.tune(method, request.star, tuned, request.images)
    whole = _run(method, run, request)
    rows = [{**_foretold(told, "before"), **_denoiser(run)}]
    made_map = {**_map(run, request), **_used(whole)} if of_map else None
    after: Row = {
        **_foretold(told, "after"),
        "images": told["images"],
        "gain": told["gain"],
        "gain_error": told["error"],
        "seconds": told["seconds"],
        "peak_memory_mb": round(tuning.peak_memory_mb),
    }
    if told["better"]:
        _run(method, run, request, tuned / "weights")  # nothing but denoised images and their controls is made anew
        rows.append({**after, **_denoiser(run)})
    else:
        rows.append({**after, "note": "not kept: " + told["sentence"]})
    return rows if made_map is None else [*rows, made_map]


def _foretold(told: dict[str, Any], when: str) -> Row:
    return {
        "over_zeros": told[when] - told["nothing"],
        "disjoint_frc": float(np.mean(told[f"frc_{when}"][COMPARED])),
        "noise_shared": told[f"noise_{when}"],
    }


def _run(method: str, run: Path, request: RealRequest, weights: Path | None = None) -> Usage:
    """A whole run with a network, or what other weights of it change in a finished one. Raises ResourceError."""
    stack = request.stack
    command: list[str | Path] = ["run", request.star, "-o", run, "--method", method, "--symmetry", stack.symmetry]
    command += ["--diameter", f"{stack.diameter_angstrom:g}", "--first-map", FIRST_MAP, "--seed", str(request.seed)]
    usage = request.run(command, run, weights)
    if usage.failed:
        raise ResourceError(f"run with {method}: {usage.message}")
    return usage


def _used(usage: Usage) -> Row:
    return {"seconds": round(usage.seconds, 1), "peak_memory_mb": round(usage.peak_memory_mb)}


def _record(run: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / name).read_text(encoding="utf-8"))
    return found


def _denoiser(run: Path) -> Row:
    """What a run's controls say of its denoiser."""
    told = _record(run, "controls.json")
    noise = next(kind for kind in told["kinds"] if kind["kind"] == "pure noise")
    return {"noise_power": noise["power_share"], "verdict": "invents" if told["invents"] else "sound"}


def _map(run: Path, request: RealRequest) -> Row:
    """A run's map against the known structure, which tells the pixel size, and what its controls say."""
    read, scale = read_cube(run / "map.mrc"), request.stack.pixel_scale
    found = replace(read, pixel_size_angstrom=read.pixel_size_angstrom * scale)
    atoms = load_subject(request.stack.entry, structures_folder(request.data)).atoms
    truth = atoms_to_volume(atoms, found.box, found.pixel_size_angstrom)
    laid = laid_on(found, Cube(truth.numpy(), found.pixel_size_angstrom, found.path))
    told = _record(run, "map_controls.json")
    stated = float(_record(run, "fsc.json")["resolution_angstrom"]["0.143"])
    shells = slice(FIRST_TELLING_SHELL, int(found.box * found.pixel_size_angstrom / TO_ANGSTROM) + 1)
    # What a shell of the right size and thickness would reach, and what it knows nothing of.
    of_round = fsc(spherical_mean(truth).numpy(), truth.numpy())
    of_rest = fsc(_without_spherical_mean(torch.from_numpy(laid.volume)), _without_spherical_mean(truth))
    return {
        "stated_angstrom": round(stated * scale, 3),
        "fsc_05_angstrom": laid.scores.fsc_05_angstrom,
        "mean_fsc": round(float(np.mean(laid.curve[shells])), 4),
        "mean_fsc_round": round(float(np.mean(of_round[shells])), 4),
        "mean_fsc_rest": round(float(np.mean(of_rest[shells])), 4),
        "fsc": np.round(laid.curve, 4).tolist(),
        "fsc_rest": np.round(of_rest, 4).tolist(),
        "over_noise": told["gain_over_noise"][0],
        "over_phases": told["gain_over_random_phases"][0],
        "over_wrong": told["gain_over_wrong_molecule"][0],
        "verdict": "doubted" if told["doubtful"] else "sound",
    }


def _without_spherical_mean(volume: Tensor) -> NDArray[np.float32]:
    rest: NDArray[np.float32] = (volume - spherical_mean(volume)).numpy()
    return rest


def summarise(results: Results) -> None:
    """What fine-tuning did to each network, and how far the map agrees with the structure."""
    rows = {(row["method"], row["weights"]): row for row in results.rows if not row.get("failed")}
    results.summary = {}
    for method in dict.fromkeys(method for method, weights in rows if weights == TUNED):
        before, after = (rows.get((method, weights)) for weights in (SHIPPED, TUNED))
        if before is None or after is None:
            continue
        results.summary[method] = (
            f"held-out error less that of zeros {before['over_zeros']:+.4f} as shipped, {after['over_zeros']:+.4f} "
            f"tuned (gain {after['gain']:.4f} ± {after['gain_error']:.4f}); FRC of disjoint sources "
            f"{before['disjoint_frc']:.2f}, {after['disjoint_frc']:.2f}"
        )
    for row in (row for (_, weights), row in rows.items() if weights == MAP):
        results.summary["map of raw particles"] = (
            f"mean FSC with the structure to {TO_ANGSTROM:.0f} Å {row['mean_fsc']:.2f}, that of the structure's "
            f"spherical mean {row['mean_fsc_round']:.2f}; without the spherical means of both "
            f"{row['mean_fsc_rest']:.2f}"
        )
