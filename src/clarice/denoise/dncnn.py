"""DnCNN (Zhang et al. 2017): a plain chain of convolutions with batch normalisation that predicts the noise."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from clarice.denoise.estimate import Estimate
from clarice.denoise.filtered_input import filtered_channels


@dataclass(frozen=True)
class DnCNNSize:
    """The paper's 17 layers of 64 channels unless told otherwise."""

    layers: int = 17
    channels: int = 64


class DnCNN(nn.Module):
    """Denoises each image of the sets (B, N, L, L) by itself: x̂ = y − noise, y the matched-filtered image."""

    def __init__(self, size: DnCNNSize) -> None:
        super().__init__()
        self.size = size
        chain: list[nn.Module] = [nn.Conv2d(2, size.channels, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(size.layers - 2):
            chain += [
                nn.Conv2d(size.channels, size.channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(size.channels),
                nn.ReLU(inplace=True),
            ]
        self.chain = nn.Sequential(*chain, nn.Conv2d(size.channels, 1, 3, padding=1))

    def forward(self, noisy: Tensor, transfer: Tensor | None = None) -> Estimate:
        """`noisy` (B, N, L, L), `transfer` (B, N, L, L // 2 + 1) or None."""
        flat = noisy.flatten(0, 1)
        seen = filtered_channels(flat, None if transfer is None else transfer.flatten(0, 1))
        noise = self.chain(seen).float()
        return Estimate((seen[:, 0] - noise[:, 0]).view(noisy.shape))
