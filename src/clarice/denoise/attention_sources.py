"""Where the images of one set came from, read off the attention of all blocks and heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from clarice.core.particles import RowIndex
from clarice.denoise.angular_weights import AngularWeights
from clarice.denoise.notes import Sources


@torch.no_grad()
def sources_of(attended: Sequence[AngularWeights], rows: RowIndex, wanted: int) -> Sources:
    """The `wanted` heaviest sources of each image of a single set (B = 1), whose numbers in the stack are `rows`.

    Those without any weight are not listed: no image attends to some. Weights are means over blocks and heads; the
    angle is where a source's weight peaks, to a fraction of a step.
    """
    posterior = torch.stack([weights.posterior[:, 0].float().mean(dim=1) for weights in attended]).mean(dim=0)
    by_source = posterior.sum(dim=0)  # (n, j)
    count = len(rows)
    listed = min(wanted, count - 1)
    weight, chosen = by_source.topk(listed, dim=-1)
    angle = _peak_deg(posterior.gather(2, chosen.expand(len(posterior), -1, -1)))
    shape = (count, wanted)
    found = Sources(np.full(shape, -1), np.zeros(shape), np.zeros(shape), np.zeros(count))
    found.row[:, :listed] = np.where(weight.cpu().numpy() > 0, rows[chosen.cpu().numpy()], -1)
    found.angle_deg[:, :listed] = angle.double().cpu().numpy()
    found.weight[:, :listed] = weight.double().cpu().numpy()
    found.kept[:] = (1 - by_source.sum(dim=-1)).clamp(0, 1).double().cpu().numpy()
    return found


def _peak_deg(weight: Tensor) -> Tensor:
    """Angle in degrees, within ±180, at which weights (T, …) peak: the mean over the best step and its neighbours."""
    n_angles = len(weight)
    best = weight.argmax(dim=0, keepdim=True)
    steps = torch.arange(-1, 2, device=weight.device).view(3, *(1,) * (weight.ndim - 1))
    around = weight.gather(0, (best + steps) % n_angles)
    offset = (around * steps).sum(dim=0) / around.sum(dim=0).clamp_min(1e-30)
    degrees = (best[0] + offset) * 360 / n_angles
    return (degrees + 180) % 360 - 180
