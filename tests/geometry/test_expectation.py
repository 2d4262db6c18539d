"""The expectation step against a posterior written out pose by pose on complex rings."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from tests.geometry.blobs import CENTRES, blob_image, relative_error, seeded
from torch import Tensor

from clarice.geometry import so3
from clarice.geometry.expectation import Expectation, RingStack, expectation, shift_grid
from clarice.geometry.polar import FourierRings, from_hartley, hartley

RINGS = FourierRings(12, (1.0, 2.0, 3.0), 8)
SHIFTS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-0.5, 1.5]])
BF16_TOLERANCE = 0.03


@dataclass(frozen=True)
class Problem:
    """Random images, transfers and references: no pose is far better than the others."""

    stack: RingStack
    references: Tensor  # Hartley, (J, R, T)

    @classmethod
    def random(cls, count: int = 3, references: int = 2, astigmatic: bool = False, seed: int = 0) -> Problem:
        generator = seeded(seed)
        half = (RINGS.count, RINGS.n_angles // 2)
        images = 7 * torch.randn((count, 12, 12), generator=generator)
        transfer = torch.rand((count, *half), generator=generator)
        if not astigmatic:
            transfer = transfer[..., :1].expand(-1, -1, half[1])
        models = 4 * torch.randn((references, *half), generator=generator, dtype=torch.complex64)
        return cls(RingStack.of(images, transfer, RINGS), hartley(models))


def full_circle(half: Tensor) -> Tensor:
    return torch.cat([half, half.conj()], dim=-1).to(torch.complex128)


def posed(reference: Tensor, mirror: bool, steps: int) -> Tensor:
    """The reference seen mirrored (θ → −θ), then turned by `steps` angles."""
    return (reference.flip(-1).roll(1, dims=-1) if mirror else reference).roll(steps, dims=-1)


def unposed(signal: Tensor, mirror: bool, steps: int) -> Tensor:
    back = signal.roll(-steps, dims=-1)
    return back.flip(-1).roll(1, dims=-1) if mirror else back


@dataclass(frozen=True)
class Priors:
    """(J',) over references, (n, S) over shifts."""

    reference: Tensor
    shift: Tensor


def plain_expectation(
    problem: Problem, shifts: Tensor, mirror: bool = False, temperature: float = 1.0, priors: Priors | None = None
) -> Expectation:
    """Every pose of every image, one after the other. `shifts` (n, S, 2)."""
    stack, references = problem.stack, full_circle(from_hartley(problem.references))
    count, n_references, n_angles, n_shifts = len(stack), len(references), RINGS.n_angles, shifts.shape[1]
    area = RINGS.area_weights().double()
    numerator = torch.zeros_like(references)
    denominator = torch.zeros(n_references, RINGS.count, dtype=torch.float64)
    mass = torch.zeros(count, n_references, dtype=torch.float64)
    rows = []
    poses = list(itertools.product(range(n_shifts), (False, True) if mirror else (False,), range(n_references),
                                   range(n_angles)))  # fmt: skip
    for i in range(count):
        moved = [full_circle(stack.filtered[i] * RINGS.shift_phases(shifts[i])[s]) for s in range(n_shifts)]
        power = stack.power[i].double()
        scores = []
        for s, m, j, phi in poses:
            view = posed(references[j], m, phi)
            cross = (moved[s] * view.conj()).real.sum(dim=-1)
            norm = 0.5 * n_angles * power * view.abs().square().mean(dim=-1)
            score = float((area * (cross - norm)).sum())
            if priors is not None:
                score += float(priors.reference[j + m * n_references] + priors.shift[i, s])
            scores.append(score / temperature)
        total = torch.tensor(scores, dtype=torch.float64)
        share = torch.softmax(total, dim=0)
        for p, (s, m, j, phi) in zip(share, poses, strict=True):
            numerator[j] += p * unposed(moved[s], m, phi)
            denominator[j] += p * power
            mass[i, j] += p
        s, m, j, phi = poses[int(total.argmax())]
        before, peak, after = (scores[int(total.argmax()) - phi + (phi + k) % n_angles] for k in (-1, 0, 1))
        between = phi + 0.5 * (before - after) / (before - 2 * peak + after)
        there = [(float(p), shifts[i, pose[0]]) for p, pose in zip(share, poses, strict=True) if pose[1:3] == (m, j)]
        confidence, shift = sum(p for p, _ in there), sum(p * moved_by for p, moved_by in there)
        evidence = temperature * (float(total.logsumexp(dim=0)) - math.log(n_angles * n_shifts))
        rows.append(
            (evidence, j, 2 * math.pi * (between % n_angles) / n_angles, (shift / confidence).tolist(), m, confidence)
        )
    evidence, reference, angle, shift, mirrored, confidence = (list(column) for column in zip(*rows, strict=True))
    return Expectation(
        hartley(numerator[..., : n_angles // 2]).float(),
        denominator.float(),
        torch.tensor(evidence),
        torch.tensor(reference),
        torch.tensor(angle),
        torch.tensor(shift),
        torch.tensor(mirrored),
        torch.tensor(confidence),
        mass.float(),
    )


def assert_poses_alone(found: Expectation, expected: Expectation) -> None:
    """All but the averages, which are zero."""
    for field in fields(Expectation):
        value = getattr(found, field.name)
        if field.name in ("numerator", "denominator"):
            assert value.shape == getattr(expected, field.name).shape
            assert not value.any()
        else:
            torch.testing.assert_close(value, getattr(expected, field.name), rtol=1e-5, atol=1e-5)


def assert_same(found: Expectation, expected: Expectation, tolerance: float = 1e-4) -> None:
    for field in fields(Expectation):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance, msg=lambda m, f=field: f"{f.name}: {m}")


def for_each(count: int, shifts: Tensor = SHIFTS) -> Tensor:
    return shifts.expand(count, -1, -1)


@pytest.mark.parametrize("astigmatic", [False, True])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_posterior_pose_by_pose(astigmatic: bool, mirror: bool, temperature: float) -> None:
    problem = Problem.random(astigmatic=astigmatic)
    expected = plain_expectation(problem, for_each(3), mirror, temperature)
    assert float(expected.confidence.min()) < 0.9  # else nothing but the peak would be tested
    found = expectation(problem.stack, problem.references, SHIFTS, mirror=mirror, temperature=temperature)
    assert_same(found, expected)
    torch.testing.assert_close(found.reference_mass.sum(dim=1), torch.ones(3))
    alone = expectation(
        problem.stack, problem.references, SHIFTS, mirror=mirror, temperature=temperature, averaging=False
    )
    assert_poses_alone(alone, found)


@pytest.mark.parametrize("mirror", [False, True])
def test_priors(mirror: bool) -> None:
    problem = Problem.random(seed=1)
    priors = Priors(torch.randn(4 if mirror else 2, generator=seeded(2)), torch.randn((3, 3), generator=seeded(3)))
    expected = plain_expectation(problem, for_each(3), mirror, 1.5, priors)
    found = expectation(
        problem.stack,
        problem.references,
        SHIFTS,
        log_prior=priors.reference,
        shift_log_prior=priors.shift,
        mirror=mirror,
        temperature=1.5,
    )
    assert_same(found, expected)


def test_one_shift_prior_for_all_images() -> None:
    problem = Problem.random(seed=2)
    prior = torch.tensor([0.0, -1.0, 0.7])
    expected = plain_expectation(problem, for_each(3), priors=Priors(torch.zeros(2), prior.expand(3, -1)))
    assert_same(expectation(problem.stack, problem.references, SHIFTS, shift_log_prior=prior), expected)


@pytest.mark.parametrize("mirror", [False, True])
def test_every_image_may_have_its_own_shifts(mirror: bool) -> None:
    problem = Problem.random(seed=3)
    own = torch.randn((3, 3, 2), generator=seeded(4))
    priors = Priors(torch.zeros(4), torch.randn((3, 3), generator=seeded(5)))
    expected = plain_expectation(problem, own, mirror, priors=priors)
    found = expectation(problem.stack, problem.references, own, mirror=mirror, shift_log_prior=priors.shift)
    assert_same(found, expected)


@pytest.mark.parametrize("memory_mb", [1e-6, 0.01])
def test_chunks_change_nothing(memory_mb: float) -> None:
    problem = Problem.random(count=7, seed=5)
    own = torch.randn((7, 3, 2), generator=seeded(4))
    whole = expectation(problem.stack, problem.references, own, mirror=True, memory_mb=512.0)
    parts = expectation(problem.stack, problem.references, own, mirror=True, memory_mb=memory_mb)
    assert_same(parts, whole, 1e-5)


def test_bfloat16_agrees_with_float32() -> None:
    problem = Problem.random(count=6, references=4, seed=6)
    fine = expectation(problem.stack, problem.references, SHIFTS, mirror=True)
    coarse = expectation(problem.stack, problem.references, SHIFTS, mirror=True, dtype=torch.bfloat16)
    assert relative_error(coarse.numerator, fine.numerator) < BF16_TOLERANCE
    assert relative_error(coarse.denominator, fine.denominator) < BF16_TOLERANCE
    torch.testing.assert_close(coarse.log_evidence, fine.log_evidence, rtol=0, atol=0.15)
    torch.testing.assert_close(coarse.reference_mass, fine.reference_mass, rtol=0, atol=0.03)


@pytest.mark.parametrize("gain", [10.0, 30.0, 60.0])
def test_strong_signal_does_not_overflow_in_bfloat16(gain: float) -> None:
    """Scores from 1e4 to 1e6, as nearly noiseless images give: the softmax must stand on its peak."""
    problem = Problem.random(count=8, references=4, seed=7)
    stack = RingStack(RINGS, problem.stack.filtered * gain, problem.stack.power)
    fine, coarse = (
        expectation(stack, problem.references * gain, SHIFTS, mirror=True, dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    )
    for field in fields(Expectation):
        assert torch.isfinite(getattr(coarse, field.name)).all(), field.name
    torch.testing.assert_close(coarse.reference_mass.sum(dim=1), torch.ones(8), rtol=0, atol=0.02)
    torch.testing.assert_close(coarse.log_evidence, fine.log_evidence, rtol=0.02, atol=1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_twice_the_same_bit_for_bit(dtype: torch.dtype) -> None:
    problem = Problem.random(count=9, references=5, seed=8)
    once, again = (expectation(problem.stack, problem.references, SHIFTS, mirror=True, dtype=dtype) for _ in range(2))
    for field in fields(Expectation):
        assert torch.equal(getattr(once, field.name), getattr(again, field.name)), field.name


@pytest.mark.parametrize("box", [24, 25])
@pytest.mark.parametrize("mirror", [False, True])
def test_known_poses_are_found(box: int, mirror: bool) -> None:
    """Images built from turned, mirrored and shifted blobs; `shift_px` is what centres them."""
    rings = FourierRings.up_to(box, 8.0, 16.0)
    steps, shift = 5, np.array([2.0, -1.0])
    centres = CENTRES * [1, -1 if mirror else 1, 1] @ so3.in_plane(360 * steps / rings.n_angles).T
    centres[:, :2] -= shift
    other = blob_image(box, CENTRES[::-1] * [-1, 1, 1], np.array([1.0, 1.0, 0.2, 0.2]))
    references = hartley(rings.sample(torch.stack([other, blob_image(box, CENTRES)])))
    stack = RingStack.of(blob_image(box, centres)[None] * 3, None, rings)
    found = expectation(stack, references * 3, shift_grid(3.0, 1.0), mirror=True)
    assert (int(found.reference), bool(found.mirrored)) == (1, mirror)
    assert float(found.angle_rad) == pytest.approx(2 * math.pi * steps / rings.n_angles, abs=1e-5)
    np.testing.assert_allclose(found.shift_px[0], shift, atol=0.02)
    assert float(found.confidence) > 0.999
    # What is turned and shifted back onto the reference is the reference.
    assert relative_error(found.numerator[1], 3 * references[1]) < 0.02
    torch.testing.assert_close(found.denominator[1], torch.ones(rings.count), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("gain", "share"), [(0.6, 0.85), (3.0, 0.15)])
def test_shifts_between_the_trials_are_found(gain: float, share: float) -> None:
    """Noise alone, and no longer the step of the trials, limits how near the truth they are."""
    rings, generator = FourierRings.up_to(24, 8.0, 16.0), seeded(3)
    true = torch.rand((200, 2), generator=generator) * 2 - 1
    clean = torch.stack([blob_image(24, CENTRES - np.array([x, y, 0.0])) for x, y in true.double().tolist()]).float()
    images = gain * clean + torch.randn(clean.shape, generator=generator)
    references = hartley(rings.sample(gain * blob_image(24, CENTRES)[None].float()))
    stack, trials = RingStack.of(images, None, rings), shift_grid(2.0, 1.0)
    of_each = torch.stack([expectation(stack, references, trial[None]).log_evidence for trial in trials])
    found = expectation(stack, references, trials).shift_px - true
    assert found.square().sum() < share * (trials[of_each.argmax(dim=0)] - true).square().sum()


def test_ring_stacks() -> None:
    images = torch.randn((4, 12, 12), generator=seeded())
    transfer = torch.rand((4, 3, 4), generator=seeded(1))
    stack = RingStack.of(images, transfer, RINGS)
    samples = RINGS.sample(images)
    assert len(stack) == 4
    torch.testing.assert_close(stack.filtered, samples * transfer)
    torch.testing.assert_close(stack.power, transfer.square().mean(dim=-1))
    plain = RingStack.of(images, None, RINGS)
    torch.testing.assert_close(plain.filtered, samples)
    assert torch.equal(plain.power, torch.ones(4, 3))
    rows = torch.tensor([2, 0])
    assert torch.equal(stack.subset(rows).filtered, stack.filtered[rows])
    assert torch.equal(stack.subset(rows).power, stack.power[rows])
    coarse = FourierRings(12, (1.0, 2.0), 4)
    expected = RingStack.of(images, None, coarse)
    torch.testing.assert_close(plain.within(coarse).filtered, expected.filtered, rtol=1e-4, atol=1e-3)
    assert plain.within(coarse).power.shape == (4, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_reference_far_below_the_peak_gets_nothing(dtype: torch.dtype) -> None:
    problem = Problem.random(seed=4)
    prior = torch.tensor([0.0, -300.0])
    found = expectation(problem.stack, problem.references, SHIFTS, log_prior=prior, dtype=dtype)
    assert found.reference.tolist() == [0, 0, 0]
    assert float(found.reference_mass[:, 1].max()) < 1e-20
    assert float(found.denominator[1].max()) < 1e-18
    alone = expectation(problem.stack, problem.references[:1], SHIFTS, dtype=dtype)
    torch.testing.assert_close(found.numerator[:1], alone.numerator, rtol=1e-5, atol=1e-4)
