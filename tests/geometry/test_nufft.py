"""Non-uniform transforms against direct Fourier sums, with their adjoints, gradients and repeatability."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from tests.geometry.blobs import fourier_sum, inner, relative_error, seeded
from torch import Tensor

from clarice.geometry import nufft
from clarice.geometry.nufft import fourier_at, spread_from

# Stated in geometry/nufft.py; the worst measured on typical calls is 5e-5 (2-D) and 1.3e-5 (3-D).
TOLERANCE = 1e-4


def frequencies(count: int, ndim: int, seed: int = 1) -> Tensor:
    """Anywhere in the Fourier plane, edges included."""
    return torch.rand((count, ndim), generator=seeded(seed)) - 0.5


def complex_noise(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.complex64)


@pytest.fixture
def two_threads() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("box", [16, 17])
@pytest.mark.parametrize("is_complex", [False, True])
def test_images_at_any_frequency(box: int, is_complex: bool) -> None:
    images = complex_noise(5, box, box) if is_complex else torch.randn((5, box, box), generator=seeded())
    q = frequencies(300, 2)
    found = fourier_at(images, q)
    assert found.dtype == torch.complex64
    assert found.shape == (5, 300)
    assert relative_error(found, fourier_sum(images, q)) < TOLERANCE


@pytest.mark.parametrize("box", [12, 13])
@pytest.mark.parametrize("is_complex", [False, True])
def test_volume_at_any_frequency(box: int, is_complex: bool) -> None:
    volume = complex_noise(box, box, box) if is_complex else torch.randn((box, box, box), generator=seeded())
    q = frequencies(300, 3)
    found = fourier_at(volume, q)
    assert found.shape == (300,)
    assert relative_error(found, fourier_sum(volume, q)) < TOLERANCE


def test_axes_are_x_first() -> None:
    """A point at x = +2 px turns the phase along the first frequency component only."""
    volume = torch.zeros(8, 8, 8)
    volume[4, 4, 6] = 1
    q = torch.tensor([[0.1, 0.0, 0.0], [0.0, 0.1, 0.3]])
    expected = torch.tensor([complex(torch.exp(torch.tensor(-2j * torch.pi * 0.2))), 1.0])
    torch.testing.assert_close(fourier_at(volume, q), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fourier_at(volume[4][None], q[:, :2])[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("box", [16, 17])
def test_adjoint_in_the_plane(box: int) -> None:
    images, values, q = complex_noise(4, box, box), complex_noise(4, 200, seed=3), frequencies(200, 2)
    spread = spread_from(values, q, box)
    assert spread.shape == (4, box, box)
    assert inner(fourier_at(images, q), values) == pytest.approx(inner(images, spread), rel=1e-4)


@pytest.mark.parametrize("box", [12, 13])
def test_adjoint_in_space(box: int) -> None:
    volume, values, q = complex_noise(box, box, box), complex_noise(500, seed=3), frequencies(500, 3)
    spread = spread_from(values, q, box)
    assert spread.shape == (box, box, box)
    assert inner(fourier_at(volume, q), values) == pytest.approx(inner(volume, spread), rel=1e-4)


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("box", "ndim"), [(6, 2), (7, 2), (5, 3), (6, 3)])
def test_gradient_of_fourier_at(box: int, ndim: int, is_complex: bool) -> None:
    """Both maps are linear, so the gradient of a quadratic loss is the difference quotient's, at any step."""
    shape = (2, box, box) if ndim == 2 else (box,) * 3
    array = complex_noise(*shape) if is_complex else torch.randn(shape, generator=seeded())
    q = frequencies(40, ndim)
    target, direction = fourier_at(complex_noise(*shape, seed=5), q), complex_noise(*shape, seed=6)
    direction = direction if is_complex else direction.real
    array.requires_grad_()
    loss = (fourier_at(array, q) - target).abs().square().sum()
    loss.backward()
    assert array.grad is not None
    assert array.grad.is_complex() == is_complex

    def at(step: float) -> float:
        moved = array.detach() + step * direction
        return float((fourier_at(moved, q) - target).abs().square().double().sum())

    slope = inner(array.grad, direction).real
    assert slope == pytest.approx((at(0.5) - at(-0.5)) / 1.0, rel=2e-3)


@pytest.mark.parametrize(("box", "ndim"), [(6, 2), (5, 3)])
def test_gradient_of_spread_from(box: int, ndim: int) -> None:
    shape = (2, 40) if ndim == 2 else (40,)
    values, q, direction = complex_noise(*shape), frequencies(40, ndim), complex_noise(*shape, seed=6)
    values.requires_grad_()
    spread_from(values, q, box).abs().square().sum().backward()
    assert values.grad is not None

    def at(step: float) -> float:
        return float(spread_from(values.detach() + step * direction, q, box).abs().square().double().sum())

    assert inner(values.grad, direction).real == pytest.approx(at(0.5) - at(-0.5), rel=2e-3)


def test_twice_the_same_bit_for_bit() -> None:
    volume, q = torch.randn((24, 24, 24), generator=seeded()), frequencies(50_000, 3)
    values = complex_noise(50_000)
    assert torch.equal(fourier_at(volume, q), fourier_at(volume, q))
    assert torch.equal(spread_from(values, q, 24), spread_from(values, q, 24))


def test_threads_change_nothing(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    images, plane = torch.randn((7, 16, 16), generator=seeded()), frequencies(90, 2)
    volume, space = torch.randn((16, 16, 16), generator=seeded()), frequencies(9_001, 3)
    values, points = complex_noise(7, 90), complex_noise(9_001)

    def everything() -> list[Tensor]:
        forward = [fourier_at(images, plane), fourier_at(volume, space)]
        return [*forward, spread_from(values, plane, 16), spread_from(points, space, 16)]

    alone = everything()
    monkeypatch.setattr(nufft, "IMAGES_PER_THREAD", 2)
    monkeypatch.setattr(nufft, "POINTS_PER_THREAD", 1_000)
    for one, shared in zip(alone, everything(), strict=True):
        assert torch.equal(one, shared)


def test_nothing_is_printed_on_the_terminal() -> None:
    """finufft's own warnings go past Python to the terminal: the settings must not raise any."""
    program = (
        "import torch; from clarice.geometry.nufft import fourier_at, spread_from\n"
        "q = torch.rand(2000, 3) - 0.5; volume = torch.randn(16, 16, 16)\n"
        "spread_from(fourier_at(volume, q), q, 32); spread_from(fourier_at(volume, q[:, :2]), q[:, :2], 16)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout + run.stderr == ""


def test_one_image_and_one_point() -> None:
    image, q = torch.randn((1, 9, 9), generator=seeded()), frequencies(1, 2)
    assert fourier_at(image, q).shape == (1, 1)
    assert spread_from(fourier_at(image, q), q, 9).shape == (1, 9, 9)
    assert relative_error(fourier_at(image, q), fourier_sum(image, q)) < TOLERANCE
