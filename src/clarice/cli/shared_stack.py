"""A stack that several processes may share out among themselves, prepared once; work on it goes on after a stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clarice.cli.console import console, showing_progress, told
from clarice.cli.stack_options import Contrast, CtfState, prepare_stack
from clarice.core.particles import ParticleSet
from clarice.core.progress import Progress, silent
from clarice.denoise.trained import best_device
from clarice.geometry.angular import fast_dtype
from clarice.pipeline.launched import launched
from clarice.pipeline.prepare import Prepared
from clarice.pipeline.unfinished import particles_digest, prepared_once, unfinished


@dataclass(frozen=True)
class SharedStack:
    """The `prepared` stack, whom to tell how far the work is, and whether this process writes the outputs."""

    prepared: Prepared
    progress: Progress
    first: bool


@contextmanager
def shared_stack(
    particles: ParticleSet,
    stack: Path,
    read: Sequence[Path],
    output: Path,
    names: Sequence[str],
    box: int,
    contrast: Contrast | None,
    ctf_state: CtfState | None,
    job: Mapping[str, Any],
    **options: Any,
) -> Iterator[SharedStack]:
    """Checks and prepares the particles of `stack` in a working `box`, for work whose results are kept in `output`, and
    that ends with files of these `names` there.

    `read`: the files that the particles come from, which tell the work as well; `job`: whatever else it depends on
    (JSON types); `options` are further ones of `pipeline.prepare.prepare`.
    Under `torchrun` all processes but the first are silent.
    """
    preparing = {
        "box": box,
        "contrast": contrast,
        "ctf_state": ctf_state,
        "particles": particles_digest(particles),
        "device": f"{best_device().type} {fast_dtype()}",
        **options,
    }

    def make(images: Path | None) -> Prepared:
        return prepare_stack(particles, stack, contrast, ctf_state, box, progress, images_path=images, **options)

    with launched() as processes, showing_progress() as shown:
        progress = shown if processes.first else silent
        console.quiet = not processes.first
        with unfinished(output, names, processes, {**job, "preparing": preparing}, read) as keeping:
            if keeping.holds_results:
                told(f"going on with what an earlier call has left in {keeping.folder}")
            yield SharedStack(prepared_once(particles, box, keeping, make), progress, processes.first)
