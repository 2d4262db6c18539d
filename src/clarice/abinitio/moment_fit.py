"""A structure and the density of its views, fitted together to the moments of particles.

The misfit has many minima. So first and second moments are met first, from random starts, and the third, which tells
one minimum from another, is let in little by little; the start that ends lowest is then fitted until it stands still.
Functions beyond the last ring are free during the fit, since rings see them through the ball's finite size, and are
left out of the map. Minimised by L-BFGS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from clarice.abinitio.moment_model import MomentModel, MomentTargets
from clarice.abinitio.moments import MomentRings
from clarice.core.parallel import ordered_map
from clarice.core.progress import Progress, silent
from clarice.geometry.harmonics import BallBasis, degree_of_each

# Frequencies beyond the last ring, in cycles per box, that the structure holds while it is fitted.
BEYOND_RINGS = 2.5
# The part of the third moment's weight in each phase of a start.
_THIRD_SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 1.0)
# Standard deviation of c_lm, before any moment is seen, is this over l.
DENSITY_SPREAD = 1.0
_HISTORY = 30
# Third moments are taken of so many rings, and of orders up to this sum.
THIRD_RINGS, THIRD_ORDERS = 6, 10


def model_for(
    box: int, diameter_px: float, max_radius: float, density_degree: int = 8, *, third: bool = True
) -> MomentModel:
    """A model of structures within `diameter_px`, on rings one cycle per box apart up to `max_radius`.

    The ball is two pixels wider, for what a structure's centre of mass leaves outside.
    """
    ball = BallBasis(box, diameter_px / 2 + 2, max_radius + BEYOND_RINGS)
    radii = tuple(float(radius) for radius in range(1, int(max_radius) + 1))
    low = min(len(radii), THIRD_RINGS) if third else 0
    rings = MomentRings(box, radii, ball.degree, low, min(ball.degree, THIRD_ORDERS) if third else 0)
    return MomentModel(ball, rings, density_degree)


@dataclass(frozen=True)
class FitSettings:
    """Random `starts`, L-BFGS `iterations` of each phase and of the last, and the `seed`."""

    starts: int = 12
    iterations: int = 150
    last_iterations: int = 1500
    seed: int = 0


@dataclass(frozen=True)
class MomentFit:
    """`volume` (L, L, L), the structure up to the last ring; coefficients `x` and `c`; the misfit of each start.

    `misfit` is that of the one chosen, fitted to the end. `by_degree`: its correlation, degree by degree, with others
    that explain the moments as well (`degree_agreement`); None where they were not compared, empty where none does.
    """

    volume: Tensor
    x: Tensor
    c: Tensor
    misfit: float
    by_start: list[float]
    by_degree: list[float] | None = None


def fit_moments(
    targets: MomentTargets, model: MomentModel, settings: FitSettings, progress: Progress = silent
) -> MomentFit:
    """The structure and density whose moments are nearest to `targets`, up to one rotation and hand."""
    spread = torch.cat([
        prior_spread(targets, model.ball),
        DENSITY_SPREAD / torch.from_numpy(degree_of_each(model.density_degree)[1:]),
    ]).double()  # fmt: skip
    shares = _THIRD_SHARES if targets.moments.third is not None else (0.0,)

    def start_of(start: int) -> tuple[float, Tensor]:
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + start)
        z = torch.randn(len(spread), generator=generator, dtype=torch.float64)
        z[model.ball.size :] *= 0.1  # views from nearly everywhere
        for share in shares:
            z, misfit = minimised(z, spread, targets, model, share, settings.iterations)
        return misfit, z

    fitted: list[tuple[float, Tensor]] = []
    for each in ordered_map(start_of, range(settings.starts)):
        fitted.append(each)
        progress("fitting moments", len(fitted), settings.starts)
    best = min(fitted, key=lambda each: each[0])
    z, misfit = minimised(best[1], spread, targets, model, shares[-1], settings.last_iterations)
    x, c = torch.split(z * spread, [model.ball.size, model.density_size])
    within = x * (model.ball.frequencies() <= targets.rings.radii[-1] + 0.5)
    return MomentFit(model.ball.to_volume(within), x, c, misfit, [each[0] for each in fitted])


def prior_spread(targets: MomentTargets, ball: BallBasis) -> Tensor:
    """Standard deviation of each coefficient (size,) before the phases are known: e^{(a − b κ²) / 2} of frequency κ.

    a and b are fitted to the power that the second moment gives each ring, Σ_m M2_m(k, k).
    """
    radii = torch.tensor(targets.rings.radii, dtype=torch.float64)
    diagonal = targets.moments.second.real.diagonal(dim1=1, dim2=2).clamp_min(0)
    power = diagonal[0] + 2 * diagonal[1:].sum(dim=0)
    seen = power > 1e-6 * power.max()
    design = torch.stack([torch.ones_like(radii), -(radii**2)], dim=1)[seen]
    decay = torch.linalg.lstsq(design, power[seen].log()[:, None]).solution[1, 0].clamp_min(0)
    spread = (-decay * ball.frequencies() ** 2 / 2).exp()
    # Σ_lm of the variances of A_lm, by which a sphere's mean power is expected, over its area.
    expected = ball.on_spheres(spread.square(), [each.square() for each in ball.transforms(targets.rings.radii)])
    return spread * (4 * math.pi * power.sum() / expected.sum()).sqrt()


def minimised(
    z: Tensor,
    spread: Tensor,
    targets: MomentTargets,
    model: MomentModel,
    share: float,
    iterations: int,
    expected: Tensor | None = None,
    weights: Tensor | float = 1.0,
) -> tuple[Tensor, float]:
    """z (structure and density over `spread`) after L-BFGS, and the misfit with all of the third moment.

    `share`: that of the third moment's weight while fitting; it is not looked at if 0. What is minimised is the misfit
    and the squared distances of z from `expected`, or from 0, times `weights`.
    """
    z = z.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [z],
        max_iter=iterations,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-8,
        tolerance_change=1e-12,
    )

    def misfit_of(values: Tensor, third_share: float) -> Tensor:
        x, c = torch.split(values * spread, [model.ball.size, model.density_size])
        return targets.misfit(model.predict(x, c, third=third_share > 0), third_share)

    def closure() -> float:
        optimiser.zero_grad()
        from_expected = z if expected is None else z - expected
        loss = misfit_of(z, share) + (weights * from_expected.square()).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return z.detach(), float(misfit_of(z, 1.0 if share > 0 else 0.0))
