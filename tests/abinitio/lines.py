"""Lines with a known answer, and the likelihood ratio of two rays by plain sums."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.common_lines import CommonLines
from clarice.geometry.so3 import random_rotations
from clarice.metrics.orientation import FloatArray, common_line_angles_deg


def true_lines(rotations: FloatArray) -> CommonLines:
    """The lines of views (n, 3, 3), one direction for both images of a pair."""
    count = len(rotations)
    first, second = np.triu_indices(count, 1)
    angle = np.zeros((count, count))
    angle[first, second], angle[second, first] = np.deg2rad(
        common_line_angles_deg(rotations[first], rotations[second])
    ).T
    zero = torch.zeros((count, count))
    return CommonLines(torch.from_numpy(angle).float(), zero, zero, zero)


def outlying(count: int, share: float, seed: int) -> tuple[FloatArray, CommonLines]:
    """Random rotations and their lines, of which a `share` is right and the others run anywhere in both images."""
    generator = torch.Generator().manual_seed(seed)
    rotations = random_rotations(count, generator)
    lines = true_lines(rotations)
    wrong = torch.rand((count, count), generator=generator).triu(1) > share
    wrong = wrong | wrong.T
    anywhere = 2 * torch.pi * torch.rand((count, count), generator=generator)
    angle = torch.where(wrong, anywhere, lines.angle_rad)
    return rotations, CommonLines(angle, lines.shift_px, lines.confidence, lines.score)


def log_density(values: Tensor, covariance: Tensor) -> float:
    """Logarithm of the density at `values` (m,) of complex Gaussians with mean 0, less m log π."""
    inverse = torch.linalg.inv(covariance)
    return float(-(values.conj() @ inverse.to(values.dtype) @ values).real - torch.logdet(covariance))
