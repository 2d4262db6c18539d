"""The protocol `abinitio`: maps of simulated stacks from nothing, each denoiser before common lines, peers beside.

A row tells of the first map that a method gives, and of what `clarice refine` makes of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path

from clarice.benchmark.abinitio_methods import MapMethod
from clarice.benchmark.abinitio_pictures import draw_cell, stack_name
from clarice.benchmark.abinitio_summary import summarise
from clarice.benchmark.protocol import (
    FAILED,
    FINEST_PIXEL_ANGSTROM,
    MAP_COLUMNS,
    SimulatedStack,
    StackSettings,
    make_stack,
)
from clarice.benchmark.records import Column, Results, Row
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.benchmark.structures import Subject
from clarice.core.errors import ClariceError
from clarice.core.progress import Progress, silent

NAME = "abinitio"
VERSION = 3
COLUMNS = (
    Column("entry", "entry"),
    Column("seed", "seed"),
    Column("CTF and shifts", "ctf"),
    Column("SNR", "snr", "{:g}"),
    Column("method", "method"),
    Column("first map", "first_verdict"),
    Column("first map, FSC 0.5, px", "first_05_px", "{:.2f}"),
    Column("first map, orientation error, median °", "first_orientation_median_deg", "{:.1f}"),
    Column("first map, s", "first_seconds", "{:.0f}"),
    Column("first map, MB", "first_memory_mb", "{:.0f}"),
    Column("refined", "verdict"),
    *MAP_COLUMNS[1:],
    Column("correlation", "correlation", "{:.3f}"),
    Column("orientation error, median °", "orientation_median_deg", "{:.1f}"),
    Column("modulo", "symmetry"),
    Column("lines within 10°", "common_lines", "{:.2f}"),
    Column("time, s", "seconds", "{:.0f}"),
    Column("peak memory, MB", "peak_memory_mb", "{:.0f}"),
    Column("load before", "load_before", "{:.1f}"),
    Column("note", "note"),
)
KEYS = ("entry", "seed", "ctf", "snr", "method")
CTFS = ("on", "off")
SNRS = (0.02, 0.05, 0.1)
# Structures of a published table.
STRUCTURES = 20
NO_MAP: Row = {**FAILED, "first_verdict": "failed", "first_right": False}


@dataclass(frozen=True)
class AbinitioRequest:
    """A call of the protocol. `data` holds the structures; results go to `out`, stacks to `work`."""

    subjects: Sequence[Subject]
    collection: str
    seeds: Sequence[int]
    snrs: Sequence[float]
    ctfs: Sequence[str]
    methods: Sequence[MapMethod]
    settings: StackSettings
    data: Path | None
    out: Path
    work: Path
    resume: bool = False
    threads: int = 2

    def stack_settings(self, ctf: str, snr: float) -> StackSettings:
        """How the stacks of a cell are simulated: without a CTF they are not shifted either."""
        settings = replace(self.settings, snr=snr)
        return settings if ctf == "on" else replace(settings, ctf=False, max_shift_px=0.0)

    def results(self) -> Results:
        """Results to fill: empty, or those of the call that is resumed."""
        settings = self.settings.record(self.data, self.threads) | {"structures": self.collection}
        settings.pop("snr")  # each row has its own
        settings["max_shift_px"] = f"{self.settings.max_shift_px:g} with a CTF, 0 without"
        results = Results(NAME, VERSION, settings, KEYS, COLUMNS)
        results.places = tuple(str(path) for path in (self.work, self.out, self.data) if path is not None)
        results.trained_on = "the training structures, as the card of each network's weights says"
        if self.resume:
            results.take_up(self.out)
        return results


def abinitio_contest(request: AbinitioRequest, *, shown: Callable[[Row], None], progress: Progress = silent) -> Results:
    """Runs the protocol, `shown` and saved row by row; finished rows of a resumed call are kept, and shown as well.

    Pictures of the maps follow at the end, a set for each cell, of its first seed.
    """

    def tasks() -> Iterator[Task]:
        for ctf, snr, seed, subject in product(request.ctfs, request.snrs, request.seeds, request.subjects):
            cell = stack_name(subject.entry, seed, ctf, snr)
            stack = cache(partial(_stack, request, cell, subject, seed, ctf, snr, progress))
            for method in request.methods:
                key: Row = {"entry": subject.entry, "seed": seed, "ctf": ctf, "snr": snr, "method": method.name}
                yield Task((key,), partial(_rows, stack, method, ctf))

    results = measure_rows(
        request.results(), tasks(), request.out, summarise=summarise, shown=shown, failure=NO_MAP, show_kept=True
    )
    entries, methods = [subject.entry for subject in request.subjects], [method.name for method in request.methods]
    for ctf, snr in product(request.ctfs, request.snrs):
        draw_cell(request.work, request.out, ctf, snr, entries, request.seeds[0], methods)
    return results


def _stack(
    request: AbinitioRequest, cell: str, subject: Subject, seed: int, ctf: str, snr: float, progress: Progress
) -> SimulatedStack:
    folder = request.work / NAME / "stack"
    shutil.rmtree(folder, ignore_errors=True)  # one at a time: hundreds of them would fill a disk
    return make_stack(subject, seed, request.stack_settings(ctf, snr), folder / cell, request.data, progress)


def _rows(make: Callable[[], SimulatedStack], method: MapMethod, ctf: str) -> list[Row]:
    stack = make()
    group = stack.subject.point_group
    row: Row = {
        "source": stack.subject.source,
        "symmetry": " ".join(part for part in (group.name, group.note) if part),
        "pixel_size_angstrom": round(stack.pixel_size_angstrom, 4),
        "apart": ctf == "on" and stack.pixel_size_angstrom < FINEST_PIXEL_ANGSTROM,
    }
    try:
        found = method.measure(stack)
    except ClariceError as error:
        return [{**row, **NO_MAP, "note": str(error)}]
    notes = [str(found["note"])] if found.get("note") else []
    if row["apart"]:
        notes.append(f"pixel below {FINEST_PIXEL_ANGSTROM} Å: apart, not in the summary")
    return [{**row, **found, "note": "; ".join(notes) or None}]
