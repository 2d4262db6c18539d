"""What structures have in common by degree, however they lie and in whichever hand."""

from __future__ import annotations

import pytest
import torch
from tests.geometry.blobs import seeded

from clarice.abinitio.degree_agreement import degree_agreement
from clarice.geometry.harmonics import BallBasis
from clarice.geometry.so3 import random_rotations
from clarice.geometry.wigner import mirrored, turned, wigner_matrices

BALL, RADII = BallBasis(24, 8.0, 6.0), (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


def moved(x: torch.Tensor, mirror: bool) -> torch.Tensor:
    """Coefficients of the structure turned, and mirrored."""
    matrices = [matrix[0] for matrix in wigner_matrices(random_rotations(1, seeded(2)), BALL.degree)]
    parts = []
    for degree, part in enumerate(BALL.split(x)):
        there = part @ matrices[degree].T.to(part)
        parts.append((there * (-1.0) ** degree if mirror else there).flatten())
    return torch.cat(parts)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_structure_agrees_with_itself_however_it_lies(mirror: bool) -> None:
    x = torch.randn(BALL.size, generator=seeded(1), dtype=torch.float64)
    spheres = BALL.on_spheres(x, BALL.transforms(RADII))
    matrices = [matrix[0] for matrix in wigner_matrices(random_rotations(1, seeded(2)), BALL.degree)]
    there = turned(mirrored(spheres) if mirror else spheres, matrices)
    assert torch.allclose(BALL.on_spheres(moved(x, mirror), BALL.transforms(RADII)), there)
    found = degree_agreement(BALL, RADII, x, [moved(x, mirror)])
    assert found.tolist() == pytest.approx([1.0] * (BALL.degree + 1), abs=1e-6)


def test_degrees_that_differ_are_told_and_others_averaged() -> None:
    x = torch.randn(BALL.size, generator=seeded(1), dtype=torch.float64)
    parts = [part.clone() for part in BALL.split(x)]
    parts[3] = torch.randn(parts[3].shape, generator=seeded(4), dtype=torch.float64)
    parts[5] = -parts[5]
    changed = torch.cat([part.flatten() for part in parts])
    found = degree_agreement(BALL, RADII, x, [moved(changed, mirror=True), x])
    assert found[[1, 2, 4]].tolist() == pytest.approx([1.0] * 3, abs=0.02)
    assert found[3] < 0.8
    assert float(found[5]) == pytest.approx(0.0, abs=0.05)  # of −1 and 1
    assert degree_agreement(BALL, RADII, x, []).shape == (0,)
