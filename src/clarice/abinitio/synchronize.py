"""Rotations of all images from their common lines.

Let M_i (2, 3) be the first two rows of R_i, the axes of image i in the molecule's frame, and c_ij the direction in
image i of the line it shares with image j. A right line is one direction in the molecule:

    M_iᵀ c_ij = M_jᵀ c_ji.

Three ways, each better with wrong lines than the one before:

- `spectral`: the leading eigenvectors of the matrix of all c_ij c_jiᵀ (Singer and Shkolnisky 2011, SIAM J. Imaging Sci.
  4, section 4), which makes the sum of squared residuals least under one constraint for all.
- `least_deviations`: the sum of the residuals themselves is made least, by iteratively reweighted least squares (the
  functional of Wang, Singer and Wen 2013, SIAM J. Imaging Sci. 6, "LUD", from the spectral start and not relaxed).
- `consensus`: a share of the lines is right but for a small error, the others run anywhere; share, error and rotations
  are made most probable by expectation maximisation, the error coming down from a large one.

The hand stays open: all R_i may be J R_i J with J = diag(1, 1, −1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from clarice.abinitio.common_lines import CommonLines
from clarice.core.progress import Progress, silent

# Residuals count unsquared above these lengths, one after the other, and as squares below.
_SOFTENINGS = (0.5, 0.1, 0.02)
# An axis that moves less than this in a step, in radians, stands still.
_STILL = 1e-4
_MOST_STEPS = 200
# Errors of right lines, in radians, that consensus starts from, one after the other, and steps taken with each. Then
# the lines themselves tell whether it is smaller, and how much: they are told apart to about a degree.
_ERRORS_RAD = (0.6, 0.4, 0.25, 0.15, 0.1, 0.06, 0.03)
_STEPS = 15
_LEAST_ERROR_RAD = 0.005
# The largest of them from rotations that are known roughly.
_ERROR_FROM_START_RAD = 0.15
# The share of right lines that it starts from, and never leaves.
_FIRST_SHARE, _SHARES = 0.2, (0.02, 0.99)


@dataclass(frozen=True)
class Synchronized:
    """Rotations of n images, `rotations` (n, 3, 3) float64, and what they make of the lines.

    `directions` (n, n, 2) are the lines that went in, `residual_rad` (n, n) how far each misses, `right` (n, n) how
    probably it is a right one and `share` the mean of it; nan where no way of telling was part of the method.
    """

    rotations: Tensor
    directions: Tensor
    residual_rad: Tensor
    right: Tensor
    share: float

    def support(self) -> Tensor:
        """Share of each image's lines that are right, (n,): an image far below the others fits nowhere."""
        return self.right.sum(dim=1) / (len(self.right) - 1)


def spectral(lines: CommonLines, weight: Tensor | None = None) -> Synchronized:
    """Rotations by the eigenvectors of the matrix of lines; `weight` (n, n) of each, 1 for all if absent."""
    directions, weight = _checked(lines, weight)
    return synchronized(_spectral_axes(directions, weight), directions)


def least_deviations(lines: CommonLines, weight: Tensor | None = None) -> Synchronized:
    """Rotations that make Σ w_ij ‖M_iᵀ c_ij − M_jᵀ c_ji‖ least; `weight` (n, n), 1 for all if absent."""
    directions, weight = _checked(lines, weight)
    axes = _spectral_axes(directions, weight)
    for softening in _SOFTENINGS:
        for _ in range(_MOST_STEPS):
            in_space = directions @ axes
            moved = _moved(axes, directions, in_space, weight / _gap(in_space).sqrt().clamp_min(softening))
            still = float((moved - axes).square().sum(dim=(-2, -1)).mean().sqrt()) < _STILL
            axes = moved
            if still:
                break
    return synchronized(axes, directions)


def consensus(
    lines: CommonLines, weight: Tensor | None = None, start: Tensor | None = None, progress: Progress = silent
) -> Synchronized:
    """Rotations on which the most lines agree; `weight` (n, n) counts a line for so many, 1 for all if absent.

    A right line's direction errs by a Gaussian on the sphere, (1 / 2πσ²) exp(−gap² / 2σ²); a wrong one's is uniform.
    From the spectral rotations, or from those of `start` (n, 3, 3), which are taken for right to within ten degrees.
    """
    directions, weight = _checked(lines, weight)
    axes = _spectral_axes(directions, weight) if start is None else start[:, :2].to(directions.dtype)
    errors = [error for error in _ERRORS_RAD if start is None or error <= _ERROR_FROM_START_RAD]
    share, right, error = _FIRST_SHARE, weight, errors[0]
    for number, given in enumerate([*errors, None]):
        error = error if given is None else given
        for _ in range(_STEPS):
            in_space = directions @ axes
            gap = _gap(in_space)
            odds = share / (1 - share) * torch.exp(-gap / (2 * error**2)) * 2 / error**2
            right = odds / (1 + odds) * (weight > 0)
            counted = right * weight
            share = min(max(float(counted.sum() / weight.sum()), _SHARES[0]), _SHARES[1])
            axes = _moved(axes, directions, in_space, counted)
            if given is None:
                # The most probable σ² of Gaussian errors in two dimensions, half of their mean square.
                spread = float((counted * gap).sum() / (2 * counted.sum()).clamp_min(1e-12)) ** 0.5
                error = min(max(spread, _LEAST_ERROR_RAD), errors[-1])
        progress("synchronisation", number + 1, len(errors) + 1)
    return synchronized(axes, directions, right, share)


def directions_of(lines: CommonLines) -> Tensor:
    """Directions (n, n, 2) of the lines, float64."""
    return lines.directions().double()


def _checked(lines: CommonLines, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Directions (n, n, 2) and weights (n, n), in float64, 0 on the diagonal. Raises ValueError for under 3 images."""
    count = len(lines)
    if count < 3:
        raise ValueError("rotations need three or more images")
    weight = torch.ones((count, count)) if weight is None else weight
    return directions_of(lines), weight.double() * (1 - torch.eye(count, dtype=torch.float64))


def _gap(in_space: Tensor) -> Tensor:
    """Squared distance (n, n) between a line as either of its images lays it, (n, n, 3)."""
    return (in_space - in_space.transpose(0, 1)).square().sum(dim=-1)


def _moved(axes: Tensor, directions: Tensor, in_space: Tensor, trust: Tensor) -> Tensor:
    """Axes (n, 2, 3) after a step of weighted least squares, all images at once.

    Where others lay an image's lines pulls at it; half as strong an anchor where it is keeps images that pull at one
    another from overshooting.
    """
    pull = (trust[..., None] * directions).transpose(1, 2) @ in_space.transpose(0, 1)
    return orthonormal(pull + 0.5 * trust.sum(dim=1)[:, None, None] * axes)


def orthonormal(axes: Tensor) -> Tensor:
    """The nearest orthonormal axes (n, d, 3): polar factors."""
    u, _, v = torch.linalg.svd(axes, full_matrices=False)
    return u @ v


def _spectral_axes(directions: Tensor, weight: Tensor) -> Tensor:
    return leading_axes(torch.einsum("ij,ija,jib->ijab", weight, directions, directions), weight)


def leading_axes(blocks: Tensor, weight: Tensor) -> Tensor:
    """Orthonormal axes (n, 2, 3) from the leading vectors of weighted `blocks` (n, n, 2, 2)."""
    return orthonormal(_unstretched(leading_vectors(blocks, weight)))


def leading_vectors(blocks: Tensor, weight: Tensor) -> Tensor:
    """The three leading eigenvectors (n, d, 3) of the matrix of `blocks` (n, n, d, d), which are weighted already.

    Images whose weights (n, n) add up to more do not count for more.
    """
    count, size = len(blocks), blocks.shape[-1]
    matrix = blocks.transpose(1, 2).reshape(size * count, size * count)
    balance = weight.sum(dim=1).clamp_min(1e-12).rsqrt().repeat_interleave(size)
    vectors = torch.linalg.eigh(balance[:, None] * matrix * balance)[1][:, -3:]
    return (vectors * balance[:, None]).view(count, size, 3)


def _unstretched(axes: Tensor) -> Tensor:
    """Axes V_i A with the one A that makes them orthonormal in the mean: V_i Q V_iᵀ ≈ 1 with Q = A Aᵀ.

    Eigenvectors span the right space, in a basis of their own.
    """
    upper = torch.triu_indices(3, 3)
    twice = torch.where(upper[0] == upper[1], 0.5, 1.0).to(axes.dtype)
    equations, wanted = [], []
    for a, b in ((0, 0), (0, 1), (1, 1)):
        product = axes[:, a, :, None] * axes[:, b, None, :]
        equations.append((product + product.transpose(1, 2))[:, upper[0], upper[1]] * twice)
        wanted.append(torch.full((len(axes),), float(a == b), dtype=axes.dtype))
    solution = torch.linalg.lstsq(torch.cat(equations), torch.cat(wanted)[:, None]).solution[:, 0]
    gram = axes.new_zeros((3, 3))
    gram[upper[0], upper[1]] = gram[upper[1], upper[0]] = solution
    values, vectors = torch.linalg.eigh(gram)
    return axes @ (vectors * values.clamp_min(1e-6 * float(values.abs().max())).sqrt())


def synchronized(
    axes: Tensor, directions: Tensor, right: Tensor | None = None, share: float = math.nan
) -> Synchronized:
    """What axes (n, 2, 3) make of lines in `directions` (n, n, 2)."""
    in_space = directions @ axes
    residual = 2 * (_gap(in_space).sqrt() / 2).clamp_max(1).arcsin()
    third = torch.linalg.cross(axes[:, 0], axes[:, 1])
    rotations = torch.cat([axes, third[:, None]], dim=1)
    right = torch.full_like(residual, math.nan) if right is None else right
    return Synchronized(rotations, directions, residual, right, share)
