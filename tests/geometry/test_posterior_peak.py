"""Trial shifts, and the peak between them: exact for Gaussians, the mean where no parabola can be laid."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from clarice.geometry.expectation import shift_grid
from clarice.geometry.posterior_peak import peak_shift, peak_step


def gaussian(trials: Tensor, centre: Tensor, sigma: Tensor) -> Tensor:
    """Its logarithm."""
    return -0.5 * ((trials - centre[:, None]) / sigma[:, None]).square().sum(dim=-1)


def mean(posterior: Tensor, trials: Tensor) -> Tensor:
    weight = posterior.exp() / posterior.exp().sum()
    return (weight[..., None] * trials).sum(dim=1)


@pytest.mark.parametrize("sigma", [(0.02, 0.03), (1.0, 0.6), (3.0, 5.0)])
def test_the_peak_of_a_gaussian_is_exact_however_narrow(sigma: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(1)
    around = 10 * torch.rand((50, 2), generator=generator)
    trials = around[:, None] + shift_grid(1.4, 0.7)
    centre = around + 2 * torch.rand((50, 2), generator=generator) - 1
    posterior = gaussian(trials, centre, torch.tensor([sigma]).expand(50, -1))
    torch.testing.assert_close(peak_shift(posterior, trials), centre, rtol=0, atol=2e-3)


def test_at_the_rim_beside_what_is_forbidden_and_off_a_grid_it_is_the_mean() -> None:
    trials = shift_grid(0.7, 0.7)[None]
    posterior = gaussian(trials, torch.tensor([[0.6, 0.1]]), torch.ones((1, 2)))
    found = peak_shift(posterior, trials)
    assert found[0, 0] == pytest.approx(float(mean(posterior, trials)[0, 0]))  # the likeliest trial is the last in x
    assert found[0, 1] == pytest.approx(0.1, abs=1e-4)
    forbidden = posterior.clone()
    forbidden[:, :3] = -1e9  # the row at y = −0.7
    assert peak_shift(forbidden, trials)[0, 1] == pytest.approx(float(mean(forbidden, trials)[0, 1]))
    for others in (trials[:, [0, 4, 8, 2, 6, 1, 3, 5, 7]], trials[:, :4], trials[:, 4:5]):
        posterior = gaussian(others, torch.tensor([[0.2, 0.1]]), torch.ones((1, 2)))
        torch.testing.assert_close(peak_shift(posterior, others), mean(posterior, others))


@pytest.mark.parametrize("sigma", [0.05, 1.0, 4.0])
def test_the_peak_on_a_circle_lies_between_its_steps(sigma: float) -> None:
    count, generator = 24, torch.Generator().manual_seed(3)
    centre = count * torch.rand(40, generator=generator)
    centre[:2] = torch.tensor([23.7, 0.2])  # to either side of the first step
    away = (torch.arange(count)[:, None] - centre + count / 2) % count - count / 2
    found = peak_step(-0.5 * (away / sigma).square())
    assert ((found >= 0) & (found < count)).all()
    difference = (found - centre + count / 2) % count - count / 2
    assert float(difference.abs().max()) < 2e-3
    assert peak_step(torch.zeros((8, 1))).tolist() == [0]  # flat: no parabola


def test_shift_grid() -> None:
    grid = shift_grid(2.0, 1.0)
    assert grid.shape == (25, 2)
    assert sorted(map(tuple, grid.tolist())) == sorted(itertools.product((-2.0, -1.0, 0.0, 1.0, 2.0), repeat=2))
    assert shift_grid(0.0, 1.0).tolist() == [[0.0, 0.0]]
    assert shift_grid(1.0, 0.3).shape == (49, 2)
    torch.testing.assert_close(shift_grid(0.3, 0.1).amax(dim=0), torch.tensor([0.3, 0.3]))
