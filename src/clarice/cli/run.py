"""`clarice run`: the main job, from a stack to a map and a report, with one command."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from clarice.api import run_and_report
from clarice.classify.select import SelectionRule
from clarice.cli.console import showing_progress, told
from clarice.cli.stack_options import (
    ContrastOption,
    CtfStateOption,
    DiameterOption,
    FirstMapOption,
    MaxShiftOption,
    OpticsGroupOption,
    PassthroughOption,
    PixelSizeOption,
    RootOption,
    SeedOption,
    StackArgument,
    SymmetryOption,
    WorkingBoxOption,
)
from clarice.denoise.registry import DEFAULT_METHOD
from clarice.pipeline.first_map_settings import Method
from clarice.pipeline.job_settings import UNTIL_WORDS, JobSettings
from clarice.pipeline.stack_input import StackInput

_O = typer.Option

SelectionOption = Annotated[SelectionRule, _O(help="Leave out particles of evident junk classes, or keep all.")]


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("run")(run)


def run(
    stack: StackArgument,
    output: Annotated[Path, _O("-o", "--output", help="Run folder: new, empty, or that of a run to go on with.")],
    method: Annotated[str, _O(help="Denoising method; `clarice denoise --list-methods` tells which.")] = DEFAULT_METHOD,
    diameter: DiameterOption = None,
    symmetry: SymmetryOption = "C1",
    classes: Annotated[int | None, _O(help="2D classes; one for every 60 particles, at most 50, if absent.")] = None,
    iterations: Annotated[int, _O(help="Iterations of 2D classification.")] = 20,
    selection: SelectionOption = SelectionRule.AUTO,
    first_map: FirstMapOption = Method.BOTH,
    starts: Annotated[int, _O(help="Random starts of the first map; the best survives.")] = 4,
    max_shift: MaxShiftOption = None,
    contrast: ContrastOption = None,
    ctf_state: CtfStateOption = None,
    working_box: WorkingBoxOption = None,
    root: RootOption = None,
    passthrough: PassthroughOption = None,
    pixel_size: PixelSizeOption = None,
    optics_group: OpticsGroupOption = None,
    seed: SeedOption = 0,
    until: Annotated[str | None, _O(metavar="STAGE", help=f"Stop after this stage: {UNTIL_WORDS}.")] = None,
) -> None:
    """Denoise, classify, reconstruct and refine a particle stack, and write a report.

    Steps whose inputs have not changed are skipped; a run that was killed goes on where it stopped.
    """
    source = StackInput.of(stack, root, tuple(passthrough or ()), pixel_size, optics_group)
    settings = JobSettings(
        method=method,
        diameter_angstrom=diameter,
        symmetry=symmetry,
        classes=classes,
        iterations=iterations,
        selection=selection.value,
        first_map=first_map.value,
        starts=starts,
        max_shift_angstrom=max_shift,
        contrast=contrast,
        ctf_state=ctf_state,
        working_box=working_box,
        seed=seed,
        until=until,
    )
    with showing_progress() as progress:
        folder = run_and_report(
            source,
            output,
            settings,
            command=shlex.join(["clarice", *sys.argv[1:]]),
            progress=progress,
            tell=told,
        )
    told(f"report: {folder / 'report.html'}")
