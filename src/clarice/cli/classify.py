"""`clarice classify` and `clarice select`: 2D classes of a stack, and the particles of the good ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from clarice.classify.classes import Classes2D, classify
from clarice.classify.files import IMAGES, MEMBERS, RECORD, TABLE, quality_of, read_quality, write_classes
from clarice.classify.select import (
    IMPROBABLE,
    KEPT,
    Selection,
    can_be_judged,
    judge_classes,
    select_automatically,
    select_classes,
)
from clarice.cli.console import console
from clarice.cli.matched_tables import ANY_PIXEL_SIZE_ANGSTROM, class_columns, insist_on_same_rows
from clarice.cli.output_folder import (
    JsonOption,
    files_read,
    keep_apart,
    keep_files_apart,
    make_folder,
    said_written,
    writable_table,
)
from clarice.cli.shared_stack import shared_stack
from clarice.cli.stack_options import (
    ContrastOption,
    CtfStateOption,
    DiameterOption,
    OpticsGroupOption,
    PassthroughOption,
    PixelSizeOption,
    RootOption,
    SeedOption,
    StackArgument,
    WorkingBoxOption,
)
from clarice.core.counting import counted
from clarice.core.errors import InputError, UsageError
from clarice.core.particles import FloatArray, ParticleSet
from clarice.io.relion import RelionTable
from clarice.io.stack import open_particles, write_particles
from clarice.pipeline.durable import write_json
from clarice.pipeline.frame import Frame
from clarice.pipeline.job import default_class_count
from clarice.pipeline.prepare import checked_box

_O = typer.Option
OutputFolder = Annotated[Path, _O("-o", "--output", help="Folder to write the classes to.")]
ClassesOption = Annotated[
    int | None, _O("--classes", "-k", help="Number of classes; one for 60 particles (50 at most) if absent.")
]
IterationsOption = Annotated[int, _O(help="Iterations, over all steps of resolution.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.command("classify")(classify_stack)
    app.command("select")(select)


def classify_stack(
    stack: StackArgument,
    output: OutputFolder,
    n_classes: ClassesOption = None,
    iterations: IterationsOption = 20,
    seed: SeedOption = 0,
    diameter: DiameterOption = None,
    root: RootOption = None,
    passthrough: PassthroughOption = None,
    pixel_size: PixelSizeOption = None,
    optics_group: OpticsGroupOption = None,
    contrast: ContrastOption = None,
    ctf_state: CtfStateOption = None,
    working_box: WorkingBoxOption = None,
) -> None:
    """Sort the particles of a stack into 2D classes.

    Writes classes.mrcs (averages, CTF-corrected, sign as in the input), classes.star, classes.json and
    class_members.star: every row and column of the input, with class, psi, shift and probability.

    After an interruption the same command goes on where it stopped. Started by `torchrun --no-python`, several
    processes share out the work.
    """
    started = time.monotonic()
    particles = open_particles(stack, root, passthrough, pixel_size, optics_group)
    frame = Frame.of(particles, working_box, diameter)
    names = (IMAGES, TABLE, MEMBERS, RECORD)
    read = files_read(particles, stack, passthrough)
    keep_apart(output, names, read)
    make_folder(output)
    count = default_class_count(len(particles)) if n_classes is None else n_classes
    job = {"classes": count, "iterations": iterations, "diameter_px": frame.diameter_px, "seed": seed}
    box = checked_box(particles, working_box)
    with shared_stack(particles, stack, read, output, names, box, contrast, ctf_state, job) as shared:
        classes = classify(
            shared.prepared.noisy_set,
            count,
            iterations=iterations,
            diameter_px=frame.diameter_px,
            seed=seed,
            progress=shared.progress,
        )
        sign = shared.prepared.preparation.sign
        settings = {"seed": seed, "iterations": iterations, "sign": sign, "stack": str(stack)}
        settings["seconds"] = round(time.monotonic() - started, 1)
        if shared.first:
            write_classes(classes, particles, output, sign=sign, settings=settings)
    _show_classes(classes)
    console.print(
        f"{counted(len(particles), 'particle')} in {counted(len(classes), 'class', 'classes')}, "
        f"{settings['seconds']} s: {output / MEMBERS}",
        markup=False,
    )


def _show_classes(classes: Classes2D) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("class", "particles", "resolution Å", "contrast", "fit", "verdict"):
        table.add_column(name, justify="left" if name == "verdict" else "right")
    quality = quality_of(classes)
    for index, verdict in enumerate(judge_classes(quality)):
        measures = (classes.resolution_angstrom[index], classes.contrast[index], classes.class_fit[index])
        shown = [
            f"{value:.{digits}f}" if np.isfinite(value) else "–"
            for value, digits in zip(measures, (1, 1, 2), strict=True)
        ]
        table.add_row(str(index + 1), str(int(classes.population[index])), *shown, verdict)
    console.print(table)
    if not can_be_judged(quality):
        console.print(
            "warning: no class is judged, because those of most particles hardly stand out of their surroundings: look "
            "at the averages before anything is made of them"
        )


def select(
    members: Annotated[Path, typer.Argument(help="class_members.star, or any stack with class numbers.")],
    output: Annotated[
        Path,
        _O("-o", "--output", callback=writable_table, help="Table to write, .star or .cs, in a folder that is there."),
    ],
    classes: Annotated[str | None, _O(help="Classes to keep, such as 1,3,5-8.")] = None,
    auto: Annotated[bool, _O("--auto", help="Leave out classes that are evident junk.")] = False,
    min_probability: Annotated[float, _O(help="Least probability of a particle in its class.")] = 0.0,
    stack: Annotated[
        Path | None, _O(help="Write rows of this table instead; it lists the same particles in the same order.")
    ] = None,
    root: RootOption = None,
    passthrough: PassthroughOption = None,
    pixel_size: PixelSizeOption = None,
    optics_group: OpticsGroupOption = None,
    json_path: JsonOption = None,
) -> None:
    """Write the particles of chosen classes as a table of the raw stack, every column kept."""
    if (classes is None) == (not auto):
        raise UsageError("pass either --classes with numbers or --auto")
    keep_files_apart({"--output": output, "--json": json_path}, (members, stack, *(passthrough or ())))
    if stack is None:
        particles = source = open_particles(members, root, passthrough, pixel_size, optics_group)
    else:
        particles = open_particles(members, root, None, ANY_PIXEL_SIZE_ANGSTROM, optics_group)
        source = open_particles(stack, root, passthrough, pixel_size, optics_group)
        insist_on_same_rows(members, particles, stack, source)
    number = _class_numbers(members, particles)
    probability = _probability(particles)
    if auto:
        quality = read_quality(members.parent / RECORD)
        if int(number.max()) > len(quality):
            raise InputError(f"{members} has a class {int(number.max())}, which {RECORD} beside it does not list")
        chosen = select_automatically(quality, number, probability, min_probability)
    else:
        wanted = parse_class_numbers(classes or "")
        chosen = select_classes(wanted, int(number.max()), number, probability, min_probability)
    write_particles(source.subset(chosen.rows), output)
    if json_path is not None:
        write_json(json_path, chosen.as_record())
    _show_selection(chosen)
    console.print(f"{len(chosen.rows)} of {counted(chosen.total, 'particle')} kept: {output}", markup=False)
    if json_path is not None:
        said_written("selection", json_path)


def _class_numbers(members: Path, particles: ParticleSet) -> NDArray[np.int64]:
    """Each particle's class, counted from 1. Raises InputError where there is none."""
    number = particles.class_number
    if number is None:
        raise InputError(
            f"{members} has no classes ({class_columns(members)}): run `clarice classify` and give its {MEMBERS}"
        )
    if int(number.min()) < 1:
        raise InputError(f"{members}: row {int(number.argmin()) + 1} has the class {int(number.min())}, below 1")
    return number.astype(np.int64)


def _probability(particles: ParticleSet) -> FloatArray | None:
    table = particles.table
    return table.column("rlnMaxValueProbDistribution") if isinstance(table, RelionTable) else None


def parse_class_numbers(text: str) -> list[int]:
    """Numbers from a list such as "1,3,5-8", sorted. Raises UsageError."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise UsageError(f"--classes {text!r} is not a list of class numbers such as 1,3,5-8")
        numbers.update(range(int(first), int(last if dash else first) + 1))
    return sorted(numbers)


def _show_selection(chosen: Selection) -> None:
    """The classes that keep particles, one row each, and how many others there are and why."""
    table = Table(box=None, pad_edge=False)
    for name in ("class", "particles", "kept"):
        table.add_column(name, justify="right")
    others: dict[str, list[int]] = {}
    for fate in chosen.fates:
        if fate.kept:
            table.add_row(str(fate.number), str(fate.members), str(fate.kept))
        else:
            others.setdefault(IMPROBABLE if fate.reason == KEPT else fate.reason, []).append(fate.members)
    console.print(table)
    for reason, members in others.items():
        left = counted(len(members), "other class", "other classes")
        console.print(f"{left} with {counted(sum(members), 'particle')} left out: {reason}", markup=False)
    for warning in chosen.warnings:
        console.print(f"warning: {warning}", markup=False)
