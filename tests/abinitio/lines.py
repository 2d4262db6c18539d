"""Lines with a known answer, and the likelihood ratio of two rays by plain sums."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.common_lines import CommonLines
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
    return CommonLines(torch.from_numpy(angle).float(), zero, zero)


def right_ones(lines: CommonLines, rotations: FloatArray) -> Tensor:
    """Which lines (n, n) are the true ones, whichever of their two ends is told."""
    ends = (lines.directions() * true_lines(rotations).directions()).sum(dim=-1)
    return (ends * ends.T > 1 - 1e-5) & ~torch.eye(len(lines), dtype=torch.bool)


def log_density(values: Tensor, covariance: Tensor) -> float:
    """Logarithm of the density at `values` (m,) of complex Gaussians with mean 0, less m log π."""
    inverse = torch.linalg.inv(covariance)
    return float(-(values.conj() @ inverse.to(values.dtype) @ values).real - torch.logdet(covariance))
