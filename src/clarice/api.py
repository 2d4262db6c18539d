"""The main job from Python: what `clarice run` does, without a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clarice.core.progress import Progress, silent
from clarice.pipeline.job import JobSettings, run_job
from clarice.pipeline.run_folder import nobody
from clarice.pipeline.stack_input import StackInput
from clarice.report.page import write_report


def run(
    stack: Path | str,
    output: Path | str,
    *,
    root: Path | str | None = None,
    passthrough: Sequence[Path | str] = (),
    pixel_size_angstrom: float | None = None,
    optics_group: int | None = None,
    command: str = "clarice.run",
    progress: Progress = silent,
    tell: Callable[[str], None] = nobody,
    **settings: Any,
) -> Path:
    """Runs the job on a particle stack and writes its report; returns the run folder.

    `settings` are the fields of `clarice.pipeline.job.JobSettings`. The report is written whether the job ends well
    or not, from what there is. Raises ClariceError in one sentence.
    """
    folder = Path(output)
    source = StackInput.of(
        Path(stack),
        None if root is None else Path(root),
        tuple(Path(path) for path in passthrough),
        pixel_size_angstrom,
        optics_group,
    )
    job = JobSettings(**settings)
    run_job(source, folder, job, command=command, progress=progress, tell=tell, at_the_end=write_report)
    return folder
