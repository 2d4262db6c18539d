"""The expectation step shared by 2D classes, projection matching and refinement: over (reference, angle, shift).

Each image y_i, whitened to unit noise variance, is modelled as `H_i · T_φ X_j` shifted by −t. With Fourier rings and
area weights w (Parseval), its log-likelihood up to a constant of the image is

    s(i, j, φ, t) = Σ_r w_r [ Σ_θ (H_i y_i^t)(r, θ + φ) X_j(r, θ) − ½ T mean_θ H_i²(r) mean_θ X_j²(r) ]

The second term uses the angular means of H² and X²; both are exact for radial CTFs. The cross term and the averages
go through `geometry.angular`. The posterior is never stored: its averages accumulate chunk by chunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from clarice.core.parallel import ordered_map
from clarice.geometry import angular
from clarice.geometry.angular_scores import Factors
from clarice.geometry.polar import FourierRings, hartley
from clarice.geometry.posterior_peak import peaks

# Scores are passed over several times: on a CPU a chunk must stay in its last cache (twice as fast as from memory);
# an accelerator wants large ones.
CHUNK_MB_CPU, CHUNK_MB_ACCELERATOR = 12.0, 1024.0
# bfloat16 rounds a score above this by 4 or more (e⁴ in the posterior), and one of 20,000 so much that exponentials
# overflow: there the peak is looked for once more, among differences from it.
COARSE_SCORE = 1024.0
# Logarithm of the least weight beside the peak's. From −87 on, exponentials leave the normal numbers of float32 and
# take ten times as long; the rest is room for products with them. A million such weights are nothing beside the peak.
FAINTEST_LOG_WEIGHT = -60.0


@dataclass(frozen=True)
class RingStack:
    """n images as Fourier rings, ready for the expectation step.

    `filtered` (n, R, T // 2) complex64: transfer × whitened image. `power` (n, R): mean over θ of transfer².
    """

    rings: FourierRings
    filtered: Tensor
    power: Tensor

    @classmethod
    def of(cls, images: Tensor, transfer: Tensor | None, rings: FourierRings) -> RingStack:
        """From whitened images (n, L, L) and their effective transfer (n, R, T // 2) sampled on the rings."""
        samples = rings.sample(images)
        if transfer is None:
            return cls(rings, samples, torch.ones(samples.shape[:2], device=samples.device))
        return cls(rings, samples * transfer, transfer.square().mean(dim=-1))

    def __len__(self) -> int:
        return len(self.filtered)

    def subset(self, rows: Tensor) -> RingStack:
        """The rings of `rows`."""
        return RingStack(self.rings, self.filtered[rows], self.power[rows])

    def within(self, rings: FourierRings) -> RingStack:
        """The same images on coarser `rings`: fewer radii, every k-th angle (T must divide)."""
        step = self.rings.n_angles // rings.n_angles
        keep = rings.count
        return RingStack(rings, self.filtered[:, :keep, ::step].contiguous(), self.power[:, :keep].contiguous())


@dataclass(frozen=True)
class Expectation:
    """Result of one expectation step over n images and J references (2J with mirrors folded back to J).

    `numerator` (J, R, T) Hartley rings Σ p H y turned and shifted back; `denominator` (J, R) Σ p H²;
    `log_evidence` (n,); `reference`, `mirrored`: of the most probable pose; `angle_rad` (n,) and `shift_px` (n, 2):
    the peaks of the posterior at its reference, which lie between the trials; `confidence` (n,): the posterior
    mass of its reference; `reference_mass` (n, J). Where poses alone were asked for, `numerator` and `denominator` are
    zero.
    """

    numerator: Tensor
    denominator: Tensor
    log_evidence: Tensor
    reference: Tensor
    angle_rad: Tensor
    shift_px: Tensor
    mirrored: Tensor
    confidence: Tensor
    reference_mass: Tensor


@dataclass
class _References:
    """Reference spectra prepared once for a whole pass."""

    turning: Factors  # of M frequencies, 2R and J', angular frequency 0 removed
    constant: Tensor  # (J', R), the angular mean's part, kept in float32 because it is the largest
    power: Tensor  # (J', R)

    @classmethod
    def of(cls, signals: Tensor, weights: Tensor, mirror: bool, dtype: torch.dtype) -> _References:
        spectrum = angular.to_spectrum(signals * weights[:, None])
        if mirror:
            spectrum = angular.with_mirrors(spectrum)
        constant = spectrum[0, :, : signals.shape[1]].clone()
        spectrum[0] = 0
        power = signals.square().mean(dim=-1)
        turning = Factors.of(spectrum.to(dtype), signals.shape[-1])
        return cls(turning, constant, torch.cat([power, power]) if mirror else power)


def expectation(
    stack: RingStack,
    references: Tensor,
    shifts_px: Tensor,
    *,
    log_prior: Tensor | None = None,
    shift_log_prior: Tensor | None = None,
    mirror: bool = False,
    temperature: float = 1.0,
    averaging: bool = True,
    dtype: torch.dtype = torch.float32,
    memory_mb: float | None = None,
) -> Expectation:
    """One marginalised expectation step of `stack` against `references` (J, R, T) in Hartley form.

    `shifts_px` (S, 2) or (n, S, 2) are trial translations that centre the particle; `log_prior` (J',) and
    `shift_log_prior` (S,) or (n, S), finite, are added to the scores. `temperature` > 1 flattens the posterior. Without
    `averaging` nothing is averaged, which takes half the time.
    `memory_mb` bounds what a chunk of images holds; by default it is what suits the hardware.
    """
    weights = stack.rings.area_weights(references.device)
    prepared = _References.of(references, weights, mirror, dtype)
    total = _Accumulator.empty(stack, references, prepared.power.shape[0])
    shifts = shifts_px if shifts_px.dim() == 3 else shifts_px.expand(len(stack), -1, -1)
    fixed_phases = None if shifts_px.dim() == 3 else stack.rings.shift_phases(shifts_px)
    budget_mb = memory_mb or (CHUNK_MB_CPU if references.device.type == "cpu" else CHUNK_MB_ACCELERATOR)
    rows_at_once = angular.rows_within(budget_mb, prepared.power.shape[0], stack.rings.n_angles, torch.float32)
    step = max(1, rows_at_once // shifts.shape[1])
    half_norm = -0.5 * stack.rings.n_angles * (weights * prepared.power)  # (J', R)

    def step_of(start: int) -> _Part:
        rows = slice(start, min(start + step, len(stack)))
        signals = _shifted_signals(stack, rows, shifts[rows], fixed_phases)
        prior = stack.power[rows] @ half_norm.T  # (b, J')
        if log_prior is not None:
            prior = prior + log_prior
        prior = prior[:, None, :].expand(-1, shifts.shape[1], -1)
        if shift_log_prior is not None:
            rows_prior = shift_log_prior if shift_log_prior.dim() == 1 else shift_log_prior[rows]
            prior = prior + rows_prior[..., None]
        return _posterior(rows, signals, shifts[rows], prior, prepared, temperature, averaging, dtype)

    for part in ordered_map(step_of, range(0, len(stack), step)):
        total.add(part)
    return total.result(mirror)


def _shifted_signals(stack: RingStack, rows: slice, shifts: Tensor, fixed_phases: Tensor | None) -> Tensor:
    """Hartley rings (b · S, R, T) of the filtered images under each trial shift."""
    filtered = stack.filtered[rows]
    if fixed_phases is None:
        phases = stack.rings.shift_phases(shifts.reshape(-1, 2)).view(*shifts.shape[:2], *filtered.shape[1:])
    else:
        phases = fixed_phases[None]
    return hartley(filtered[:, None] * phases).flatten(0, 1)


@dataclass(frozen=True)
class _Part:
    """The posterior of some rows, summed up."""

    rows: slice
    log_evidence: Tensor
    reference: Tensor
    angle_steps: Tensor
    shift_px: Tensor
    mass: Tensor
    numerator: Tensor | None  # None where nothing is averaged


def _posterior(
    rows: slice,
    signals: Tensor,
    shifts: Tensor,
    prior: Tensor,
    references: _References,
    temperature: float,
    averaging: bool,
    dtype: torch.dtype,
) -> _Part:
    count, n_shifts, n_references = prior.shape
    n_angles = signals.shape[-1]
    spectrum = angular.to_spectrum(signals)
    base = spectrum[0, :, : signals.shape[1]] @ references.constant.T + prior.reshape(-1, n_references)
    scores = references.turning.scores((spectrum / temperature).to(dtype))
    base /= temperature
    turning = scores.highest()
    peak, flat = (turning + base).view(count, -1).max(dim=1)  # over (b, S · J')
    if dtype != torch.float32 and float(turning.max()) > COARSE_SCORE:
        nearer = scores.plus(base - peak.repeat_interleave(n_shifts)[:, None]).amax(dim=0).float()
        correction, flat = nearer.view(count, -1).max(dim=1)
        peak = peak + correction
    shift_index, reference = flat // n_references, flat % n_references
    weights = scores.plus(base - peak.repeat_interleave(n_shifts)[:, None])
    of_all_shifts = torch.arange(len(spectrum[0]), device=flat.device).view(count, n_shifts)
    at_best = weights[:, of_all_shifts, reference[:, None]].float()  # (T, b, S)
    angle_steps, shift_px = peaks(at_best, scores.angles, shift_index, shifts)
    weights = weights.clamp_min_(FAINTEST_LOG_WEIGHT).exp_()
    averaged = scores.mass(weights) if averaging else None
    total = weights.sum(dim=0, dtype=torch.float32) if averaged is None else averaged.total
    by_reference = total.view(count, n_shifts, n_references).sum(dim=1)
    normaliser = by_reference.sum(dim=1)
    mass = by_reference / normaliser[:, None]
    numerator = None
    if averaged is not None:
        scaled = spectrum * normaliser.reciprocal().repeat_interleave(n_shifts)[:, None]
        numerator = averaged.onto(scaled.to(dtype)).float()
    return _Part(
        rows,
        temperature * (peak + normaliser.log() - math.log(n_angles * n_shifts)),
        reference,
        angle_steps,
        shift_px,
        mass,
        numerator,
    )


@dataclass
class _Accumulator:
    stack: RingStack
    numerator: Tensor  # packed spectrum (M, J', 2R)
    denominator: Tensor
    log_evidence: Tensor
    reference: Tensor
    angle_steps: Tensor
    shift_px: Tensor
    confidence: Tensor
    mass: Tensor

    @classmethod
    def empty(cls, stack: RingStack, references: Tensor, n_references: int) -> _Accumulator:
        count, n_rings, n_angles = len(stack), stack.rings.count, stack.rings.n_angles
        new = references.new_zeros
        return cls(
            stack,
            new((n_angles // 2 + 1, n_references, 2 * n_rings)),
            new((n_references, n_rings)),
            new(count),
            torch.zeros(count, dtype=torch.long, device=references.device),
            new(count),
            new((count, 2)),
            new(count),
            new((count, n_references)),
        )

    def add(self, part: _Part) -> None:
        rows = part.rows
        self.log_evidence[rows] = part.log_evidence
        self.reference[rows] = part.reference
        self.angle_steps[rows] = part.angle_steps
        self.shift_px[rows] = part.shift_px
        self.confidence[rows] = part.mass.gather(1, part.reference[:, None])[:, 0]
        self.mass[rows] = part.mass
        if part.numerator is not None:
            self.numerator += part.numerator
            self.denominator += part.mass.T @ self.stack.power[rows]

    def result(self, mirror: bool) -> Expectation:
        numerator, denominator, mass, reference = self.numerator, self.denominator, self.mass, self.reference
        mirrored = torch.zeros_like(reference, dtype=torch.bool)
        if mirror:
            count = denominator.shape[0] // 2
            plain, flipped = numerator.chunk(2, dim=1)
            numerator = plain + angular.mirror_spectrum(flipped)
            denominator = denominator[:count] + denominator[count:]
            mass = mass[:, :count] + mass[:, count:]
            mirrored, reference = reference >= count, reference % count
        n_angles = self.stack.rings.n_angles
        return Expectation(
            angular.from_spectrum(numerator, n_angles),
            denominator,
            self.log_evidence,
            reference,
            self.angle_steps * (2 * math.pi / n_angles),
            self.shift_px,
            mirrored,
            self.confidence,
            mass,
        )


def shift_grid(radius_px: float, step_px: float) -> Tensor:
    """Trial shifts (S, 2) on a square grid of half-width `radius_px`, float32; the zero shift is always there."""
    count = math.floor(radius_px / step_px + 1e-6)
    axis = torch.arange(-count, count + 1, dtype=torch.float32) * step_px
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=-1)
