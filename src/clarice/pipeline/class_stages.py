"""The middle stages of the job: 2D classes, and which particles go on to three dimensions."""

from __future__ import annotations

import numpy as np

from clarice.classify.classes import classify as make_classes
from clarice.classify.files import IMAGES, MEMBERS, RECORD, TABLE, quality_of, read_quality, write_classes
from clarice.classify.select import SelectionRule, select_all, select_automatically
from clarice.io.relion import particle_rows
from clarice.io.stack import write_particles
from clarice.io.star import floats, integers
from clarice.pipeline.particle_stages import PREPARED, open_prepared
from clarice.pipeline.stack_input import StackInput
from clarice.pipeline.stages import stage
from clarice.pipeline.work import Work


@stage("classify", reads=PREPARED, writes=[IMAGES, TABLE, MEMBERS, RECORD])
def classify(
    work: Work,
    stack: StackInput,
    *,
    whereabouts: str,  # noqa: ARG001
    n_classes: int,
    iterations: int,
    diameter_px: float,
    seed: int,
) -> None:
    """2D classes of the prepared particles, with averages and members; `whereabouts`, of the images that the table
    names, makes it anew when they move.
    """
    noisy, preparation = open_prepared(work)
    with work.keeping_results():
        classes = make_classes(
            noisy, n_classes, iterations=iterations, diameter_px=diameter_px, seed=seed, progress=work.progress
        )
    settings = {"n_classes": n_classes, "iterations": iterations, "seed": seed}
    write_classes(classes, stack.open(), work.output(IMAGES).parent, sign=preparation.sign, settings=settings)
    work.say(f"{int((quality_of(classes).population > 0).sum())} of {n_classes} classes have members")


@stage("select", reads=[MEMBERS, RECORD], writes=["selected.star", "selection.json"])
def select(work: Work, stack: StackInput, *, whereabouts: str, selection: str) -> None:  # noqa: ARG001
    """Leaves out classes that are evidently no particles, and says which and why, or with the `selection` "all" none;
    `whereabouts` as in `classify`.
    """
    members = particle_rows(work.input(MEMBERS))
    number = integers(members, "rlnClassNumber", MEMBERS).astype(np.int64)
    probability = floats(members, "rlnMaxValueProbDistribution", MEMBERS)
    quality = read_quality(work.input(RECORD))
    if selection == SelectionRule.ALL:
        selected = select_all(number, len(quality))
    else:
        selected = select_automatically(quality, number, probability)
    for warning in selected.warnings:
        work.warn(f"{warning}; --selection all keeps every class")
    chosen = stack.open().subset(selected.rows)
    write_particles(chosen, work.output("selected.star"), class_number=number[selected.rows])
    work.write_json("selection.json", {**selected.as_record(), "rows": selected.rows.tolist()})
    work.say(f"{len(selected.rows)} of {selected.total} particles go on")
