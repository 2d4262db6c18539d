"""What calls of protocols on real data have in common: places, limits, and commands that are run and measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clarice.benchmark.measured import CLARICE, Usage, run_measured
from clarice.core.errors import ResourceError
from clarice.pipeline.run_folder import nobody

# Weights of a network.
SHIPPED, TUNED = "as shipped", "fine-tuned"


@dataclass(frozen=True, kw_only=True)
class RealDataRequest:
    """A call of such a protocol; `tell` hears of each command that is started, and where its output goes."""

    data: Path
    out: Path
    work: Path
    seed: int = 0
    threads: int = 2
    resume: bool = False
    program: Sequence[str] = CLARICE
    timeout_seconds: float = 7200.0
    tell: Callable[[str], None] = nobody

    @property
    def places(self) -> tuple[str, ...]:
        """Folders that published text must not name."""
        return tuple(str(path) for path in (self.work, self.out, self.data))

    def run(self, command: Sequence[str | Path], out: Path, weights: Path | None = None) -> Usage:
        """Runs a command that makes the folder `out`, its output into a log beside that.

        Networks have the weights of a folder, or those that come with the program.
        """
        by = ["env", "-u", "CLARICE_WEIGHTS", *([] if weights is None else [f"CLARICE_WEIGHTS={weights}"])]
        log = out.with_name(f"{out.name}.log")
        self.tell(f"{command[0]}: its progress is in {log}")
        return run_measured(
            [*by, *self.program, *command],
            folder=out.parent,
            log=log,
            threads=self.threads,
            timeout_seconds=self.timeout_seconds,
        )

    def tune(self, network: str, stack: Path, out: Path, images: int | None) -> tuple[dict[str, Any], Usage]:
        """Fine-tunes a network on a stack, in a folder where a resumed call goes on: what it tells, and what it used.

        `images`: as many as `clarice finetune` takes, if None. Raises ResourceError where it fails.
        """
        if not self.resume:
            shutil.rmtree(out, ignore_errors=True)
        command: list[str | Path] = ["finetune", stack, "-o", out, "--network", network, "--seed", str(self.seed)]
        usage = self.run([*command, *([] if images is None else ["--images", str(images)])], out)
        if usage.failed:
            raise ResourceError(f"fine-tuning of {network}: {usage.message}")
        return json.loads((out / "finetuning.json").read_text(encoding="utf-8")), usage
