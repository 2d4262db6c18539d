"""A simulated set as files: a RELION-readable stack that keeps its truth in side files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clarice import __version__
from clarice.core.progress import Progress, silent
from clarice.geometry.so3 import matrix_to_euler
from clarice.io.atomic import writing
from clarice.io.mrc import MrcStackWriter, write_mrc
from clarice.io.star import write_star
from clarice.physics.simulate import SimulatedSet

Contrast = Literal["bright", "dark"]

FILES = ("clean.mrcs", "map.mrc", "truth.star", "simulation.json", "particles.mrcs", "particles.star")


def _optics_table(simulated: SimulatedSet) -> pd.DataFrame:
    settings, optics = simulated.settings, simulated.particles.optics
    assert optics is not None  # every simulated set has optics
    return pd.DataFrame(
        {
            "rlnOpticsGroup": [1],
            "rlnOpticsGroupName": ["opticsGroup1"],
            "rlnVoltage": [float(optics.voltage_kv[0])],
            "rlnSphericalAberration": [float(optics.spherical_aberration_mm[0])],
            "rlnAmplitudeContrast": [float(optics.amplitude_contrast[0])],
            "rlnImagePixelSize": [simulated.particles.pixel_size_angstrom],
            "rlnImageSize": [settings.box],
            "rlnImageDimensionality": [2],
        }
    )


def _particle_table(simulated: SimulatedSet) -> pd.DataFrame:
    particles, optics = simulated.particles, simulated.particles.optics
    assert optics is not None  # every simulated set has optics
    count = len(particles)
    columns: dict[str, object] = {
        "rlnImageName": [f"{row + 1:06d}@particles.mrcs" for row in range(count)],
        "rlnMicrographName": particles.micrograph,
        "rlnOpticsGroup": np.ones(count, dtype=np.int32),
        "rlnDefocusU": optics.defocus_u_angstrom,
        "rlnDefocusV": optics.defocus_v_angstrom,
        "rlnDefocusAngle": optics.defocus_angle_deg,
        "rlnPhaseShift": optics.phase_shift_deg,
    }
    if np.any(optics.bfactor_angstrom2 != 0):
        columns["rlnCtfBfactor"] = optics.bfactor_angstrom2
    return pd.DataFrame(columns)


def _truth_table(simulated: SimulatedSet) -> pd.DataFrame:
    euler = matrix_to_euler(simulated.poses.rotations)
    origin = simulated.poses.shifts_px * simulated.particles.pixel_size_angstrom
    pose = {
        "rlnAngleRot": euler[:, 0],
        "rlnAngleTilt": euler[:, 1],
        "rlnAnglePsi": euler[:, 2],
        "rlnOriginXAngst": origin[:, 0],
        "rlnOriginYAngst": origin[:, 1],
    }
    return _particle_table(simulated).assign(**pose)


def _write_stack(path: Path, images: NDArray[np.float32], pixel_size: float, sign: float, progress: Progress) -> None:
    rows = max(1, 4_000_000 // images.shape[-1] ** 2)
    with MrcStackWriter(path, images.shape[-1], pixel_size) as writer:
        for start in range(0, len(images), rows):
            writer.append(images[start : start + rows] * np.float32(sign))
            progress(f"writing {path.name}", min(start + rows, len(images)), len(images))


def _summary(simulated: SimulatedSet, specimen: str, contrast: Contrast) -> dict[str, object]:
    settings = asdict(simulated.settings)
    settings["ctf_table"] = None if settings["ctf_table"] is None else str(settings["ctf_table"])
    return {
        "version": __version__,
        "specimen": specimen,
        "contrast": contrast,
        "pixel_size_angstrom": simulated.particles.pixel_size_angstrom,
        "nyquist_angstrom": 2 * simulated.particles.pixel_size_angstrom,
        "noise_sigma": 0.0 if simulated.settings.noise == "none" else 1.0,
        "noise_spectrum": [round(float(value), 6) for value in simulated.noise_spectrum],
        "volts_to_noise_sigma": simulated.scale,
        "defocus_source": "table" if simulated.settings.ctf_table else "embedded distribution",
        "settings": settings,
    }


def write_simulation(
    simulated: SimulatedSet,
    folder: Path,
    *,
    specimen: str,
    contrast: Contrast = "bright",
    progress: Progress = silent,
) -> None:
    """Writes `FILES` into `folder`; `particles.star` comes last, so a set with it is whole.

    `particles.mrcs` and `particles.star` hold no truth. `clean.mrcs` has the noise- and CTF-free projections
    in the particles' rows, shifts and contrast; `truth.star` adds angles and origins; `map.mrc` is the
    volume, bright. `contrast` "dark" turns the sign of both stacks. Raises OutputError when a file cannot be
    written.
    """
    folder = Path(folder)
    sign = 1.0 if contrast == "bright" else -1.0
    pixel_size = simulated.particles.pixel_size_angstrom
    optics = _optics_table(simulated)
    _write_stack(folder / "clean.mrcs", simulated.clean, pixel_size, sign, progress)
    write_mrc(folder / "map.mrc", simulated.volume, pixel_size, is_volume=True)
    write_star(folder / "truth.star", {"optics": optics, "particles": _truth_table(simulated)})
    with writing(folder / "simulation.json") as temporary:
        summary = _summary(simulated, specimen, contrast)
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    _write_stack(folder / "particles.mrcs", simulated.images, pixel_size, sign, progress)
    write_star(folder / "particles.star", {"optics": optics, "particles": _particle_table(simulated)})
