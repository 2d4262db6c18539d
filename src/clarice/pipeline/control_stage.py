"""The stage of null controls: what the run's denoiser and 2D classification make of images that show nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clarice.denoise.registry import get_denoiser
from clarice.io.mrc import write_mrc
from clarice.pipeline.null_controls import Controls, null_controls
from clarice.pipeline.particle_stages import PREPARED, open_prepared
from clarice.pipeline.stages import stage
from clarice.pipeline.work import Work

RECORD, PICTURES = "controls.json", "controls.mrcs"


@stage("controls", reads=PREPARED, writes=[RECORD, PICTURES])
def controls(work: Work, *, method: str, weights: tuple[Path, ...], diameter_px: float, seed: int) -> None:  # noqa: ARG001
    """Denoises and classifies a few particles, pure noise, and particles of random phases; warns of what is invented.

    `weights` as in the stage that denoises. The stack of pictures holds, kind by kind, denoised images and then class
    averages, as many as the record says.
    """
    noisy, _ = open_prepared(work)
    found = null_controls(noisy, get_denoiser(method), diameter_px, seed, work.progress)
    pictures = [np.concatenate([control.denoised, control.averages]) for control in found.each]
    pixel_size = noisy.particles.pixel_size_angstrom
    write_mrc(work.output(PICTURES), np.concatenate(pictures), pixel_size, is_volume=False)
    work.write_json(RECORD, record_of(found))
    if found.inventions:
        work.warn(
            f"{method} makes something of images that show nothing: {'; '.join(found.inventions)}. Do not take what "
            "denoised images show for what the particles are"
        )
    work.say(found.sentence)


def record_of(found: Controls) -> dict[str, object]:
    """As the stage writes it."""
    return {
        "method": found.method,
        "images": found.images,
        "invents": bool(found.inventions),
        "sentence": found.sentence,
        "foretold": None if found.foretold is None else found.foretold.as_record,
        "kinds": [
            {
                "kind": control.kind,
                "denoised": len(control.denoised),
                "averages": len(control.averages),
                "power_share": found.share_of_power(control),
                "common_power": found.common_power(control),
                "shared": found.shared(control),
                "shared_curve": found.shared_curve(control).round(5).tolist(),
                "class_frc": control.class_frc.round(5).tolist(),
            }
            for control in found.each
        ],
    }
