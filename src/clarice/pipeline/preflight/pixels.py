"""What the images alone tell: damaged and repeated ones, the background, protein bright or dark."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clarice.core.particles import ParticleSet, RowIndex, spread_rows
from clarice.core.progress import Progress
from clarice.pipeline.preflight.verdict import ImageFindings

# Disks tried for the contrast, as shares of the box: a particle fills between a fifth and nine tenths of it.
DISK_SHARES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45)
# Fewer pixels than this in the whole stack, and every image is scanned; beyond, only the sample is.
_SCAN_ALL_PIXELS = 60_000_000
_SAMPLE_PIXELS = 40_000_000
_CHUNK_PIXELS = 4_000_000
_LISTED_ROWS = 20
# No detector, filter or scaling makes pixels beyond this; their squares would overflow.
_LARGEST_VALUE = 1e12


def sample_rows(particles: ParticleSet, most: int = 2000) -> RowIndex:
    """Rows spread evenly over the stack for statistics: at most `most`, fewer for large boxes."""
    return spread_rows(np.arange(len(particles)), min(most, max(128, _SAMPLE_PIXELS // particles.box**2)))


def chunk_rows(box: int) -> int:
    """Images to hold at once."""
    return max(1, _CHUNK_PIXELS // box**2)


@dataclass
class PixelScan:
    """Gathers, image by image, what `ImageFindings` and the contrast need."""

    box: int
    disk_means: list[NDArray[np.float64]] = field(default_factory=list)
    background: list[NDArray[np.float64]] = field(default_factory=list)
    not_finite: list[int] = field(default_factory=list)
    constant: list[int] = field(default_factory=list)
    duplicates: list[tuple[int, int]] = field(default_factory=list)
    scanned: int = 0
    _first_row: dict[bytes, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        offsets = np.arange(self.box) - self.box // 2
        radius = np.hypot(offsets[:, None], offsets[None, :]).ravel()
        self._disks = np.stack([radius < share * self.box for share in DISK_SHARES]).astype(np.float32)
        self._outside = radius >= self.box / 2

    def add(self, rows: RowIndex, images: NDArray[np.float32], sampled: NDArray[np.bool_]) -> None:
        """Looks at `images` (n, L, L) of `rows`; only those `sampled` enter the statistics."""
        flat = images.reshape(len(images), -1)
        # NaN compares false, so it is caught here too.
        finite = (np.abs(flat) <= _LARGEST_VALUE).all(axis=1)
        spread = np.zeros(len(flat))
        spread[finite] = flat[finite].max(axis=1) - flat[finite].min(axis=1)
        self.not_finite += (rows[~finite] + 1).tolist()
        self.constant += (rows[finite & (spread == 0)] + 1).tolist()
        good = finite & (spread > 0)
        for row, image in zip(rows[good].tolist(), images[good], strict=True):
            digest = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()
            first = self._first_row.setdefault(digest, row + 1)
            if first != row + 1:
                self.duplicates.append((first, row + 1))
        self.scanned += len(images)
        self._measure(flat[good & sampled].astype(np.float32))

    def _measure(self, flat: NDArray[np.float32]) -> None:
        if len(flat) == 0:
            return
        outside = flat[:, self._outside].astype(np.float64)
        columns = [outside.mean(axis=1), outside.std(axis=1), flat.std(axis=1, dtype=np.float64)]
        self.background.append(np.stack(columns, axis=1))
        counts = self._disks.sum(axis=1)
        totals = flat.sum(axis=1, dtype=np.float64)[:, None]
        sums = (flat @ self._disks.T).astype(np.float64)
        self.disk_means.append(sums / counts - (totals - sums) / (flat.shape[1] - counts))

    def findings(self) -> ImageFindings:
        """The scan's result so far."""
        background = np.concatenate(self.background) if self.background else np.full((1, 3), np.nan)
        mean, sigma, _ = np.median(background, axis=0)
        spread = float(np.std(background[:, 1]) / sigma) if sigma > 0 else float("nan")
        return ImageFindings(
            scanned=self.scanned,
            sampled=sum(map(len, self.background)),
            not_finite=len(self.not_finite),
            not_finite_rows=tuple(self.not_finite[:_LISTED_ROWS]),
            constant=len(self.constant),
            constant_rows=tuple(self.constant[:_LISTED_ROWS]),
            duplicates=len(self.duplicates),
            duplicate_rows=tuple(self.duplicates[:_LISTED_ROWS]),
            background_mean=float(mean),
            background_sigma=float(sigma),
            sigma_spread=spread,
            normalised=bool(abs(mean) < 0.25 and 0.7 < sigma < 1.4 and spread < 0.3),
        )

    def disk_contrasts(self) -> NDArray[np.float64]:
        """Mean inside less mean outside, one row an image and one column a disk of `DISK_SHARES`."""
        return np.concatenate([np.zeros((0, len(DISK_SHARES))), *self.disk_means])

    def background_share(self) -> float:
        """Variance outside the inscribed circle over that of whole images: near 0 without noise."""
        if not self.background:
            return 0.0
        _, outside, whole = np.median(np.concatenate(self.background), axis=0)
        return float((outside / whole) ** 2) if whole > 0 else 0.0


def means_over_errors(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each column of (n, k) over its standard error: Student's t with n − 1 degrees; 0 for n < 2."""
    if len(values) < 2:
        return np.zeros(values.shape[1])
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return np.asarray(
        np.divide(values.mean(axis=0), error, out=np.zeros(values.shape[1]), where=error > 0),
        dtype=np.float64,
    )


def z_scores(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the mean of each column of (n, k) lies from 0: Student's t as a normal deviate.

    Wallace (1959) converts t without underflow: z = (8ν + 1) / (8ν + 3) · √(ν ln(1 + t² / ν)).
    """
    freedom = max(len(values) - 1, 1)
    ratio = means_over_errors(values)
    deviate = (8 * freedom + 1) / (8 * freedom + 3) * np.sqrt(freedom * np.log1p(ratio**2 / freedom))
    return np.asarray(np.sign(ratio) * deviate)


def scan_pixels(particles: ParticleSet, sampled: RowIndex, progress: Progress) -> PixelScan:
    """Reads every image of a small stack, or the sampled ones of a large one."""
    scan = PixelScan(particles.box)
    everything = len(particles) * particles.box**2 <= _SCAN_ALL_PIXELS
    rows = np.arange(len(particles)) if everything else sampled
    chosen = np.isin(rows, sampled, assume_unique=True)
    step = chunk_rows(particles.box)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        scan.add(rows[part], particles.read(rows[part]), chosen[part])
        progress("looking at images", min(start + step, len(rows)), len(rows))
    return scan
