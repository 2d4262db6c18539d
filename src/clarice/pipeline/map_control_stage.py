"""The stage of map controls: noise and random phases laid on the run's half maps, particles on a wrong molecule."""

from __future__ import annotations

import numpy as np
import torch

from clarice.abinitio.half_sets import all_half_sets
from clarice.abinitio.refinement import Settings
from clarice.geometry.fourier import fourier_resize
from clarice.io.mrc import read_mrc, write_mrc
from clarice.pipeline.map_controls import MapControls, map_controls
from clarice.pipeline.map_stages import selected_rows
from clarice.pipeline.particle_stages import PREPARED, open_prepared
from clarice.pipeline.stages import stage
from clarice.pipeline.work import Work

RECORD, PICTURES = "map_controls.json", "map_controls.mrcs"
# Pictures are enlarged to this box at least, so that they can be looked at.
_PICTURE_BOX = 64


@stage("map controls", reads=[*PREPARED, "selection.json", "half1.mrc", "half2.mrc"], writes=[RECORD, PICTURES])
def control_map(work: Work, *, diameter_px: float, symmetry: str, max_shift_px: float, seed: int) -> None:
    """Lays particles, noise and random phases on the half maps, and particles on a wrong molecule.

    Warns where they are as likely. The stack of pictures holds three projections of each map: the run's, what
    particles, noise, random phases and particles on the wrong molecule make, and the wrong molecule itself.
    """
    noisy, _ = open_prepared(work)
    rows = selected_rows(work)
    halves = torch.stack([torch.from_numpy(read_mrc(work.input(f"half{number}.mrc"))[0]) for number in (1, 2)])
    settings = Settings(diameter_px, symmetry=symmetry, max_shift_px=max_shift_px, seed=seed)
    half_set = all_half_sets(noisy.particles, seed)[rows]
    found = map_controls(noisy.subset(rows), halves, half_set, settings, work.progress)
    pixel_size = noisy.particles.pixel_size_angstrom * noisy.box / found.reference.shape[-1]
    pictures = projections(found)
    shown = pixel_size * found.reference.shape[-1] / pictures.shape[-1]
    write_mrc(work.output(PICTURES), pictures, shown, is_volume=False)
    work.write_json(RECORD, record_of(found, noisy.box * noisy.particles.pixel_size_angstrom))
    if found.doubts:
        work.warn(found.sentence)
    work.say(found.sentence)


def projections(found: MapControls) -> np.ndarray:
    """Three projections of each of the six maps, along z, y and x, enlarged: (18, L, L)."""
    made = (kind.volume for kind in found.each)
    flat = torch.stack([volume.sum(dim=axis) for volume in (found.reference, *made, found.wrong) for axis in (0, 1, 2)])
    return fourier_resize(flat, max(_PICTURE_BOX, flat.shape[-1]), 2).numpy()


def record_of(found: MapControls, field_angstrom: float) -> dict[str, object]:
    """As the stage writes it; `field_angstrom`: the edge of the box."""
    return {
        "images": found.images,
        "resolution_angstrom": round(field_angstrom / found.radius_px, 2),
        "doubtful": bool(found.doubts),
        "sentence": found.sentence,
        "gain_over_noise": [round(value, 4) for value in found.over_noise],
        "gain_over_random_phases": [round(value, 4) for value in found.over_phases],
        "gain_over_wrong_molecule": [round(value, 4) for value in found.over_wrong],
        "kinds": [
            {
                "kind": kind.kind,
                "gain": round(float(kind.gain.mean()), 4),
                "gain_error": round(float(kind.gain.std(ddof=1) / np.sqrt(len(kind.gain))), 4),
                "power_share": None if kind.power is None else round(kind.power, 6),
                "fsc": kind.fsc.round(5).tolist(),
            }
            for kind in found.each
        ],
    }
