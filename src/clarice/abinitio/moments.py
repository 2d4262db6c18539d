"""First, second and third moments of particles on Fourier rings, from one streamed pass.

An image's ring of radius k has the Fourier series

    a_m(k) = ⟨F(k, θ) e^{−imθ}⟩_θ = Σ_x y(x) (−i)^m J_m(2π k |x| / L) e^{−imφ_x}.

Turning the image by α multiplies it by e^{−imα}, so under random in-plane angles only these means survive:

    M1(k) = E a_0(k),   M2_m(k, k') = E a_m(k) ā_m(k'),   M3_mn(k, k', k'') = E a_m(k) a_n(k') ā_{m+n}(k'').

Particles are y = H x + e, with H radial and e white of variance 1 a pixel. Each image is multiplied by its H, and the
sums of products are divided by those of H² (k), H²(k) H²(k') and so on: the least-squares estimate of the moments of x.
What the noise adds to the second and third is known and is subtracted (e has covariance G_m(k, k') = Σ_x B_m(k, x)
B̄_m(k', x), B the analysis above). Sums of parts of a stack add up to those of the whole.

An estimate M = Σ p / Σ w, of products p that are w M but for chance, errs by √(Σ |p − w M|²) / Σ w: that images differ
in their H is no error.

An astigmatic CTF would mix angular orders; its mean over the ring is taken instead, which errs in second order of the
astigmatism's phase.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from scipy.special import jv
from torch import Tensor

from clarice.abinitio.line_shifts import moved
from clarice.core.progress import Progress, silent
from clarice.geometry.polar import FourierRings
from clarice.physics.noisy_set import NoisySet

# Angles at which a transfer function is averaged over a ring.
_CTF_ANGLES = 16


@dataclass(frozen=True)
class MomentRings:
    """What moments are taken of: rings of `radii` (cycles per box) of images with edge `box`, orders 0 … `orders`.

    Third moments are of the first `third_rings` rings and of orders m ≥ n ≥ 0 with m + n ≤ `third_orders`; none are
    taken if `third_rings` is 0.
    """

    box: int
    radii: tuple[float, ...]
    orders: int
    third_rings: int = 0
    third_orders: int = 0

    def __post_init__(self) -> None:
        if self.third_rings > len(self.radii) or self.third_orders > self.orders:
            raise ValueError("third moments are of rings and orders that second ones are taken of, too")

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Orders (m, n) of the third moments; the others follow, since images are real."""
        highest = self.third_orders
        return [(m, n) for m in range(highest + 1) for n in range(min(m, highest - m) + 1)]

    def analysis(self) -> Tensor:
        """B (L², (orders + 1) · K) complex64: pixels times this are a_m(k)."""
        return _analysis(self.box, self.radii, self.orders)

    def series(self, images: Tensor) -> Tensor:
        """a_m(k) of images (n, L, L): (n, orders + 1, K) complex64. Differentiable."""
        analysis = self.analysis()
        flat = images.flatten(1)
        values = torch.complex(flat @ analysis.real, flat @ analysis.imag)
        return values.view(len(images), self.orders + 1, len(self.radii))

    def noise(self) -> Tensor:
        """G_m(k, k'), the covariance of the series of white noise of variance 1: (orders + 1, K, K), real."""
        analysis = self.analysis().view(-1, self.orders + 1, len(self.radii)).transpose(0, 1).to(torch.complex128)
        return (analysis.transpose(1, 2) @ analysis.conj()).real


@lru_cache(maxsize=2)
def _analysis(box: int, radii: tuple[float, ...], orders: int) -> Tensor:
    axis = np.arange(box) - box // 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    distance, angle = np.hypot(x, y).ravel(), np.arctan2(y, x).ravel()
    m = np.arange(orders + 1)[:, None]
    waves = 2 * np.pi * np.asarray(radii) / box * distance[:, None, None]
    values = jv(m, waves) * ((-1j) ** m) * np.exp(-1j * m * angle[:, None, None])
    return torch.from_numpy(values.reshape(box**2, -1).astype(np.complex64))


@dataclass(frozen=True)
class Moments:
    """Sums over particles, each of its series times its H; the module says what they estimate.

    `first` (K,) of a_0; `second` (orders + 1, K, K) of a_m ā_m; `third` (pairs, K3, K3, K3) of p = a_m a_n ā_{m+n}, and
    `third_power` of |p|². `noise` (K, K) is that of H H, by which G enters the second moment, and `mean_noise` (K3, K3,
    K3) that of H(k) H(k') H(k'') a_0(k''). Of z = a_m ā_m − H H G there are `second_power` of |z|² and `second_square`
    of z². The weights are sums of w = H², of H² H² and of H² H² H²; `..._weight_square` those of w², and
    `first_weighted` of w a_0, `second_weighted` of w z, `third_weighted` of w p. Double precision.
    """

    rings: MomentRings
    count: int
    first: Tensor
    first_weighted: Tensor
    second: Tensor
    second_power: Tensor
    second_square: Tensor
    second_weighted: Tensor
    third: Tensor
    third_power: Tensor
    third_weighted: Tensor
    first_weight: Tensor
    second_weight: Tensor
    second_weight_square: Tensor
    third_weight: Tensor
    third_weight_square: Tensor
    noise: Tensor
    mean_noise: Tensor

    @classmethod
    def of(cls, images: Tensor, transfer: Tensor, rings: MomentRings, noise_variance: float = 1.0) -> Moments:
        """Of images (n, L, L) whose signal was filtered by the radial `transfer` (n, K). Differentiable in `images`.

        Their white noise has `noise_variance` a pixel: 0 for denoised images, whose moments stay biased.
        """
        transfer = transfer.double()
        series = rings.series(images).to(torch.complex128) * transfer[:, None]
        by_order, weight = series.transpose(0, 1), transfer.square()
        power, covariance = by_order.abs().square(), noise_variance * rings.noise()
        second_weight, of_noise = weight.T @ weight, _products(by_order * transfer)
        noise_square = covariance.square() * second_weight
        low, low_power = by_order[..., : rings.third_rings], power[..., : rings.third_rings]
        low_transfer, low_weight = transfer[:, : rings.third_rings], weight[:, : rings.third_rings]
        return cls(
            rings=rings,
            count=len(images),
            first=by_order[0].real.sum(dim=0),
            first_weighted=(by_order[0].real * weight).sum(dim=0),
            second=_products(by_order),
            second_power=power.transpose(1, 2) @ power - 2 * covariance * of_noise.real + noise_square,
            second_square=_products(by_order.square()) - 2 * covariance * of_noise + noise_square,
            second_weighted=_products(by_order * weight) - covariance * ((transfer**3).T @ transfer**3),
            third=_triples(low, rings),
            third_power=torch.stack([_triple(low_power[m], low_power[n], low_power[m + n]) for m, n in rings.pairs]),
            third_weighted=_triples(low * low_weight, rings),
            first_weight=weight.sum(dim=0),
            second_weight=second_weight,
            second_weight_square=weight.square().T @ weight.square(),
            third_weight=_triple(low_weight, low_weight, low_weight),
            third_weight_square=_triple(low_weight.square(), low_weight.square(), low_weight.square()),
            noise=noise_variance * transfer.T @ transfer,
            mean_noise=noise_variance * _triple(low_transfer, low_transfer, low[0].real),
        )

    def __add__(self, other: Moments) -> Moments:
        """Those of both sets of particles. Raises ValueError if they are of different rings."""
        if self.rings != other.rings:
            raise ValueError(f"moments on {self.rings} and on {other.rings} do not add up")
        sums = {name: getattr(self, name) + getattr(other, name) for name in _SUMS}
        return Moments(self.rings, **sums)

    def first_moment(self) -> Tensor:
        """M1 (K,), real."""
        return self.first / self.first_weight

    def first_error(self) -> Tensor:
        """Standard deviation of M1's elements, (K,)."""
        mean, products, squares = self.first_moment(), self.second[0].real.diagonal(), self.second_weight.diagonal()
        return _spread(products, self.first_weighted, squares, mean) / self.first_weight

    def second_moment(self) -> Tensor:
        """M2 (orders + 1, K, K), Hermitian in k and k'."""
        return (self.second - self.noise * self.rings.noise()) / self.second_weight

    def second_error(self) -> Tensor:
        """Standard deviations of the real and of the imaginary parts of M2, as such: (orders + 1, K, K) complex.

        From the spread of the products over particles: Σ Re² z = (Σ |z|² + Re Σ z²) / 2.
        """
        mean, weighted, squares = self.second_moment(), self.second_weighted, self.second_weight_square
        of_real, of_imaginary = ((self.second_power + sign * self.second_square.real) / 2 for sign in (1, -1))
        real = _spread(of_real, weighted.real, squares, mean.real)
        imaginary = _spread(of_imaginary, weighted.imag, squares, mean.imag)
        return torch.complex(real, imaginary) / self.second_weight

    def third_moment(self) -> Tensor:
        """M3 (pairs, K3, K3, K3), in the order of `rings.pairs`."""
        covariance = self.rings.noise()[:, : self.rings.third_rings, : self.rings.third_rings]
        signal = self.third.clone()
        for index, (m, n) in enumerate(self.rings.pairs):
            if n == 0:  # noise of the first and the third factor, times the mean of the second
                signal[index] -= torch.einsum("ac,acb->abc", covariance[m], self.mean_noise)
            if m == 0:  # all three orders are 0: any two of them share their noise
                signal[index] -= torch.einsum("ab,abc->abc", covariance[0], self.mean_noise)
                signal[index] -= torch.einsum("bc,bca->abc", covariance[0], self.mean_noise)
        return signal / self.third_weight

    def third_error(self) -> Tensor:
        """Root mean square of the error of M3's elements, real and imaginary parts together: (pairs, K3, K3, K3).

        What noise adds to them on average is taken for a part of M3 here: beside its spread it is small.
        """
        mean = self.third / self.third_weight
        return _spread(self.third_power, self.third_weighted, self.third_weight_square, mean) / self.third_weight


_SUMS = [field.name for field in fields(Moments) if field.name != "rings"]


def _spread(power: Tensor, weighted: Tensor, squares: Tensor, mean: Tensor) -> Tensor:
    """√ Σ |p − w M|², from Σ |p|², Σ w p and Σ w²."""
    return (power - 2 * (mean.conj() * weighted).real + mean.abs().square() * squares).clamp_min(0).sqrt()


def _products(by_order: Tensor) -> Tensor:
    """Σ_i a_i(k) ā_i(k') of each order, a (orders + 1, n, K): (orders + 1, K, K)."""
    return by_order.transpose(1, 2) @ by_order.conj()


def _triples(by_order: Tensor, rings: MomentRings) -> Tensor:
    """Σ_i a_m,i(k) a_n,i(k') ā_m+n,i(k'') of each pair, a (orders + 1, n, K3): (pairs, K3, K3, K3)."""
    return torch.stack([_triple(by_order[m], by_order[n], by_order[m + n].conj()) for m, n in rings.pairs])


def _triple(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Σ_i a_i(k) b_i(k') c_i(k'') of (n, K) each: (K, K, K)."""
    pairs = (a[:, :, None] * b[:, None, :]).flatten(1)
    return (pairs.T @ c).view(a.shape[1], b.shape[1], c.shape[1])


def moments_of_particles(
    particles: NoisySet, rings: MomentRings, progress: Progress = silent, centres_px: Tensor | None = None
) -> Moments:
    """Moments of the particles' signal, read chunk by chunk: memory does not grow with their number.

    Particles are to be centred: what lies at `centres_px` (n, 2), (x, y) pixels, is moved to the centre, and nothing is
    moved if they are absent. Raises ValueError for no particles.
    """
    if len(particles) == 0:
        raise ValueError("there are no particles to take moments of")
    total: Moments | None = None
    around = FourierRings(rings.box, rings.radii, _CTF_ANGLES)
    for start in range(0, len(particles), particles.rows_per_chunk):
        rows = np.arange(start, min(start + particles.rows_per_chunk, len(particles)))
        transfer = particles.transfer_on(around, rows).mean(dim=-1)
        images = particles.images(rows)
        if centres_px is not None:
            images = moved(images, -centres_px[rows])
        part = Moments.of(images, transfer, rings)
        total = part if total is None else total + part
        progress("taking moments", int(rows[-1]) + 1, len(particles))
    assert total is not None
    return total
