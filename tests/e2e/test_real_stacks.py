"""The job on real particles that nobody here made; skips visibly without them."""

from __future__ import annotations

import html
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.outputs import listed_outputs

import clarice
from clarice.core.errors import ClariceError
from clarice.io.stack import files_behind
from clarice.io.star import read_star
from clarice.pipeline.preflight import check_file
from clarice.pipeline.preflight.concerns import FEWEST_FOR_A_MAP

Clarice = Callable[..., subprocess.CompletedProcess[str]]
# Opens image files whose header states no pixel size; how many particles they hold does not depend on it.
ANY_PIXEL_SIZE_ANGSTROM = 2.0


@dataclass(frozen=True)
class Expected:
    """What a run on a stack comes to. `options` are those `clarice check` asks for; `warnings` are parts of some."""

    particles: int
    options: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


RUN_WHOLE = {
    "apoferritin/particles.star": Expected(1620),
    "sta_ribosome_tilts/sta_testing_bin8.star": Expected(
        219,
        warnings=(
            "the header does not carry the word MAP",
            "raw is taken; pass --ctf-state",
            "backgrounds are not normalised",
            "Only 219 particles",
        ),
    ),
}


def stacks_in(folder: Path) -> dict[str, int]:
    """Particles of each stack below `folder`, by its path: tables, and image files that no table lists."""
    counts: dict[str, int] = {}
    listed: set[Path] = set()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or check_file(path).kind not in ("particles", "needs an option"):
            continue
        particles = clarice.open(path, pixel_size_angstrom=ANY_PIXEL_SIZE_ANGSTROM)
        behind = files_behind(particles.images)
        assert behind is not None
        images = {file.path.resolve() for file in behind[0].files}
        if images != {path.resolve()}:
            listed |= images
        counts[str(path.relative_to(folder))] = len(particles)
    return {name: count for name, count in counts.items() if (folder / name).resolve() not in listed}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN_WHOLE)
def test_job_completes(clarice: Clarice, shared_data: Path, tmp_path: Path, name: str) -> None:
    expected, run = RUN_WHOLE[name], tmp_path / "run"
    clarice("run", shared_data / "particles" / name, "-o", run, "--seed", "1", *expected.options)
    record = json.loads((run / "run.json").read_text())
    assert record["input"]["particles"] == expected.particles
    assert {stage["status"] for stage in record["stages"]} == {"done"}
    assert {output for output in listed_outputs() if not (run / output).is_file()} == set()
    assert len(read_star(run / "particles.star")["particles"]) == expected.particles
    resolution = json.loads((run / "fsc.json").read_text())["resolution_angstrom"]["0.143"]
    assert 2 * record["input"]["pixel_size_angstrom"] <= resolution < 40
    page = html.unescape((run / "report.html").read_text(encoding="utf-8"))
    told = page.partition('class="warnings"')[2].partition("</div>")[0]
    assert [item["message"] for item in record["warnings"] if item["message"] not in told] == []
    assert [warning for warning in expected.warnings if warning not in told] == []


def test_every_stack_that_is_large_enough_is_run(shared_data: Path) -> None:
    counts = stacks_in(shared_data / "particles")
    large = {name: count for name, count in counts.items() if count >= FEWEST_FOR_A_MAP}
    assert large == {name: expected.particles for name, expected in RUN_WHOLE.items()}


def test_smaller_stacks_are_refused_in_one_sentence(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "particles"
    small = {name: count for name, count in stacks_in(folder).items() if count < FEWEST_FOR_A_MAP}
    assert len(small) >= 5
    for name, count in small.items():
        with pytest.raises(ClariceError) as refusal:
            clarice.run(folder / name, tmp_path / "run", pixel_size_angstrom=ANY_PIXEL_SIZE_ANGSTROM)
        said = str(refusal.value)
        particles = "1 particle" if count == 1 else f"{count} particles"
        assert f"has {particles}, too few for a map" in said, said
        assert name in said
        assert "\n" not in said
        assert not (tmp_path / "run").exists()
