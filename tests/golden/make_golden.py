"""Makes relion_project.npz with RELION 3.1's `relion_project`: run `python tests/golden/make_golden.py`.

The file holds a small map, poses, optics and RELION's projections of it, so that rotations, shifts and CTF
are checked against RELION wherever the tests run. Needs RELION on the path.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clarice.io.mrc import read_mrc, write_mrc
from clarice.io.star import write_star
from clarice.physics.atoms import Atoms
from clarice.physics.potential import atoms_to_volume

TARGET = Path(__file__).parent / "relion_project.npz"
BOX, PIXEL_SIZE, COUNT = 44, 3.8, 9


def make_map(seed: int = 7, atoms: int = 60) -> NDArray[np.float32]:
    """An asymmetric map of a few broad atoms, well inside the box."""
    rng = np.random.default_rng(seed)
    positions = rng.normal(0, 18.0, (atoms, 3)).clip(-42, 42)
    blobs = Atoms.of(positions, np.full(atoms, 7), rng.uniform(250, 500, atoms))
    return atoms_to_volume(blobs, BOX, PIXEL_SIZE).numpy()


def make_parameters(seed: int = 11) -> dict[str, NDArray[Any]]:
    """Euler angles (n, 3), origins in Å (n, 2), and astigmatic defocus with phase shift (n, 4)."""
    rng = np.random.default_rng(seed)
    euler = np.stack([rng.uniform(-180, 180, COUNT), rng.uniform(0, 180, COUNT), rng.uniform(-180, 180, COUNT)], axis=1)
    defocus_v = rng.uniform(6000, 15000, COUNT)
    defocus_u = defocus_v + rng.uniform(500, 6000, COUNT)
    angle, phase = rng.uniform(0, 180, COUNT), np.where(np.arange(COUNT) % 3 == 0, 60.0, 0.0)
    return {
        "euler_deg": euler.round(4),
        "origin_angstrom": rng.uniform(-14, 14, (COUNT, 2)).round(4),
        "defocus": np.stack([defocus_u, defocus_v, angle, phase], axis=1).round(3),
        "optics": np.array([200.0, 2.1, 0.12]),  # kV, mm, amplitude contrast
    }


def relion_project(
    volume: NDArray[np.float32],
    pixel_size: float,
    parameters: dict[str, NDArray[Any]],
    *,
    shifts: bool,
    ctf: bool,
) -> NDArray[np.float32]:
    """RELION's projections (n, L, L) of a map for the parameters' poses and CTFs."""
    euler, origin, defocus = (parameters[name] for name in ("euler_deg", "origin_angstrom", "defocus"))
    optics = pd.DataFrame(
        {
            "rlnOpticsGroup": [1],
            "rlnOpticsGroupName": ["opticsGroup1"],
            "rlnVoltage": [parameters["optics"][0]],
            "rlnSphericalAberration": [parameters["optics"][1]],
            "rlnAmplitudeContrast": [parameters["optics"][2]],
            "rlnImagePixelSize": [pixel_size],
            "rlnImageSize": [volume.shape[0]],
            "rlnImageDimensionality": [2],
        }
    )
    particles = pd.DataFrame(
        {
            "rlnImageName": [f"{row + 1:06d}@none.mrcs" for row in range(len(euler))],
            "rlnOpticsGroup": 1,
            "rlnAngleRot": euler[:, 0],
            "rlnAngleTilt": euler[:, 1],
            "rlnAnglePsi": euler[:, 2],
            "rlnOriginXAngst": origin[:, 0] if shifts else 0.0,
            "rlnOriginYAngst": origin[:, 1] if shifts else 0.0,
            "rlnDefocusU": defocus[:, 0],
            "rlnDefocusV": defocus[:, 1],
            "rlnDefocusAngle": defocus[:, 2],
            "rlnPhaseShift": defocus[:, 3],
        }
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_mrc(folder / "map.mrc", volume, pixel_size, is_volume=True)
        write_star(folder / "in.star", {"optics": optics, "particles": particles})
        command = ["relion_project", "--i", "map.mrc", "--ang", "in.star", "--o", "out", "--pad", "2"]
        command += ["--angpix", f"{pixel_size}"] + (["--ctf"] if ctf else [])
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"relion_project failed: {done.stdout}{done.stderr}")
        return read_mrc(folder / "out.mrcs", pixel_size)[0]


def main() -> None:
    """Writes the golden file."""
    if shutil.which("relion_project") is None:
        sys.exit("relion_project is not on the path: install RELION 3.1")
    volume, parameters = make_map(), make_parameters()
    cases = {"plain": (False, False), "shifted": (True, False), "ctf": (True, True)}
    images = {
        name: relion_project(volume, PIXEL_SIZE, parameters, shifts=shifts, ctf=ctf)
        for name, (shifts, ctf) in cases.items()
    }
    np.savez_compressed(
        TARGET,
        volume=volume.astype(np.float16),
        pixel_size_angstrom=np.array(PIXEL_SIZE),
        **parameters,
        **{name: stack.astype(np.float16) for name, stack in images.items()},
    )
    print(f"{TARGET}: {TARGET.stat().st_size / 1e3:.0f} kB")  # noqa: T201


if __name__ == "__main__":
    main()
