"""2D classification: expectation-maximisation over class, in-plane angle and shift, CTF in the likelihood.

Resolution and shift grid are annealed: few rings and a coarse grid over all shifts first, then more rings and
a fine grid about each particle's best shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clarice.classify.initial import expected_score, seed_references, split_references
from clarice.classify.references import ClassSums, centred, masked, soft_disk, spectral_prior, turn, wiener
from clarice.classify.ring_blocks import RingBlocks
from clarice.core.errors import UsageError
from clarice.core.progress import Progress, silent
from clarice.geometry.angular import fast_dtype
from clarice.geometry.expectation import Expectation, shift_grid
from clarice.geometry.polar import FourierRings, from_hartley, hartley
from clarice.physics.noisy_set import NoisySet

# A class with less than this share of the mean population takes over half of the largest, if that is large.
STARVING, SPLIT_ABOVE, SMALLEST_SPLIT = 0.25, 1.25, 8
# Particles in one iteration for each class (and at least so many): more only slow the early iterations down.
BATCH_PER_CLASS, SMALLEST_BATCH = 100, 2000
# Centres of mass of noisy averages are not trusted further than this in one iteration, pixels.
LARGEST_MOVE_PX = 2.0


@dataclass(frozen=True)
class Assignment:
    """Where each of n particles belongs.

    `class_index` (n,) counts from 0; `angle_rad` (n,) turns the class's image onto the particle, from +x
    towards +y; `shift_px` (n, 2) is the (x, y) translation that centres the particle; `probability` (n,) the
    posterior of the class; `fit` (n,) the log-likelihood gained over an empty image, as a share of what a
    perfect reference gives on average.
    """

    class_index: Tensor
    angle_rad: Tensor
    shift_px: Tensor
    probability: Tensor
    fit: Tensor

    def __len__(self) -> int:
        return len(self.class_index)


@dataclass(frozen=True)
class Stage:
    """One step of the annealing; `details` is how many cycles across the particle the finest ring has."""

    details: float
    shift_radius_px: float
    shift_step_px: float
    local: bool
    share_of_iterations: float


STAGES = (
    Stage(5.6, 4.0, 2.0, local=False, share_of_iterations=0.5),
    Stage(8.0, 1.0, 1.0, local=True, share_of_iterations=0.25),
    Stage(12.8, 0.75, 0.75, local=True, share_of_iterations=0.25),
)


@dataclass(frozen=True)
class Alignment:
    """The outcome of the iterations, with the mean log-likelihood gain of each of them."""

    assignment: Assignment
    n_classes: int
    log_likelihood: tuple[float, ...]


class _Classification:
    """The state of the iterations: references on the present rings, and what is known about each particle."""

    def __init__(self, observed: NoisySet, n_classes: int, diameter_px: float, generator: torch.Generator) -> None:
        self.observed = observed
        self.count, self.box = len(observed.particles), observed.particles.box
        self.n_classes, self.diameter_px, self.generator = n_classes, diameter_px, generator
        self.mask = soft_disk(self.box, diameter_px / 2)
        self.class_index = torch.zeros(self.count, dtype=torch.long)
        self.angle_rad, self.probability = torch.zeros(self.count), torch.zeros(self.count)
        self.shift_px, self.gain = torch.zeros((self.count, 2)), torch.zeros(self.count)
        self.log_prior = torch.zeros(n_classes)
        self.log_likelihood: list[float] = []
        self.dtype = fast_dtype()
        self.particles: RingBlocks | None = None
        self.references = torch.empty(0)

    def enter(self, stage: Stage) -> None:
        """Takes particles and references to the stage's rings."""
        radius = min(stage.details * self.box / self.diameter_px, (self.box - 1) // 2)
        rings = FourierRings.matching(self.box, radius, self.diameter_px)
        before = self.particles.rings if self.particles is not None else None
        self.particles = RingBlocks(self.observed, rings)
        power = self.particles.power()
        self.power, self.expected = power.mean, expected_score(power, rings).clamp_min(1e-6)
        if before is None:
            rows = torch.randperm(self.count, generator=self.generator)[: self.n_classes].numpy()
            self.references = masked(seed_references(self.particles.of(rows), self.power), rings, self.mask)
        else:
            self.references = hartley(rings.sample(before.to_images(from_hartley(self.references))))

    def iterate(self, stage: Stage, rows: Tensor, rescue: bool) -> None:
        """One expectation and one maximisation step over the particles `rows`."""
        assert self.particles is not None
        rings = self.particles.rings
        grid = shift_grid(stage.shift_radius_px, stage.shift_step_px)
        trials = self.shift_px[rows][:, None] + grid if stage.local else grid
        found = self.particles.expectation(rows, self.references, trials, self.log_prior, self.dtype)
        self._keep(rows, found)
        sums = ClassSums(found.numerator, found.denominator)
        signals = wiener(sums, spectral_prior(sums, self.box), self.box)
        self.references, move = centred(signals, rings, self.mask, LARGEST_MOVE_PX)
        # A class moved by c is met by its members' shifts: t' = t + R(φ) c.
        self.shift_px += turn(move[self.class_index], self.angle_rad)
        mass = found.reference_mass[0]
        mean = len(rows) / self.n_classes
        self.log_prior = ((mass + mean) / (2 * mean)).log()
        if rescue:
            self._rescue(self.particles, rows, mass, shift_grid(stage.shift_step_px, stage.shift_step_px))

    def _keep(self, rows: Tensor, found: Expectation) -> None:
        self.class_index[rows], self.angle_rad[rows] = found.reference, found.angle_rad
        self.shift_px[rows], self.probability[rows] = found.shift_px, found.confidence
        self.gain[rows] = found.log_evidence
        self.log_likelihood.append(float(found.log_evidence.mean()))

    def _rescue(self, particles: RingBlocks, rows: Tensor, mass: Tensor, grid: Tensor) -> None:
        """Classes that starve take over one half of the largest class, one after the other.

        Members count by how well they fit: a class of noise gains nothing from becoming two.
        """
        fit = (self.gain / self.expected)[rows].clamp(0, 1)
        size = torch.zeros(self.n_classes).index_add_(0, self.class_index[rows], fit)
        mean, typical = float(mass.mean()), float(size.mean())
        for starving in torch.nonzero(mass < STARVING * mean)[:, 0].tolist():
            largest = int(size.argmax())
            members = torch.nonzero(self.class_index[rows] == largest)[:, 0]
            if size[largest] < SPLIT_ABOVE * typical or len(members) < SMALLEST_SPLIT:
                return
            trials = self.shift_px[rows[members]][:, None] + grid
            stack = particles.of(rows[members].numpy())
            halves = split_references(stack, trials, self.power, self.mask, self.generator, self.dtype)
            self.references[largest], self.references[starving] = halves
            self.class_index[rows[members[: len(members) // 2]]] = starving
            size[largest] = size[starving] = size[largest] / 2
            self.log_prior[starving] = self.log_prior[largest]

    def assignment(self) -> Assignment:
        fit = self.gain / self.expected
        return Assignment(self.class_index, self.angle_rad, self.shift_px, self.probability, fit)


def _checked(observed: NoisySet, n_classes: int, iterations: int, diameter_px: float) -> None:
    count, box = len(observed.particles), observed.particles.box
    if n_classes < 1:
        raise UsageError(f"--classes {n_classes} must be at least 1")
    if iterations < 3:
        raise UsageError(f"--iterations {iterations} must be at least 3")
    if count < n_classes:
        raise UsageError(f"{count} particles cannot make {n_classes} classes: pass fewer --classes")
    if not 0 < diameter_px <= box:
        raise UsageError(f"the mask diameter of {diameter_px:.0f} px must lie between 0 and the box of {box} px")


def align_to_classes(
    observed: NoisySet,
    n_classes: int,
    *,
    iterations: int = 20,
    diameter_px: float | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Alignment:
    """Sorts whitened particles into `n_classes` and aligns each to its class.

    `diameter_px` is that of the disk classes are masked to (default: 0.8 of the box). Large sets are seen by
    samples, and whole in the last iteration of each stage. Raises UsageError for unfit settings, such
    as fewer particles than classes.
    """
    diameter = 0.8 * observed.particles.box if diameter_px is None else diameter_px
    _checked(observed, n_classes, iterations, diameter)
    generator = torch.Generator().manual_seed(seed)
    state = _Classification(observed, n_classes, diameter, generator)
    batch = max(SMALLEST_BATCH, BATCH_PER_CLASS * n_classes)
    done = 0
    for number, stage in enumerate(STAGES):
        state.enter(stage)
        last_stage = number == len(STAGES) - 1
        steps = iterations - done if last_stage else max(1, round(stage.share_of_iterations * iterations))
        for step in range(steps):
            whole = step == steps - 1 or batch >= state.count
            rows = torch.arange(state.count)
            if not whole:
                rows = torch.randperm(state.count, generator=generator)[:batch].sort().values
            # New classes need an iteration to settle before the shifts become local.
            state.iterate(stage, rows, rescue=not last_stage and step < steps - 1)
            done += 1
            progress("2D classification", done, iterations)
    return Alignment(state.assignment(), n_classes, tuple(state.log_likelihood))
