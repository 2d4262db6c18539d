"""The advice of a run, read from its files and written beside them."""

from __future__ import annotations

import torch

from clarice.abinitio.half_sets import HalfSets
from clarice.core.particles import Poses
from clarice.io.mrc import read_mrc
from clarice.physics.noisy_set import NoisySet
from clarice.pipeline.advice import Finished, advice
from clarice.pipeline.class_advice import neighbours
from clarice.pipeline.denoised_notes import NOTES
from clarice.pipeline.preparation import Preparation
from clarice.pipeline.work import Work

ADVICE = "advice.json"
_RECORDS = ("selection", "classes", "fsc", "postprocess")
# What the advice is read from beside the prepared particles and their poses.
ADVISED_BY = ("selection.json", "classes.json", "postprocess.json", "half1.mrc", "half2.mrc", NOTES)


def write_advice(
    work: Work,
    particles: NoisySet,
    poses: Poses,
    half_set: HalfSets,
    preparation: Preparation,
    diameter_px: float,
    symmetry: str,
) -> None:
    """Writes `advice.json` for a stage that declares it, and reads what is `ADVISED_BY` and the FSC.

    `particles` went into the map, at `poses` with shifts in working pixels, in `half_set` 1 or 2. The sources of
    denoised images may be missing: not every method has some.
    """
    halves = torch.stack([torch.from_numpy(read_mrc(work.input(f"half{number}.mrc"))[0]) for number in (1, 2)])
    found = advice(
        Finished(
            particles=particles,
            poses=poses,
            half_set=half_set,
            halves=halves,
            diameter_px=diameter_px,
            symmetry=symmetry,
            whole_box=preparation.working_box == preparation.input_box,
            neighbours=neighbours(work.input(NOTES)),
            records={name: work.read_json(f"{name}.json") for name in _RECORDS},
        )
    )
    work.write_json(ADVICE, found)
    for item in found["collect"]:
        work.say(item["sentence"])
