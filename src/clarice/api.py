"""The main job from Python: what `clarice run` does, without a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from clarice.core.errors import UsageError
from clarice.core.progress import Progress, silent
from clarice.denoise.registry import DEFAULT_METHOD
from clarice.pipeline.job import run_job
from clarice.pipeline.job_settings import JobSettings, checked, real_number, whole_number
from clarice.pipeline.run_folder import nobody
from clarice.pipeline.stack_input import StackInput
from clarice.report.page import write_report

AnyPath = Path | str


def run(
    stack: AnyPath,
    output: AnyPath,
    *,
    root: AnyPath | None = None,
    passthrough: AnyPath | Sequence[AnyPath] = (),
    pixel_size_angstrom: float | None = None,
    optics_group: int | None = None,
    method: str = DEFAULT_METHOD,
    diameter_angstrom: float | None = None,
    symmetry: str = "C1",
    classes: int | None = None,
    iterations: int = 20,
    selection: Literal["auto", "all"] = "auto",
    first_map: Literal["projection-matching", "common-lines", "moments", "learned", "both"] = "both",
    starts: int = 4,
    max_shift_angstrom: float | None = None,
    contrast: Literal["bright", "dark"] | None = None,
    ctf_state: Literal["raw", "flipped", "multiplied"] | None = None,
    working_box: int | None = None,
    seed: int = 0,
    until: str | None = None,
    progress: bool | Progress = True,
) -> Path:
    """Runs the job on a particle stack and writes its report; returns the run folder.

    The parameters are the options of `clarice run`, with its defaults, and errors name them as options (`--max-shift`
    is `max_shift_angstrom`). Called again with the same folder, it goes on where it stopped. The report is written
    whether the job ends well or not, from what there is.

    Args:
        stack: particles, `.star`, `.star.gz`, `.cs` or `.mrcs`.
        output: run folder: new, empty, or that of a run to go on with.
        root: folder below which the image files lie.
        passthrough: passthrough file of a `.cs` dataset, or several.
        pixel_size_angstrom: pixel size in Å, in place of the file's.
        optics_group: take the particles of this optics group only.
        method: denoising method; `clarice denoise --list-methods` tells which there are.
        diameter_angstrom: particle diameter, Å; 0.7 of the box if None.
        symmetry: point group: C1, Cn, Dn, T, O or I.
        classes: number of 2D classes; one for every 60 particles, at most 50, if None.
        iterations: iterations of 2D classification.
        selection: "auto" leaves out particles of evident junk classes, "all" none.
        first_map: way to the first map: projection-matching, common-lines, moments, learned, or both (the first two),
            of which the likelier is kept.
        starts: random starts of the first map; the best survives.
        max_shift_angstrom: largest off-centre shift, Å; 1/16 of the box if None.
        contrast: protein in the images; found from them if None.
        ctf_state: CTF in the images; found from them if None.
        working_box: box to work in, pixels; the stack's, at most 64, if None.
        seed: seed of everything random: the same seed gives the same result.
        until: last stage to run: check, prepare, denoise, classify, select, abinitio, refine, postprocess, controls,
            mapcontrols or export; all if None.
        progress: True shows what `clarice run` shows, False nothing; a function `(label, done, total)` is told instead.

    Raises:
        ClariceError: in one sentence; a `UsageError` for a parameter, an `InputError` for the stack, an `OutputError`
            for the folder, a `ResourceError` for memory and disk. What was finished is kept for the next call.
    """
    return _run(dict(locals()), progress)


def _run(given: dict[str, Any], progress: bool | Progress) -> Path:
    """Does what `run` was `given`, once its values are known to be right."""
    settings = checked(JobSettings(**{field.name: given[field.name] for field in fields(JobSettings)}))
    root, passthrough = given["root"], given["passthrough"]
    files = [passthrough] if isinstance(passthrough, (str, os.PathLike)) else list(passthrough)
    source = StackInput.of(
        _path(given["stack"], "stack"),
        None if root is None else _path(root, "root"),
        tuple(_path(file, "passthrough") for file in files),
        real_number(given["pixel_size_angstrom"], "--pixel-size"),
        whole_number(given["optics_group"], "--optics-group"),
    )
    work = (source, _path(given["output"], "output"), settings)
    if not isinstance(progress, bool):
        return run_and_report(*work, command=_call_text(given), progress=progress)
    if not progress:
        return run_and_report(*work, command=_call_text(given))
    from clarice.cli.console import showing_progress, told  # here, for whoever wants none does not load it

    with showing_progress() as shown:
        return run_and_report(*work, command=_call_text(given), progress=shown, tell=told)


def run_and_report(
    source: StackInput,
    folder: Path,
    settings: JobSettings,
    *,
    command: str,
    progress: Progress = silent,
    tell: Callable[[str], None] = nobody,
) -> Path:
    """The job and its report, which `run.json` records as `command`; returns the run folder. Raises ClariceError."""
    return run_job(source, folder, settings, command=command, progress=progress, tell=tell, at_the_end=write_report)


def _path(value: object, name: str) -> Path:
    try:
        return Path(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise UsageError(f"{name} {value!r} must be the name of a file or folder") from error


def _call_text(given: dict[str, object]) -> str:
    """The call as one would type it again, without what was left to its default."""
    usual = {field.name: field.default for field in fields(JobSettings)} | {"root": None, "passthrough": ()}
    usual |= {"pixel_size_angstrom": None, "optics_group": None}
    words = [repr(str(given["stack"])), repr(str(given["output"]))]
    words += [f"{name}={given[name]!r}" for name in given if name in usual and given[name] != usual[name]]
    return f"clarice.run({', '.join(words)})"
