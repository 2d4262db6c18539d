"""The polar transformer: images of a set denoise one another, each turned and weighed as it fits.

After Andén & Sagemüller (arXiv 2506.11283): polar resampling, a polar CNN before and after, and between them blocks of
angular attention. Equivariant to the order of the images and to the rotation of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args, get_type_hints

import torch
from torch import Tensor, nn

from clarice.denoise.angular_attention import AngularAttention, MeasuredRings
from clarice.denoise.angular_weights import AngularWeights
from clarice.denoise.estimate import Estimate
from clarice.denoise.foretold_error import ForetoldError, told
from clarice.denoise.polar_layers import AngularConv, Convolution, ImageNorm, PlanarConv, ResidualConv
from clarice.geometry.polar import Basis
from clarice.geometry.polar_frame import PolarFrame


@dataclass(frozen=True)
class PolarTransformerSize:
    """How large the network is. `attention_blocks` 0 leaves the polar CNN, which sees each image alone.

    The last five fields take away what makes it what it is, to measure what each is worth: `attention` over relative
    angles or, "plain", at angle 0 alone; its scores with the `likelihood` or learned alone; `convolution` along the
    angle or, "planar", over the plane of angle and ring; `inputs` are rings of both spaces or of one, where the
    likelihood is a sum over Fourier rings; real rings by the radial `basis` or bilinear. A planar network has as many
    `channels` as rings times planes.
    """

    box: int = 64
    n_angles: int = 64
    real_rings: int = 28
    fourier_rings: int = 20
    channels: int = 128
    heads: int = 4
    kernel: int = 5
    blocks_before: int = 2
    attention_blocks: int = 5
    blocks_after: int = 1
    attention: Literal["angular", "plain"] = "angular"
    likelihood: bool = True
    convolution: Literal["angular", "planar"] = "angular"
    inputs: Literal["both", "real", "fourier"] = "both"
    basis: Basis = "radial"

    def __post_init__(self) -> None:
        kinds = get_type_hints(type(self))
        for name in ("attention", "convolution", "inputs", "basis"):
            if getattr(self, name) not in (known := get_args(kinds[name])):
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(known)}")
        if self.inputs == "real" and self.likelihood and self.attention_blocks:
            raise ValueError("the likelihood needs Fourier rings: set likelihood to false where inputs are real")

    @property
    def frame(self) -> PolarFrame:
        return PolarFrame(self.box, self.n_angles, self.real_rings, self.fourier_rings, basis=self.basis)

    @property
    def convolve(self) -> Convolution:
        """What makes the convolutions between features."""
        return (
            AngularConv if self.convolution == "angular" else partial(PlanarConv, (self.real_rings, self.fourier_rings))
        )

    def residual(self) -> ResidualConv:
        """One unit of the polar CNN."""
        return ResidualConv(self.channels, self.kernel, self.convolve)

    def seen_rings(self) -> Tensor:
        """1 for the rings that the network is shown, 0 for the others, (R,)."""
        seen = torch.ones(self.frame.count)
        if self.inputs == "real":
            seen[self.real_rings :] = 0
        elif self.inputs == "fourier":
            seen[: self.real_rings] = 0
        return seen


@dataclass(frozen=True)
class DenoisedRings:
    """`rings` (B, N, T, R) of the estimate, what its error is foretold by, `told` (B, N, F), and of every block the
    attention and the sketch it went by: Fourier rings (B, N, T, K) of the estimate so far."""

    rings: Tensor
    told: Tensor
    attended: list[AngularWeights]
    sketches: list[Tensor]


class JointBlock(nn.Module):
    """Sketches each image from its features, lets the images attend to one another by it, and digests the result."""

    def __init__(self, size: PolarTransformerSize, ring_area: Tensor) -> None:
        super().__init__()
        self.norm = ImageNorm(size.channels)
        self.sketch = AngularConv(size.channels, size.fourier_rings, size.kernel)
        self.sketch.start_at_zero()
        self.sketch_gain = nn.Parameter(_typical_signal(size)[size.real_rings :])
        self.attend = AngularAttention(
            size.channels,
            size.frame.count,
            size.heads,
            ring_area,
            plain=size.attention == "plain",
            likelihood=size.likelihood,
        )
        self.digest = size.residual()

    def forward(
        self, features: Tensor, measured: MeasuredRings, allowed: Tensor | None
    ) -> tuple[Tensor, Tensor, AngularWeights]:
        sketch = self.sketched(features)
        features, weights = self.attend(features, sketch, measured, allowed)
        return self.digest(features), sketch, weights

    def sketched(self, features: Tensor) -> Tensor:
        """Fourier rings (B, N, T, K) of each image's estimate so far."""
        sketch: Tensor = self.sketch(self.norm(features)).float() * self.sketch_gain
        return sketch


class PolarTransformer(nn.Module):
    """Maps sets of whitened images (B, N, L, L) to CTF-free estimates; see `PolarTransformerSize`.

    With a transfer W H, the input is the matched filter W H y, and the mean of (W H)² on each Fourier ring stands
    beside it, so that images of different defocus can be weighed against each other.
    """

    def __init__(self, size: PolarTransformerSize) -> None:
        super().__init__()
        self.size = size
        self.frame = size.frame
        self.analysis: Tensor
        self.synthesis: Tensor
        self.register_buffer("analysis", self.frame.analysis(), persistent=False)
        self.ring_area: Tensor
        self.register_buffer("ring_area", self.frame.fourier_area(), persistent=False)
        self.register_buffer("synthesis", self.frame.synthesis(), persistent=False)
        self.seen: Tensor
        self.register_buffer("seen", size.seen_rings(), persistent=False)
        self.enter = size.convolve(self.frame.count, size.channels, size.kernel)
        self.enter_profile = nn.Linear(size.fourier_rings, size.channels)
        self.before = nn.Sequential(*(size.residual() for _ in range(size.blocks_before)))
        self.attention = nn.ModuleList(JointBlock(size, self.ring_area) for _ in range(size.attention_blocks))
        self.after = nn.Sequential(*(size.residual() for _ in range(size.blocks_after)))
        self.norm = ImageNorm(size.channels)
        self.leave = size.convolve(size.channels, self.frame.count, size.kernel)
        self.output_gain = nn.Parameter(_typical_signal(size))
        self.foretell = ForetoldError(size.channels, size.attention_blocks, size.heads, size.box // 2 + 1)
        self.leave.start_at_zero()

    def forward(self, noisy: Tensor, transfer: Tensor | None = None, allowed: Tensor | None = None) -> Estimate:
        """`noisy` (B, N, L, L), `transfer` (B, N, L, L // 2 + 1) or None, `allowed` (B, N, N) or None."""
        return self.with_weights(noisy, transfer, allowed)[0]

    def with_weights(
        self, noisy: Tensor, transfer: Tensor | None = None, allowed: Tensor | None = None
    ) -> tuple[Estimate, list[AngularWeights]]:
        """The estimate, and the attention of every block."""
        found = self.denoise_rings(self.measure(noisy, transfer), allowed)
        return self.estimate_of(found), found.attended

    def estimate_of(self, found: DenoisedRings) -> Estimate:
        """Images, and their expected error; what foretells it leaves the features to the images."""
        return Estimate(self.images_of(found.rings), self.foretell(found.told.detach()))

    def early_sketch(self, measured: MeasuredRings, blocks: int, allowed: Tensor | None = None) -> Tensor:
        """Fourier rings (B, N, T, K) of the estimate after so many blocks, all but the last at most."""
        features = self._entered(measured)
        last = min(blocks, len(self.attention) - 1)
        for block in self.attention[:last]:
            features, _, _ = block(features, measured, allowed)
        block = self.attention[last]
        assert isinstance(block, JointBlock)
        return block.sketched(features)

    def _entered(self, measured: MeasuredRings) -> Tensor:
        features = self.enter(measured.rings) + self.enter_profile(measured.profile)[:, :, None]
        entered: Tensor = self.before(features.float())
        return entered

    def denoise_rings(self, measured: MeasuredRings, allowed: Tensor | None = None) -> DenoisedRings:
        """All that is found out about sets of images from their rings."""
        features = self._entered(measured)
        attended, sketches = [], []
        for block in self.attention:
            features, sketch, weights = block(features, measured, allowed)
            attended.append(weights)
            sketches.append(sketch)
        features = self.norm(self.after(features))
        rings = self.leave(features).float() * self.output_gain
        return DenoisedRings(rings, told(features, attended), attended, sketches)

    def images_of(self, rings: Tensor) -> Tensor:
        """Images (B, N, L, L) of rings (B, N, T, R), in float32."""
        box = self.size.box
        with torch.autocast(rings.device.type, enabled=False):
            return (rings.flatten(2) @ self.synthesis).view(*rings.shape[:2], box, box)

    def measure(self, noisy: Tensor, transfer: Tensor | None) -> MeasuredRings:
        """The (matched-filtered) images (B, N, L, L) on all rings, and the profile of (W H)² less 1."""
        sets, count, box = noisy.shape[:3]
        profile = noisy.new_zeros((sets, count, self.size.fourier_rings))
        if transfer is not None:
            spectra = torch.fft.rfft2(torch.fft.ifftshift(noisy, dim=(-2, -1))) * transfer
            noisy = torch.fft.fftshift(torch.fft.irfft2(spectra, s=(box, box)), dim=(-2, -1))
            squared = self.frame.fourier_transfer(transfer.flatten(0, 1).square())
            profile = squared.mean(dim=1).view(profile.shape) - 1
        with torch.autocast(noisy.device.type, enabled=False):
            rings = noisy.flatten(2).float() @ self.analysis
        return MeasuredRings.of(rings.view(sets, count, self.size.n_angles, -1) * self.seen, profile)


def _typical_signal(size: PolarTransformerSize) -> Tensor:
    """Root mean square of a particle on each ring at SNR 0.02, about: what the network's output of 1 stands for."""
    radius = (torch.arange(size.real_rings) + 0.5) / size.box
    real = 0.95 / (1 + (radius / 0.22) ** 4)
    cycles = torch.arange(1, size.fourier_rings + 1)
    return torch.cat([real, 3.0 / cycles**1.3])
