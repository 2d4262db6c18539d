"""What the polar transformer's attention says of a set: how much goes to images of the same view, at which angle."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from clarice.benchmark.denoise_sets import ImageSet
from clarice.benchmark.denoise_sorting import wrapped
from clarice.denoise.network_input import network_input
from clarice.denoise.polar_transformer import PolarTransformer
from clarice.denoise.trained import trained_network
from clarice.metrics.clusters import adjusted_rand_index

FloatArray = NDArray[np.float64]
# Images whose attention is looked at: its memory grows with their square.
LARGEST_SET = 128


def attention_figures(name: str, truth: ImageSet) -> dict[str, float]:
    """Purity (share of attention given to the same view), ARI of clusters by attention, median angle error in degrees.

    From the last block, heads summed, over the first `LARGEST_SET` images. Empty for sets without shared views.
    """
    network = trained_network(name).network
    rows = np.arange(min(len(truth), LARGEST_SET))
    if not isinstance(network, PolarTransformer) or len(np.unique(truth.shown.view[rows])) == len(rows):
        return {}
    images, transfer = network_input(truth.noisy_set(), rows, network.size.box)
    device = network.analysis.device
    with torch.no_grad():
        given = images[None].to(device), None if transfer is None else transfer[None].to(device)
        weights = network.with_weights(*given)[1][-1].posterior[:, 0].float().sum(dim=1).cpu()
    return figures_of(weights.double().numpy(), truth.shown.view[rows], truth.shown.angle_rad[rows])


def figures_of(weights: FloatArray, view: NDArray[np.int64], angle_rad: FloatArray) -> dict[str, float]:
    """The figures of attention (T, n, j): index φ of T is the angle that lays source j on image i."""
    n_angles = len(weights)
    to_source = weights.sum(axis=0)
    same = (view[:, None] == view[None]) & ~np.eye(len(view), dtype=bool)
    total = to_source.sum()
    if not same.any() or total <= 0:
        return {}
    angle = 2 * np.pi * np.argmax(weights, axis=0) / n_angles
    error = np.abs(wrapped(angle - (angle_rad[:, None] - angle_rad[None])))
    return {
        "purity": float(to_source[same].sum() / total),
        "ari": adjusted_rand_index(_clusters(to_source, len(np.unique(view))), view),
        "angle_error_deg": float(np.rad2deg(_weighted_median(error[same], to_source[same]))),
    }


def _clusters(to_source: FloatArray, count: int) -> NDArray[np.int64]:
    """As many clusters as there are views, by average linkage of attention given and received."""
    near = (to_source + to_source.T) / 2
    distance = 1 - near / max(float(near.max()), 1e-12)
    condensed = distance[np.triu_indices(len(near), k=1)]
    return np.asarray(fcluster(linkage(condensed, method="average"), count, criterion="maxclust"), dtype=np.int64)


def _weighted_median(values: FloatArray, weight: FloatArray) -> float:
    order = np.argsort(values)
    summed = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(summed, summed[-1] / 2)])
