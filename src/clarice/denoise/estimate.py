"""What a denoising network returns for sets of images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """`images` (B, N, L, L), CTF-free, in units of the noise's standard deviation.

    `log_error` (B, N, L // 2 + 1): natural logarithm of the expected squared error, per Fourier shell, of the
    images' orthonormal transform; None from networks that do not foretell theirs.
    """

    images: Tensor
    log_error: Tensor | None = None
