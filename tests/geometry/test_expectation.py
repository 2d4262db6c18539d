"""The expectation step against plain loops over image, reference, angle and shift."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from clarice.geometry.expectation import Expectation, RingStack, expectation, shift_grid
from clarice.geometry.fourier import radius_grid
from clarice.geometry.polar import FourierRings, from_hartley, hartley

BOX, IMAGES, REFERENCES = 16, 5, 3
RINGS = FourierRings(BOX, (1.0, 2.0, 3.0), 16)


@dataclass(frozen=True)
class Problem:
    stack: RingStack
    references: Tensor
    shifts: Tensor
    log_prior: Tensor
    shift_log_prior: Tensor


def make(mirror: bool = False, per_image: bool = False) -> Problem:
    generator = torch.Generator().manual_seed(4)
    images = torch.randn((IMAGES, BOX, BOX), generator=generator)
    transfer = torch.rand((IMAGES, RINGS.count, 1), generator=generator).expand(-1, -1, RINGS.n_angles // 2)
    shapes = 0.4 * torch.randn((REFERENCES, BOX, BOX), generator=generator)
    shifts = shift_grid(1.0, 1.0)
    if per_image:
        shifts = shifts + torch.rand((IMAGES, 1, 2), generator=generator)
    return Problem(
        RingStack.of(images, transfer, RINGS),
        hartley(RINGS.sample(shapes)),
        shifts,
        torch.randn(REFERENCES * (2 if mirror else 1), generator=generator),
        torch.randn((IMAGES, 9) if per_image else (9,), generator=generator),
    )


def mirrored(rings: Tensor) -> Tensor:
    """θ → −θ of Hartley rings (..., T)."""
    return rings.roll(-1, dims=-1).flip(-1)


def plain(problem: Problem, mirror: bool, temperature: float) -> dict[str, Tensor]:
    """Every quantity of `Expectation`, hypothesis by hypothesis, in float64."""
    references = problem.references.double()
    if mirror:
        references = torch.cat([references, mirrored(references)])
    count, angles = len(references), RINGS.n_angles
    weights = RINGS.area_weights().double()
    numerator = torch.zeros((count, RINGS.count, angles), dtype=torch.float64)
    denominator = torch.zeros((count, RINGS.count), dtype=torch.float64)
    mass, evidence, best = torch.zeros((IMAGES, count)), torch.zeros(IMAGES), []
    for i in range(IMAGES):
        shifts = problem.shifts[i] if problem.shifts.dim() == 3 else problem.shifts
        prior = problem.shift_log_prior[i] if problem.shift_log_prior.dim() == 2 else problem.shift_log_prior
        moved = hartley(problem.stack.filtered[i] * RINGS.shift_phases(shifts)).double()  # (S, R, T)
        scores = torch.zeros((len(shifts), count, angles), dtype=torch.float64)
        for s in range(len(shifts)):
            for j in range(count):
                power = problem.stack.power[i].double() * references[j].square().mean(dim=-1)
                for k in range(angles):
                    cross = (moved[s] * references[j].roll(k, dims=-1)).sum(dim=-1)
                    gain = (weights * (cross - 0.5 * angles * power)).sum()
                    scores[s, j, k] = gain + problem.log_prior[j] + prior[s]
        flat = (scores / temperature).flatten()
        posterior = torch.softmax(flat, dim=0).view_as(scores)
        evidence[i] = temperature * (torch.logsumexp(flat, dim=0) - math.log(len(shifts) * angles))
        mass[i] = posterior.sum(dim=(0, 2))
        denominator += mass[i].double()[:, None] * problem.stack.power[i].double()
        for s in range(len(shifts)):
            for k in range(angles):
                turned_back = moved[s].roll(-k, dims=-1)
                numerator += posterior[s, :, k, None, None] * turned_back
        best.append(torch.tensor(torch.unravel_index(scores.argmax(), scores.shape)))
    if mirror:
        half = count // 2
        numerator = numerator[:half] + mirrored(numerator[half:])
        denominator = denominator[:half] + denominator[half:]
    return {
        "numerator": numerator.float(),
        "denominator": denominator.float(),
        "log_evidence": evidence,
        "mass": mass,
        "best": torch.stack(best),
    }


def found(problem: Problem, **settings: object) -> Expectation:
    return expectation(
        problem.stack,
        problem.references,
        problem.shifts,
        log_prior=problem.log_prior,
        shift_log_prior=problem.shift_log_prior,
        **settings,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_float32_equals_plain_loops(mirror: bool, per_image: bool, temperature: float) -> None:
    problem = make(mirror, per_image)
    expected = plain(problem, mirror, temperature)
    result = found(problem, mirror=mirror, temperature=temperature)
    scale = expected["numerator"].abs().max()
    assert torch.allclose(result.numerator, expected["numerator"], atol=float(2e-4 * scale))
    assert torch.allclose(result.denominator, expected["denominator"], atol=2e-4)
    assert torch.allclose(result.log_evidence, expected["log_evidence"], atol=2e-3)
    mass = expected["mass"]
    if mirror:
        mass = mass[:, :REFERENCES] + mass[:, REFERENCES:]
    assert torch.allclose(result.reference_mass, mass, atol=2e-4)
    shift, reference, angle = expected["best"].T
    assert torch.equal(result.reference, reference % REFERENCES)
    assert torch.equal(result.mirrored, reference >= REFERENCES)
    assert torch.allclose(result.angle_rad, angle * (2 * math.pi / RINGS.n_angles), atol=1e-5)
    shifts = problem.shifts[torch.arange(IMAGES), shift] if per_image else problem.shifts[shift]
    assert torch.allclose(result.shift_px, shifts)
    assert torch.allclose(result.confidence, expected["mass"].gather(1, reference[:, None])[:, 0], atol=2e-4)


def test_bfloat16_stays_near_plain_loops() -> None:
    problem = make()
    expected = plain(problem, False, 1.0)
    result = found(problem, dtype=torch.bfloat16)
    scale = expected["numerator"].abs().max()
    assert (result.numerator - expected["numerator"]).abs().max() < 0.05 * scale
    assert torch.allclose(result.log_evidence, expected["log_evidence"], atol=0.15)
    assert torch.allclose(result.reference_mass, expected["mass"], atol=0.08)


def test_chunks_do_not_change_the_result() -> None:
    problem = make()
    whole, pieces = found(problem), found(problem, memory_mb=1e-4)
    assert torch.allclose(whole.numerator, pieces.numerator, rtol=1e-4, atol=1e-4)
    assert torch.equal(whole.reference, pieces.reference)
    assert torch.allclose(whole.log_evidence, pieces.log_evidence, atol=1e-4)


def test_a_turned_and_shifted_reference_is_found() -> None:
    """A particle made from a reference by a quarter turn and a shift comes back with both."""
    generator = torch.Generator().manual_seed(7)
    inside = radius_grid(17) < 5.5  # what is moved by whole pixels may not wrap around
    references = 3 * torch.randn((REFERENCES, 17, 17), generator=generator) * inside
    rings = FourierRings(17, (1.0, 2.0, 3.0, 4.0), 24)
    turned = references[1].T.flip(1)
    image = torch.roll(turned, shifts=(-1, 2), dims=(0, 1))[None]
    stack = RingStack.of(image, None, rings)
    result = expectation(stack, hartley(rings.sample(references)), shift_grid(2.0, 1.0))
    assert int(result.reference) == 1
    assert float(result.angle_rad) == pytest.approx(math.pi / 2, abs=1e-5)
    # The content moved by (+2, −1) in (x, y); the centring translation undoes it.
    assert result.shift_px.tolist() == [[-2.0, 1.0]]
    back = from_hartley(result.numerator)[1]
    assert torch.allclose(back, rings.sample(references)[1], atol=0.02 * float(back.abs().max()))


def test_within_keeps_the_coarser_samples() -> None:
    problem = make()
    coarse = FourierRings(BOX, (1.0, 2.0), 8)
    inner = problem.stack.within(coarse)
    assert torch.equal(inner.filtered, problem.stack.filtered[:, :2, ::2])
    assert torch.equal(inner.power, problem.stack.power[:, :2])


def test_shift_grid_holds_the_zero_shift() -> None:
    grid = shift_grid(3.0, 1.5)
    assert grid.shape == (25, 2)
    assert (grid == 0).all(dim=1).any()
    assert float(grid.abs().max()) == 3.0
