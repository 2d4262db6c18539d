"""Pose conventions on files of other people's RELION: stacks with known poses, particles with their map."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clarice.core.particles import Optics, Poses
from clarice.geometry.nufft import fourier_at
from clarice.geometry.slices import project
from clarice.geometry.so3 import euler_to_matrix
from clarice.io.mrc import read_mrc
from clarice.io.star import floats, read_star
from clarice.physics.image_formation import form_images

FloatArray = NDArray[np.float64]


def read_poses(path: Path, pixel_size: float) -> tuple[FloatArray, FloatArray]:
    """Rotations (n, 3, 3) and centring shifts in pixels (n, 2) of a STAR file."""
    table = read_star(path)["particles"]
    euler = np.stack([floats(table, f"rlnAngle{name}", str(path)) for name in ("Rot", "Tilt", "Psi")], axis=1)
    unit, suffix = (pixel_size, "Angst") if "rlnOriginXAngst" in table else (1.0, "")
    shifts = np.stack([floats(table, f"rlnOrigin{axis}{suffix}", str(path)) / unit for axis in "XY"], axis=1)
    return euler_to_matrix(euler), shifts


def common_line_correlations(images: NDArray[np.float32], rotations: FloatArray, shifts_px: FloatArray) -> FloatArray:
    """Correlation of the Fourier line that each pair of views shares, up to half the Nyquist frequency."""
    box = images.shape[-1]
    radii = np.arange(2, box // 4) / box
    found = []
    for pair in itertools.combinations(range(len(images)), 2):
        axis = np.cross(rotations[pair[0], 2], rotations[pair[1], 2])
        if np.linalg.norm(axis) < 0.2:  # nearly one view: no sharp line
            continue
        lines = []
        for row in pair:
            direction = (rotations[row] @ axis)[:2] / np.linalg.norm(axis)
            at = radii[:, None] * direction
            line = fourier_at(torch.from_numpy(images[row : row + 1]), torch.from_numpy(at))[0].numpy()
            lines.append(line * np.exp(-2j * np.pi * at @ shifts_px[row]))
        product = np.sum(lines[0] * lines[1].conj()).real
        found.append(product / np.linalg.norm(lines[0]) / np.linalg.norm(lines[1]))
    return np.array(found)


def test_lines_of_a_shifted_stack_agree(shared_data: Path) -> None:
    rotations, shifts = read_poses(shared_data / "formats" / "star" / "relion_proj_batch_pfac3.star", 3.54)
    images = read_mrc(shared_data / "formats" / "aspire_ref" / "relion_proj_batch_pfac3.mrcs", 3.54)[0]
    assert np.median(common_line_correlations(images, rotations, shifts)) > 0.99
    assert np.median(common_line_correlations(images, rotations, -shifts)) < 0.3
    assert np.median(common_line_correlations(images, np.swapaxes(rotations, 1, 2), shifts)) < 0.3


@pytest.mark.parametrize("name", ["rln_proj_65", "rln_proj_65_shifted"])
def test_lines_of_a_stack_with_an_odd_box_agree(shared_data: Path, name: str) -> None:
    rotations, shifts = read_poses(shared_data / "formats" / "star" / f"aspire_{name}.star", 1.0)
    images = read_mrc(shared_data / "formats" / "aspire_ref" / f"{name}.mrcs", 1.0)[0]
    # RELION is made for even boxes: in an odd one it puts the centre one pixel beyond L // 2.
    assert np.median(common_line_correlations(images, rotations, shifts - 1)) > 0.99
    assert np.median(common_line_correlations(images, np.swapaxes(rotations, 1, 2), shifts - 1)) < 0.3


def test_real_particles_look_like_projections_of_their_map(shared_data: Path) -> None:
    folder = shared_data / "particles" / "trpv1_small_10"
    path = folder / "trpv1_small_stack.star"
    blocks = read_star(path)
    table, group = blocks["particles"], blocks["optics"]
    volume, pixel_size = read_mrc(folder / "trpv1_volume.mrc")
    images = read_mrc(folder / "trpv1_small_stack.mrcs")[0]
    rotations, shifts = read_poses(path, pixel_size)
    count = len(images)
    optics = Optics(
        *(
            np.full(count, floats(group, name, str(path))[0])
            for name in ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
        ),
        *(
            floats(table, f"rln{name}", str(path))
            for name in ("DefocusU", "DefocusV", "DefocusAngle", "PhaseShift", "CtfBfactor")
        ),
    )

    def correlations(turns: FloatArray, moves: FloatArray) -> FloatArray:
        projections = project(torch.from_numpy(volume), turns)
        _, expected = form_images(projections, Poses(turns, moves), optics, images.shape[-1], pixel_size)
        return np.array(
            [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(expected.numpy(), images, strict=True)]
        )

    right = correlations(rotations, shifts)
    assert right.min() > 0.13
    assert right.mean() > correlations(np.swapaxes(rotations, 1, 2), shifts).mean() + 0.04
    assert right.mean() > correlations(rotations, -shifts).mean() + 0.1
