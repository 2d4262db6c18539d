"""Rotations of all images from relative rotations of pairs, each decided by the votes of all other images.

Images i and j share a line; the angle α between their planes stays open. Every third image k closes a triangle on the
sphere, whose sides are arcs a, b and c between the lines in the planes of i, j and k, and so votes for

    cos α = (cos c − cos a cos b) / (sin a sin b).

Votes of wrong lines spread, those of right ones meet (Singer, Coifman, Sigworth, Chester and Shkolnisky 2010, J.
Struct. Biol. 169, "voting"). The sign of α is not told: R_ij is known up to its mirror image J R_ij J with
J = diag(1, 1, −1). Two ways on:

- `voted`: the upper left 2 × 2 blocks of R_ij are the same for both hands; of the matrix of all, the axes of the images
  are the leading eigenvectors (Shkolnisky and Singer 2012, SIAM J. Imaging Sci. 5, section 5).
- `handed`: mirror images are taken out first, by the hands that triplets of images need so that R_ij R_jk = R_ik, the
  leading eigenvector of the matrix of all pairs of pairs (Pragier, Greenberg, Cheng and Shkolnisky 2016, IEEE Trans.
  Inform. Theory 62); then rotations are eigenvectors of the matrix of whole blocks ("Sync3N").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from clarice.abinitio.common_lines import CommonLines
from clarice.abinitio.synchronize import (
    Synchronized,
    directions_of,
    leading_axes,
    leading_vectors,
    orthonormal,
    synchronized,
)
from clarice.core.progress import Progress, silent

# Votes are counted in bins of this width, smoothed by a Gaussian of this standard deviation.
_BIN_DEG, _SMOOTHING_DEG = 1.0, 3.0
# Votes so near the most voted angle are averaged.
_NEAR_PEAK_DEG = 6.0
# The least squared volume of a triangle's three lines: flat triangles tell no angle.
_LEAST_VOLUME = 1e-3
# Steps of the power iteration that sorts out hands.
_HAND_STEPS = 30


@dataclass(frozen=True)
class PairRotations:
    """Relative rotations of n images: `rotations` (n, n, 3, 3) = R_i R_jᵀ up to the hand, each pair's own.

    `weight` (n, n): the share of third images that voted for it, above what chance gives; 0 on the diagonal.
    """

    rotations: Tensor
    weight: Tensor


def voted(lines: CommonLines, progress: Progress = silent) -> Synchronized:
    """Rotations by the votes of all images, hands left open until the end."""
    pairs = vote(lines, progress)
    blocks = pairs.rotations[..., :2, :2] * pairs.weight[..., None, None]
    return synchronized(leading_axes(blocks, pairs.weight), directions_of(lines))


def handed(lines: CommonLines, progress: Progress = silent) -> Synchronized:
    """Rotations by the votes of all images, every pair's hand told by all triplets that it is part of."""
    pairs = one_hand(vote(lines, progress), progress)
    rotations = orthonormal(leading_vectors(pairs.rotations * pairs.weight[..., None, None], pairs.weight))
    rotations = rotations * torch.linalg.det(rotations).sum().sign()  # eigenvectors may be of the other orientation
    return synchronized(rotations[:, :2], directions_of(lines))


def vote(lines: CommonLines, progress: Progress = silent) -> PairRotations:
    """The relative rotation of every pair. Raises ValueError for under 3 images."""
    count = len(lines)
    if count < 3:
        raise ValueError("rotations need three or more images")
    theta = lines.angle_rad.double()
    angle, weight = torch.zeros_like(theta), torch.zeros_like(theta)
    for i in range(count - 1):
        later = slice(i + 1, count)
        angle[i, later], weight[i, later] = _voted_angles(theta, i, later)
        progress("voting", i + 1, count - 1)
    angle, weight = angle + angle.T, weight + weight.T
    euler = torch.stack([theta, angle, -theta.T], dim=-1).flatten(0, 1)
    relative = torch.from_numpy(Rotation.from_euler("ZXZ", euler.numpy()).as_matrix()).view(count, count, 3, 3)
    upper = torch.ones((count, count), dtype=torch.bool).triu()[..., None, None]
    return PairRotations(torch.where(upper, relative, relative.permute(1, 0, 3, 2)), weight)


def _voted_angles(theta: Tensor, i: int, later: slice) -> tuple[Tensor, Tensor]:
    """The angle (m,) between the planes of image i and of each of the images `later`, and its weight (m,)."""
    in_i = theta[i] - theta[i, later, None]  # (m, k): arcs of each triangle in its three planes
    in_j = theta[later] - theta[later, i, None]
    in_k = (theta[:, later] - theta[:, i, None]).T
    a, b, c = in_i.cos(), in_j.cos(), in_k.cos()
    proper = 1 + 2 * a * b * c - a.square() - b.square() - c.square() > _LEAST_VOLUME
    proper[:, i] = False
    proper[torch.arange(len(proper)), torch.arange(len(theta))[later]] = False
    cosine = (c - a * b) / torch.where(proper, in_i.sin() * in_j.sin(), 1)
    votes = torch.rad2deg(cosine.clamp(-1, 1).acos())
    bins = round(180 / _BIN_DEG)
    place = (votes / _BIN_DEG).long().clamp_max(bins - 1)
    counted = torch.zeros((len(votes), bins), dtype=votes.dtype).scatter_add_(1, place, proper.to(votes.dtype))
    middle = (torch.arange(bins, dtype=votes.dtype) + 0.5) * _BIN_DEG
    smooth = torch.exp(-0.5 * ((middle[:, None] - middle) / _SMOOTHING_DEG).square())
    peak = middle[(counted @ smooth).argmax(dim=1)]
    near = proper & ((votes - peak[:, None]).abs() <= _NEAR_PEAK_DEG)
    supporters, voters = near.sum(dim=1), proper.sum(dim=1).clamp_min(1)
    found = torch.where(supporters > 0, (votes * near).sum(dim=1) / supporters.clamp_min(1), peak)
    by_chance = 2 * _NEAR_PEAK_DEG / 180
    return torch.deg2rad(found), (supporters / voters - by_chance).clamp_min(1e-3)


def one_hand(pairs: PairRotations, progress: Progress = silent) -> PairRotations:
    """The same rotations, all of one hand."""
    agree = _agreements(pairs, progress)
    count = len(pairs.weight)
    vector = torch.randn((count, count), generator=torch.Generator().manual_seed(0))
    vector = (vector + vector.T) * (1 - torch.eye(count))
    for _ in range(_HAND_STEPS):
        # Σ_k agree(ij, jk) v_jk + agree(ij, ik) v_ik
        half = torch.stack([(each * vector).sum(dim=1) for each in agree])
        vector = half + half.T
        vector = vector / vector.norm()
    mirrored = (vector < 0)[..., None, None]
    return PairRotations(torch.where(mirrored, _mirrored(pairs.rotations), pairs.rotations), pairs.weight)


def _agreements(pairs: PairRotations, progress: Progress) -> Tensor:
    """(n, n, n) int8: 1 where the pairs ij and jk are of one hand, as the triplet ijk has it, −1 where not.

    Of the four ways to mirror at most one of R_ij, R_jk and R_ik that is taken which leaves R_ij R_jk nearest to R_ik.
    """
    rotations, count = pairs.rotations.float(), len(pairs.weight)
    agree = torch.empty((count, count, count), dtype=torch.int8)
    mirror = _mirrored(rotations)
    for i in range(count):
        onward = rotations[i][:, None] @ rotations  # (j, k, 3, 3)
        none = (onward * rotations[i]).sum(dim=(-2, -1))
        of_ik = (onward * mirror[i]).sum(dim=(-2, -1))
        of_ij = ((mirror[i][:, None] @ rotations) * rotations[i]).sum(dim=(-2, -1))
        of_jk = ((rotations[i][:, None] @ mirror) * rotations[i]).sum(dim=(-2, -1))
        together = torch.maximum(none, of_ik) >= torch.maximum(of_ij, of_jk)
        agree[i] = torch.where(together, 1, -1)
        agree[i, i] = agree[i, :, i] = 0
        progress("telling hands", i + 1, count)
    every = torch.arange(count)
    agree[:, every, every] = 0
    return agree


def _mirrored(rotations: Tensor) -> Tensor:
    """J R J of rotations (…, 3, 3)."""
    sign = torch.tensor([1.0, 1.0, -1.0], dtype=rotations.dtype)
    return rotations * sign[:, None] * sign
