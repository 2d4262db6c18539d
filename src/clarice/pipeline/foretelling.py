"""What a user is told before long work begins, in one wording, and the refusal of what cannot end well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clarice.pipeline.resources import duration_text, insist_on_disk, insist_on_memory, size_text
from clarice.pipeline.stages import Estimate


def estimate_text(estimate: Estimate) -> str:
    """Time, peak memory and disk in words."""
    return (
        f"about {duration_text(estimate.seconds)}, {size_text(estimate.memory_mb)} of memory, "
        f"{size_text(estimate.disk_mb)} of disk"
    )


def foretell(task: str, estimate: Estimate, output: Path, tell: Callable[[str], None]) -> None:
    """Tells what `task` will take; raises ResourceError where there is less memory, or disk in `output`."""
    tell(f"{task}: {estimate_text(estimate)}")
    insist_on_memory(task, estimate.memory_mb)
    insist_on_disk(task, estimate.disk_mb, output)
