"""The angular operation against rolled copies in double precision: values, gradients, adjoints, bfloat16."""

from __future__ import annotations

import pytest
import torch
from tests.geometry.blobs import inner, relative_error, seeded
from torch import Tensor

from clarice.geometry import angular

# bfloat16 keeps 8 bits: 1/256 of the largest term, with room for sums of several.
BF16_TOLERANCE = 0.012
SIZES = [(4, 3, 2, 8), (2, 5, 4, 9)]  # images, references, channels, angles


def signals(count: int, channels: int, n_angles: int, seed: int) -> Tensor:
    return torch.randn((count, channels, n_angles), generator=seeded(seed))


def posterior_of(n_angles: int, count: int, references: int, seed: int = 7) -> Tensor:
    return angular.assign(2 * torch.randn((n_angles, count, references), generator=seeded(seed)))


def reversed_angles(b: Tensor) -> Tensor:
    """b(−θ)."""
    return b.flip(-1).roll(1, dims=-1)


def plain_references(b: Tensor, mirror: bool) -> Tensor:
    return torch.cat([b, reversed_angles(b)]) if mirror else b


def plain_correlate(a: Tensor, b: Tensor, mirror: bool = False) -> Tensor:
    """Σ_c Σ_θ a(θ + φ) b(θ), one φ at a time."""
    references = plain_references(b, mirror)
    scores = [torch.einsum("nct,jct->nj", a.roll(-phi, dims=-1), references) for phi in range(a.shape[-1])]
    return torch.stack(scores)


def plain_assign(scores: Tensor) -> Tensor:
    weights = scores.exp()
    return weights / weights.sum(dim=(0, 2), keepdim=True)


def plain_average(posterior: Tensor, b: Tensor, mirror: bool = False) -> Tensor:
    """Σ_jφ p(φ, i, j) b_j(θ − φ), one φ at a time."""
    references = plain_references(b, mirror)
    parts = [torch.einsum("nj,jct->nct", p, references.roll(phi, dims=-1)) for phi, p in enumerate(posterior)]
    return torch.stack(parts).sum(dim=0)


def plain_average_onto(posterior: Tensor, a: Tensor, mirror: bool = False) -> Tensor:
    parts = [torch.einsum("nj,nct->jct", p, a.roll(-phi, dims=-1)) for phi, p in enumerate(posterior)]
    whole = torch.stack(parts).sum(dim=0)
    if not mirror:
        return whole
    plain, mirrored = whole.chunk(2)
    return plain + reversed_angles(mirrored)


@pytest.mark.parametrize("n_angles", [1, 8, 9])
def test_spectrum_walk(n_angles: int) -> None:
    a = signals(3, 2, n_angles, 0)
    spectrum = angular.to_spectrum(a)
    assert spectrum.shape == (n_angles // 2 + 1, 3, 4)
    torch.testing.assert_close(angular.from_spectrum(spectrum, n_angles), a)
    mirrored = angular.from_spectrum(angular.mirror_spectrum(spectrum), n_angles)
    torch.testing.assert_close(mirrored, reversed_angles(a))
    both = angular.from_spectrum(angular.with_mirrors(spectrum), n_angles)
    torch.testing.assert_close(both, torch.cat([a, reversed_angles(a)]))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("n", "j", "c", "t"), SIZES)
def test_correlate(n: int, j: int, c: int, t: int, mirror: bool) -> None:
    a, b = signals(n, c, t, 0), signals(j, c, t, 1)
    found = angular.correlate(a, b, mirror=mirror)
    assert found.shape == (t, n, (1 + mirror) * j)
    torch.testing.assert_close(found, plain_correlate(a, b, mirror), rtol=1e-5, atol=1e-5)
    weights = torch.rand(c, generator=seeded(2))
    weighted = angular.correlate(a, b, mirror=mirror, weights=weights)
    expected = plain_correlate(a * weights[:, None], b, mirror)
    torch.testing.assert_close(weighted, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mirror", [False, True])
def test_the_peak_tells_how_the_reference_was_turned(mirror: bool) -> None:
    b = signals(3, 2, 16, 1)
    a = (reversed_angles(b) if mirror else b)[[2]].roll(5, dims=-1)
    scores = angular.correlate(a, b, mirror=True)[:, 0]
    phi, reference = divmod(int(scores.argmax()), 6)
    assert (phi, reference) == (5, 2 + 3 * mirror)


@pytest.mark.parametrize(("n", "j", "c", "t"), SIZES)
def test_turning_inputs_rolls_the_scores(n: int, j: int, c: int, t: int) -> None:
    a, b = signals(n, c, t, 0), signals(j, c, t, 1)
    scores = angular.correlate(a, b)
    turned = angular.correlate(a.roll(3, dims=-1), b)
    torch.testing.assert_close(turned, scores.roll(3, dims=0), rtol=1e-5, atol=1e-5)
    posterior = angular.assign(scores)
    torch.testing.assert_close(
        angular.average(angular.assign(turned), b), angular.average(posterior, b).roll(3, dims=-1), rtol=1e-5, atol=1e-5
    )
    shuffled = torch.randperm(j, generator=seeded(3))
    torch.testing.assert_close(
        angular.average(angular.assign(angular.correlate(a, b[shuffled])), b[shuffled]),
        angular.average(posterior, b),
        rtol=1e-5,
        atol=1e-5,
    )


def test_assign_is_a_joint_softmax() -> None:
    scores = 5 * torch.randn((8, 3, 4), generator=seeded())
    posterior = angular.assign(scores)
    torch.testing.assert_close(posterior, plain_assign(scores.double()).float())
    torch.testing.assert_close(angular.assign(scores.clone().requires_grad_()).detach(), posterior)
    torch.testing.assert_close(posterior.sum(dim=(0, 2)), torch.ones(3))
    torch.testing.assert_close(angular.assign(scores + 1e4), posterior, rtol=0, atol=1e-2)


def test_what_matches_nothing_falls_into_the_sink() -> None:
    scores = 5 * torch.randn((8, 3, 4), generator=seeded())
    sink = torch.tensor([3.0, -200.0, 200.0])
    with_sink = torch.cat([scores.permute(1, 0, 2).flatten(1), sink[:, None]], dim=1).softmax(dim=1)
    expected = with_sink[:, :-1].view(3, 8, 4).permute(1, 0, 2)
    torch.testing.assert_close(angular.assign(scores, sink), expected)
    learned = angular.assign(scores.clone().requires_grad_(), sink)
    torch.testing.assert_close(learned.detach(), expected)
    # With every reference ruled out nothing is matched at all.
    closed = angular.assign(torch.full_like(scores, angular.RULED_OUT), torch.zeros(3))
    assert not closed.any()


def test_the_faintest_are_nothing_at_all() -> None:
    """Numbers below float32's normal ones are slow on some processors, in every product that follows."""
    scores = torch.zeros((8, 1, 4))
    scores[0, 0] = torch.tensor([0.0, 39.0, 100.0, 141.0])
    posterior = angular.assign(scores)
    assert posterior[0, 0, 3] == 1
    assert posterior[0, 0, 2] == 0
    assert not posterior[1:].any()
    assert (angular.assign(scores[..., :2])[0] > 0).all()
    kept = torch.cat([angular.assign(scores[:, :, :2]), posterior], dim=-1)
    assert ((kept == 0) | (kept > 4e-18)).all()


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("n", "j", "c", "t"), SIZES)
def test_average_and_its_adjoint(n: int, j: int, c: int, t: int, mirror: bool) -> None:
    a, b = signals(n, c, t, 0), signals(j, c, t, 1)
    posterior = posterior_of(t, n, (1 + mirror) * j)
    found, onto = angular.average(posterior, b, mirror=mirror), angular.average_onto(posterior, a, mirror=mirror)
    torch.testing.assert_close(found, plain_average(posterior, b, mirror), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(onto, plain_average_onto(posterior, a, mirror), rtol=1e-5, atol=1e-5)
    assert inner(found, a).real == pytest.approx(inner(b, onto).real, rel=1e-5)


@pytest.mark.parametrize("t", [8, 9])
def test_angular_mass(t: int) -> None:
    posterior = posterior_of(t, 4, 3)
    mass = angular.AngularMass.of(posterior)
    torch.testing.assert_close(mass.total, posterior.sum(dim=0))
    a = signals(4, 2, t, 0)
    onto = angular.from_spectrum(mass.onto(angular.to_spectrum(a)), t)
    torch.testing.assert_close(onto, plain_average_onto(posterior, a), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("n", "j", "c", "t"), SIZES)
def test_gradients_of_attention(n: int, j: int, c: int, t: int, mirror: bool) -> None:
    """Through correlate, assign and average in one go, against autograd of the plain loops in double precision."""
    leaves = [signals(n, c, t, 0), signals(j, c, t, 1), signals(j, c, t, 2)]
    fast = [x.clone().requires_grad_() for x in leaves]
    slow = [x.double().requires_grad_() for x in leaves]
    direction = signals(n, c, t, 3)
    posterior = angular.assign(0.3 * angular.correlate(fast[0], fast[1], mirror=mirror))
    (angular.average(posterior, fast[2], mirror=mirror) * direction).sum().backward()
    posterior = plain_assign(0.3 * plain_correlate(slow[0], slow[1], mirror))
    (plain_average(posterior, slow[2], mirror) * direction.double()).sum().backward()
    for one, other in zip(fast, slow, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mirror", [False, True])
def test_gradients_of_average_onto(mirror: bool) -> None:
    a, posterior = signals(4, 2, 9, 0).requires_grad_(), posterior_of(9, 4, 3 * (1 + mirror)).requires_grad_()
    slow_a, slow_posterior = a.detach().double().requires_grad_(), posterior.detach().double().requires_grad_()
    direction = signals(3, 2, 9, 3)
    (angular.average_onto(posterior, a, mirror=mirror) * direction).sum().backward()
    (plain_average_onto(slow_posterior, slow_a, mirror) * direction.double()).sum().backward()
    for one, other in ((a, slow_a), (posterior, slow_posterior)):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("t", [32, 33])
def test_bfloat16_agrees_with_float32(t: int) -> None:
    a, b = signals(6, 8, t, 0), signals(5, 8, t, 1)
    scores, coarse = angular.correlate(a, b, mirror=True), angular.correlate(a, b, mirror=True, dtype=torch.bfloat16)
    assert coarse.dtype == torch.bfloat16
    assert relative_error(coarse.float(), scores) < BF16_TOLERANCE
    posterior = posterior_of(t, 6, 5)
    found = angular.average(posterior.bfloat16(), b)
    assert relative_error(found, angular.average(posterior, b)) < BF16_TOLERANCE
    found = angular.average_onto(posterior.bfloat16(), a)
    assert relative_error(found, angular.average_onto(posterior, a)) < BF16_TOLERANCE


def test_bfloat16_gradients_agree_with_float32() -> None:
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        a, b = signals(4, 4, 16, 0).requires_grad_(), signals(5, 4, 16, 1).requires_grad_()
        posterior = angular.assign(0.2 * angular.correlate(a, b, dtype=dtype)).to(dtype)
        angular.average(posterior, b).square().sum().backward()
        assert a.grad is not None
        assert b.grad is not None
        gradients.append(torch.cat([a.grad, b.grad]))
    assert relative_error(gradients[1], gradients[0]) < 3 * BF16_TOLERANCE


@pytest.mark.parametrize("by_transform", [False, True])
@pytest.mark.parametrize(("n", "j", "c", "t"), SIZES)
def test_products_and_transforms_agree(
    n: int, j: int, c: int, t: int, by_transform: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of the two is taken depends on the device; both are held to the plain sums here."""
    monkeypatch.setattr(angular, "_by_transform", lambda _: by_transform)
    a, b = signals(n, c, t, 0), signals(j, c, t, 1)
    torch.testing.assert_close(angular.correlate(a, b), plain_correlate(a, b), rtol=1e-5, atol=1e-5)
    posterior = posterior_of(t, n, j)
    torch.testing.assert_close(angular.average(posterior, b), plain_average(posterior, b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_twice_the_same_bit_for_bit(dtype: torch.dtype) -> None:
    a, b = signals(30, 8, 64, 0), signals(20, 8, 64, 1)

    def everything() -> tuple[Tensor, Tensor, Tensor]:
        scores = angular.correlate(a, b, dtype=dtype)
        posterior = angular.assign(scores).to(dtype)
        return scores, angular.average(posterior, b), angular.average_onto(posterior, a)

    for once, again in zip(everything(), everything(), strict=True):
        assert torch.equal(once, again)


def test_rows_fit_the_memory() -> None:
    assert angular.rows_within(1.0, 10**9, 10**3, torch.float32) == 1
    many = angular.rows_within(64.0, 100, 64, torch.bfloat16)
    assert many * 100 * 64 * (3 * 2 + 4) <= 64 * 2**20 < (many + 1) * 100 * 64 * (3 * 2 + 4)


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_gpu_that_only_emulates_bfloat16_works_in_float32(
    native: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: asked.append(including_emulation) or native
    )
    assert angular.fast_dtype(torch.device("cuda")) == dtype
    assert asked == [False]
    assert angular.fast_dtype() in (torch.float32, torch.bfloat16)
