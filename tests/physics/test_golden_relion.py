"""Our projections, shifts and CTF against RELION 3.1 on the same map (see tests/golden/make_golden.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clarice.core.particles import Optics, Poses
from clarice.geometry.slices import project
from clarice.geometry.so3 import euler_to_matrix
from clarice.physics.image_formation import form_images

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "relion_project.npz"


def our_images(transposed: bool = False) -> dict[str, NDArray[np.float64]]:
    """Images of the golden file's map, poses and optics by our own physics."""
    with np.load(GOLDEN) as golden:
        volume = torch.from_numpy(golden["volume"].astype(np.float32))
        pixel_size, euler, origin = (
            float(golden["pixel_size_angstrom"]),
            golden["euler_deg"],
            golden["origin_angstrom"],
        )
        (voltage, aberration, amplitude), (u, v, angle, phase) = golden["optics"], golden["defocus"].T
    count = len(euler)
    same = [np.full(count, value) for value in (voltage, aberration, amplitude)]
    optics = Optics(*same, u, v, angle, phase, np.zeros(count))
    rotations = euler_to_matrix(euler)
    rotations = np.swapaxes(rotations, 1, 2) if transposed else rotations
    projections = project(volume, rotations)
    poses = Poses(rotations, origin / pixel_size)
    shifted, with_ctf = form_images(projections, poses, optics, volume.shape[0], pixel_size)
    return {
        "plain": projections.double().numpy(),
        "shifted": shifted.double().numpy(),
        "ctf": with_ctf.double().numpy(),
    }


def correlations(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(ours, theirs, strict=True)])


@pytest.mark.parametrize("case", ["plain", "shifted", "ctf"])
def test_images_are_relions(case: str) -> None:
    ours = our_images()[case]
    with np.load(GOLDEN) as golden:
        theirs = golden[case].astype(np.float64)
    assert correlations(ours, theirs).min() > 0.9995
    assert np.linalg.norm(ours) == pytest.approx(np.linalg.norm(theirs), rel=0.01)


def test_the_transposed_rotation_would_be_noticed() -> None:
    with np.load(GOLDEN) as golden:
        theirs = golden["plain"].astype(np.float64)
    assert np.median(correlations(our_images(transposed=True)["plain"], theirs)) < 0.95


def test_the_golden_file_stays_small() -> None:
    assert GOLDEN.stat().st_size < 300_000
