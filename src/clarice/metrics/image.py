"""How near images come to their clean targets: relative MSE, PSNR, SSIM, correlation.

Everything is measured inside the inscribed disk. `fit` says what may be adjusted first, image by image, by
least squares: nothing ("none", the definition), a factor ("scale"), or that and an offset ("scale_offset").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.metrics import structural_similarity

from clarice.geometry.fourier import radius_grid
from clarice.metrics.shells import as_array

FloatArray = NDArray[np.float64]
Fit = Literal["none", "scale", "scale_offset"]

# Wang et al. 2004: a Gaussian window of 1.5 px, cut at 3.5 σ.
SSIM_SIGMA_PX = 1.5
SSIM_WINDOW_PX = 11


def inscribed_disk(box: int) -> NDArray[np.bool_]:
    """True within box / 2 pixels of index box // 2, (box, box)."""
    return np.asarray(radius_grid(box, 2).numpy() <= box / 2)


def _paired(estimate: ArrayLike, truth: ArrayLike, fit: Fit) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """The fitted estimates and truths, (n, L, L) each, and their disk."""
    images, targets = as_array(estimate), as_array(truth)
    if images.shape != targets.shape or images.ndim < 2 or images.shape[-1] != images.shape[-2]:
        raise ValueError(f"images of shape {images.shape} cannot be measured against shape {targets.shape}")
    images, targets = (values.reshape(-1, *values.shape[-2:]) for values in (images, targets))
    return fitted(images, targets, fit), targets, inscribed_disk(images.shape[-1])


def fitted(estimate: FloatArray, truth: FloatArray, fit: Fit) -> FloatArray:
    """`estimate` (n, L, L), each image scaled (and offset) to lie nearest to its truth inside the disk."""
    if fit == "none":
        return estimate
    disk = inscribed_disk(estimate.shape[-1])
    x, y = estimate[:, disk], truth[:, disk]
    offset_x, offset_y = (
        (values.mean(axis=1, keepdims=True) if fit == "scale_offset" else np.zeros((len(values), 1)))
        for values in (x, y)
    )
    power = ((x - offset_x) ** 2).sum(axis=1)
    cross = ((x - offset_x) * (y - offset_y)).sum(axis=1)
    scale = np.divide(cross, power, out=np.zeros_like(power), where=power > 0)[:, None, None]
    return np.asarray(scale * (estimate - offset_x[:, :, None]) + offset_y[:, :, None])


@dataclass(frozen=True)
class ImageScores:
    """Scores of images against their truths, one value an image, (n,) each; sets are joined by `joined`."""

    squared_error: FloatArray
    truth_power: FloatArray
    psnr_db: FloatArray
    ssim: FloatArray
    correlation: FloatArray

    @property
    def relative_mse(self) -> float:
        """Σ‖x̂ − x‖² / Σ‖x‖² over the set."""
        return float(self.squared_error.sum() / self.truth_power.sum())

    @classmethod
    def joined(cls, parts: Sequence[ImageScores]) -> ImageScores:
        """The scores of several sets, one after another."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def image_scores(estimate: ArrayLike, truth: ArrayLike, fit: Fit = "none") -> ImageScores:
    """All scores of (n, L, L) or (L, L) images at once; the correlation needs no fit and takes none."""
    images, targets, disk = _paired(estimate, truth, fit)
    return ImageScores(
        ((images - targets)[:, disk] ** 2).sum(axis=1),
        (targets[:, disk] ** 2).sum(axis=1),
        _psnr_db(images, targets, disk),
        _ssim(images, targets, disk),
        correlation(estimate, truth),
    )


def relative_mse(estimate: ArrayLike, truth: ArrayLike, fit: Fit = "none") -> float:
    """Σ‖x̂ − x‖² / Σ‖x‖² over the set, for (n, L, L) or (L, L) images.

    Raises ValueError when the shapes differ or the truth is nothing but zeros.
    """
    images, targets, disk = _paired(estimate, truth, fit)
    power = (targets[:, disk] ** 2).sum()
    if power == 0:
        raise ValueError("a relative error needs a truth that is not zero everywhere")
    return float(((images - targets)[:, disk] ** 2).sum() / power)


def psnr(estimate: ArrayLike, truth: ArrayLike, fit: Fit = "none") -> float:
    """Peak signal-to-noise ratio in dB, mean over the set; the peak is each truth's range of grey values."""
    return float(np.mean(_psnr_db(*_paired(estimate, truth, fit))))


def ssim(estimate: ArrayLike, truth: ArrayLike, fit: Fit = "none") -> float:
    """Structural similarity (Wang et al. 2004), mean over disk and set; Gaussian window of σ 1.5 px."""
    return float(np.mean(_ssim(*_paired(estimate, truth, fit))))


def _psnr_db(images: FloatArray, targets: FloatArray, disk: NDArray[np.bool_]) -> FloatArray:
    mse = ((images - targets)[:, disk] ** 2).mean(axis=1)
    peak = np.ptp(targets[:, disk], axis=1)
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(peak**2 / mse))


def _ssim(images: FloatArray, targets: FloatArray, disk: NDArray[np.bool_]) -> FloatArray:
    if images.shape[-1] < SSIM_WINDOW_PX:
        raise ValueError(f"SSIM needs images of at least {SSIM_WINDOW_PX} pixels")
    scores = [
        structural_similarity(  # type: ignore[no-untyped-call]
            target,
            image,
            data_range=float(np.ptp(target[disk])) or 1.0,
            gaussian_weights=True,
            sigma=SSIM_SIGMA_PX,
            use_sample_covariance=False,
            full=True,
        )[1][disk].mean()
        for image, target in zip(images, targets, strict=True)
    ]
    return np.asarray(scores)


def correlation(estimate: ArrayLike, truth: ArrayLike) -> FloatArray:
    """Pearson's correlation of each image with its truth inside the disk, (n,); 0 where one is constant."""
    images, targets, disk = _paired(estimate, truth, "none")
    x, y = (values[:, disk] - values[:, disk].mean(axis=1, keepdims=True) for values in (images, targets))
    norm = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.asarray(np.divide((x * y).sum(axis=1), norm, out=np.zeros_like(norm), where=norm > 0))
