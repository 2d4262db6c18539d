"""What a joint denoiser tells beside its images, judged: their sources and angles, and how wrong it expects to be."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.stats import t as student

from clarice.benchmark.denoise_sets import Images, ImageSet
from clarice.benchmark.denoise_sorting import wrapped
from clarice.core.particles import FloatArray
from clarice.denoise.diffusion import REFINED
from clarice.denoise.notes import Notebook, Sources
from clarice.denoise.registry import Denoiser, denoise_all
from clarice.geometry.fourier import shell_index
from clarice.metrics.clusters import adjusted_rand_index
from clarice.metrics.image import inscribed_disk

# Sources of each image that are looked at.
_SOURCES = 128


def told(method: Denoiser, truth: ImageSet) -> dict[str, float]:
    """Figures of what `method` tells of a set; none of a method that tells nothing."""
    if method.telling is None:
        return {}
    deviations = np.empty(truth.clean.shape, dtype=np.float32) if method.several_samples else None
    notebook = Notebook(len(truth), min(_SOURCES, max(1, len(truth) - 1)), deviations)
    images = denoise_all(method(truth.noisy_set(), notes=notebook), len(truth), truth.box)
    figures = {}
    if notebook.has_sources and len(np.unique(truth.shown.view)) < len(truth):
        figures = judge_sources(notebook.found, truth.shown.view, truth.shown.angle_rad)
    if notebook.error_by_shell is not None:
        figures["foretold_error"] = foretold_over_actual(notebook.error_by_shell, images, truth.clean)
    if deviations is not None and method.sampling is not None:
        figures["coverage_90"] = coverage(
            images, deviations, truth.clean, method.sampling.samples, corrected=method.name == REFINED
        )
    return figures


def coverage(
    images: Images, deviations: Images, clean: Images, samples: int, *, corrected: bool = False, share: float = 0.9
) -> float:
    """Share of pixels inside the disk that lie in the central interval of `share` around a mean of `samples` samples.

    Student's: the deviation is known from the samples alone, and their mean is off as well, unless it was `corrected`.
    """
    reach = student.ppf((1 + share) / 2, samples - 1) * (1.0 if corrected else (1 + 1 / samples) ** 0.5)
    disk = inscribed_disk(images.shape[-1])
    return float((np.abs(images - clean) <= reach * deviations)[:, disk].mean())


def judge_sources(found: Sources, view: NDArray[np.int64], angle_rad: FloatArray) -> dict[str, float]:
    """Purity: the share of the attention given that goes to the same view. ARI: of clusters by attention. Median angle
    error in degrees of sources of the same view, each counted by its weight."""
    receiver = np.broadcast_to(np.arange(len(view))[:, None], found.row.shape)
    listed = (found.row >= 0) & (found.weight > 0)
    target, source, weight = receiver[listed], found.row[listed], found.weight[listed]
    same = view[target] == view[source]
    if not same.any():
        return {}
    turned = np.deg2rad(found.angle_deg[listed]) - (angle_rad[target] - angle_rad[source])
    given = np.zeros((len(view), len(view)))
    given[target, source] = weight
    return {
        "purity": float(weight[same].sum() / weight.sum()),
        "ari": adjusted_rand_index(_clusters(given, len(np.unique(view))), view),
        "angle_error_deg": float(np.rad2deg(_weighted_median(np.abs(wrapped(turned[same])), weight[same]))),
    }


def _clusters(given: FloatArray, count: int) -> NDArray[np.int64]:
    """As many clusters as there are views, by average linkage of attention given and received."""
    near = (given + given.T) / 2
    distance = 1 - near / near.max()
    condensed = distance[np.triu_indices(len(near), k=1)]
    return np.asarray(fcluster(linkage(condensed, method="average"), count, criterion="maxclust"), dtype=np.int64)


def _weighted_median(values: FloatArray, weight: FloatArray) -> float:
    order = np.argsort(values)
    summed = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(summed, summed[-1] / 2)])


def foretold_over_actual(by_shell: FloatArray, images: Images, clean: Images) -> float:
    """Expected over actual squared error of a set, over the shells told of; `by_shell` (n, S) is per coefficient."""
    box = images.shape[-1]
    shells = shell_index(box, 2).numpy()
    told_of = min(by_shell.shape[1], box // 2 + 1)
    count = np.bincount(shells.ravel(), minlength=told_of)[:told_of]
    error = torch.fft.fftshift(torch.fft.fft2(torch.from_numpy(images - clean), norm="ortho"), dim=(-2, -1))
    actual = float(error.abs().square()[:, torch.from_numpy(shells < told_of)].sum())
    return float((by_shell[:, :told_of] * count).sum() / actual)
