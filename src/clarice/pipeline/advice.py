"""What a finished run advises: classes, SNR by defocus, resolution by number of particles, and what to collect."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from clarice.core.particles import FloatArray, Poses
from clarice.geometry.so3 import symmetry_rotations, view_directions
from clarice.metrics.predicted_fsc import fitted_fall_off, predicted_resolutions
from clarice.metrics.view_coverage import coverage, with_copies
from clarice.physics.noisy_set import NoisySet
from clarice.pipeline import advice_words as words
from clarice.pipeline.class_advice import Neighbours, class_advice, distinct_views, particles_to_fill
from clarice.pipeline.defocus_snr import Snr, measured_snr

# Numbers of particles to foretell the resolution of, over that of the run.
RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0, 10.0)


@dataclass(frozen=True)
class Finished:
    """What the advice is read from.

    `particles` that the map was made of, prepared, at `poses`, with their `half_set` (n,) 1 or 2, and the two `halves`
    (2, L, L, L). `records`: what the run's JSON files hold, by name. `whole_box`: the working box has the pixels of
    the stack.
    """

    particles: NoisySet
    poses: Poses
    half_set: np.ndarray
    halves: Tensor
    diameter_px: float
    symmetry: str
    whole_box: bool
    neighbours: Neighbours | None
    records: dict[str, dict[str, Any]]


def advice(run: Finished) -> dict[str, Any]:
    """The content of `advice.json`: numbers, and the same in words."""
    # Each particle against the map that holds none of its noise.
    snr = measured_snr(run.particles, run.poses, run.halves, 2 - np.asarray(run.half_set, dtype=np.int64))
    pixel, order = run.particles.particles.pixel_size_angstrom, len(symmetry_rotations(run.symmetry))
    disk_share = min(1.0, math.pi / 4 * (run.diameter_px / run.particles.box) ** 2)
    fill = particles_to_fill(snr.fine_end.value, snr.fine_end.error, disk_share)
    views_apart = distinct_views(run.diameter_px * pixel, order)
    classes = class_advice(run.records["selection"], int(run.records["classes"]["n_classes"]), fill, views_apart)
    count = len(run.particles)
    fsc = run.records["fsc"]
    curve: FloatArray = np.array(fsc["curves"]["corrected"], dtype=np.float64)
    measured = (fsc["pixel_size_angstrom"], fsc["box"], fsc["last_shell"])
    fall_off = fitted_fall_off(curve, *measured)
    predictions = predicted_resolutions(curve, RATIOS, *measured, fall_off)
    views = coverage(with_copies(view_directions(run.poses.rotations), run.symmetry))
    anisotropy = float(run.records["postprocess"]["by_direction"]["worst_over_best"])
    collect = words.what_to_collect(predictions, snr, views, anisotropy, run.whole_box)
    near = run.neighbours
    return {
        "classes": {**asdict(classes), "sentence": words.of_classes(classes)},
        "neighbours": None if near is None else {**asdict(near), "sentence": words.of_neighbours(near, fill)},
        "snr": {
            "finest_angstrom": snr.finest_angstrom,
            "disk_share": disk_share,
            "whole": _rounded(snr.whole),
            "fine_end": _rounded(snr.fine_end),
            "groups": [{**asdict(group), "snr": _rounded(group.snr)} for group in snr.groups],
            "sentence": words.of_snr(snr),
        },
        "resolution": {
            "particles": count,
            "fall_off": None if fall_off is None else asdict(fall_off),
            "b_factor_angstrom2": None if fall_off is None else fall_off.b_factor_angstrom2,
            "predictions": [{**asdict(one), "particles": round(one.ratio * count)} for one in predictions],
            "sentence": words.of_resolution(predictions, count, fall_off),
        },
        "views": asdict(views),
        "collect": [{"topic": topic, "sentence": sentence} for topic, sentence in collect],
    }


def _rounded(snr: Snr) -> dict[str, float]:
    return {name: float(f"{value:.5g}") for name, value in asdict(snr).items()}
