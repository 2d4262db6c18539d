"""Images known up to a Gaussian error: their mean, and the expected squared error on every Fourier shell.

In units of that error, one coefficient is as uncertain as any other. Diffusion works on the residual in those units:
where nothing but the mean and the error is known of an image, its residual is white noise of variance 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from clarice.physics.noise import radial_to_rfft_grid

# Squared errors below this, of noise whose variance is 1, count as this.
LEAST_SQUARED_ERROR = 1e-6


@dataclass(frozen=True)
class GaussianEstimate:
    """`mean` (n, L, L) and `squared_error` (n, L // 2 + 1), of a coefficient of the orthonormal transform, by shell.

    The last shell's stands for everything from Nyquist on.
    """

    mean: Tensor
    squared_error: Tensor

    @property
    def deviation(self) -> Tensor:
        """Standard deviation of a coefficient by shell, (n, L // 2 + 1)."""
        return self.squared_error.float().clamp_min(LEAST_SQUARED_ERROR).sqrt()

    @cached_property
    def _gain(self) -> Tensor:
        """The deviation on the grid of rfft2, linear in its logarithm between shells, so that 1 / gain undoes it."""
        return radial_to_rfft_grid(self.deviation.log(), self.mean.shape[-1]).exp()

    def residual(self, images: Tensor) -> Tensor:
        """Images (n, L, L) less the mean, in units of the error."""
        return _filtered(images - self.mean, 1 / self._gain)

    def coloured(self, residual: Tensor) -> Tensor:
        """Residuals (n, L, L) as errors of images."""
        return _filtered(residual, self._gain)

    def images(self, residual: Tensor) -> Tensor:
        """The images (n, L, L) that a residual belongs to: the inverse of `residual`."""
        return self.mean + self.coloured(residual)

    def repeated(self, times: int) -> GaussianEstimate:
        """Each image `times` times in a row."""
        mean, squared = (t.repeat_interleave(times, dim=0) for t in (self.mean, self.squared_error))
        return GaussianEstimate(mean, squared)

    def to(self, device: torch.device) -> GaussianEstimate:
        """The same on another device."""
        return GaussianEstimate(self.mean.to(device), self.squared_error.to(device))


def _filtered(images: Tensor, gain: Tensor) -> Tensor:
    filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(images.float()) * gain, s=images.shape[-2:])
    return filtered
