"""A small pipeline with all that the engine offers: a source, parameters, an optional file, checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch

from clarice.io.atomic import writing
from clarice.pipeline.engine import execute
from clarice.pipeline.run_folder import open_run
from clarice.pipeline.stages import Stage, stage
from clarice.pipeline.work import Work

WALK_STEPS = 6


@stage("draw", writes=["numbers.txt", "facts.json"], optional=["odd.txt"])
def draw(work: Work, source: Path, *, seed: int) -> None:
    size = len(source.read_bytes())
    numbers = torch.rand(size, generator=torch.Generator().manual_seed(seed))
    with writing(work.output("numbers.txt")) as path:
        path.write_text("\n".join(repr(value) for value in numbers.tolist()))
    if size % 2:
        with writing(work.output("odd.txt")) as path:
            path.write_text("odd")
    work.write_json("facts.json", {"size": size})


@stage("walk", reads=["numbers.txt"], writes=["walk.txt"], immaterial=["threads"])
def walk(work: Work, *, scale: float, threads: int = 1) -> None:
    """A random walk that depends on every earlier step and on the generator's state."""
    assert threads > 0
    generator = torch.Generator().manual_seed(5)
    position = torch.tensor([float(line) for line in work.input("numbers.txt").read_text().split()])
    checkpoint = work.checkpoint()
    done = 0
    saved = checkpoint.load()
    if saved is not None:
        state, done = saved
        position = state["position"]
        generator.set_state(state["generator"])
    for step in range(done, WALK_STEPS):
        position = torch.sin(position) + scale * torch.rand(position.shape, generator=generator)
        checkpoint.save({"position": position, "generator": generator.get_state()}, step + 1)
        work.progress("steps", step + 1, WALK_STEPS)
    with writing(work.output("walk.txt")) as path:
        path.write_text("\n".join(repr(value) for value in position.tolist()))


@stage("count", reads=["facts.json"], writes=["count.json"])
def count(work: Work, *, offset: int = 0) -> None:
    work.write_json("count.json", {"count": work.read_json("facts.json")["size"] + offset})
    work.warn("counted by hand")


@stage("join", reads=["walk.txt", "count.json"], writes=["joined.txt"])
def join(work: Work) -> None:
    with writing(work.output("joined.txt")) as path:
        path.write_text(work.input("walk.txt").read_text() + str(work.read_json("count.json")["count"]))


def toy_stages(source: Path, seed: int = 1, scale: float = 0.1, offset: int = 0) -> list[Stage]:
    return [draw(source, seed=seed), walk(scale=scale), count(offset=offset), join()]


def run_toy(folder: Path, source: Path) -> None:
    """The whole pipeline as one command would run it."""
    with open_run(folder, command="toy", arguments={}, seed=1) as run:
        execute(run, toy_stages(source))


def results(folder: Path) -> dict[str, bytes]:
    """Content of every file that the run's result consists of."""
    told = {"run.json", "clarice.log"}
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in told}
