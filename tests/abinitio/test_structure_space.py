"""The learned space: coefficients are those of the density, wherever the molecule stands and however large its box."""

from __future__ import annotations

import pytest
import torch
from tests.abinitio.structures import blobs, population, spread

from clarice.abinitio.structure_space import structure_space
from clarice.geometry.harmonics import sphere_coefficients
from clarice.metrics.shells import fsc

SPACE = structure_space()


def test_a_volume_is_that_of_its_coefficients() -> None:
    back = SPACE.own_ball.to_volume(SPACE.of_volume(blobs(1)).double())
    assert float((fsc(back, blobs(1)))[1:9].min()) > 0.98


def test_boxes_that_the_molecule_fills_otherwise_differ_by_a_factor() -> None:
    """The same molecule, in pixels of the same size, in a box of 32 and in one of 36."""
    small = SPACE.of_volume(blobs(1)).double()
    diameter = SPACE.learning_fill * 32
    same = SPACE.ball(36, diameter)
    wider = torch.zeros((36, 36, 36))
    wider[2:34, 2:34, 2:34] = blobs(1)
    found = same.of_volume(wider)
    assert torch.allclose(found, small, atol=1e-3 * float(small.abs().max()))
    assert [round(radius * 32 / 36, 6) for radius in SPACE.radii(36, diameter)] == pytest.approx(range(1, 10))


def test_spheres_are_the_fourier_transform_on_spheres() -> None:
    coefficients = SPACE.of_volume(blobs(2)).double()
    found = SPACE.spheres(coefficients)
    expected = sphere_coefficients(blobs(2), SPACE.radii(32, SPACE.learning_fill * 32), SPACE.degree)
    factor = float((found * expected).sum() / expected.square().sum())
    assert torch.allclose(found / factor, expected, atol=0.01 * float(expected.abs().max()))


def test_parts_and_tables_hold_every_coefficient_once() -> None:
    given = torch.arange(SPACE.size).float()
    assert torch.equal(SPACE.joined(SPACE.split(given)), given)
    table, back = SPACE.places
    padded = torch.nn.functional.pad(given, (0, 1), value=-1)[table]
    assert torch.equal(padded.flatten()[back], given)
    for degree, part in enumerate(SPACE.split(given)):
        rows = padded[degree**2 : (degree + 1) ** 2, : SPACE.counts[degree]]
        assert torch.equal(rows, part.T)


def test_the_spread_is_the_same_for_all_orders_of_a_degree() -> None:
    for part in SPACE.split(spread()):
        assert torch.equal(part, part[:, :1].expand_as(part))
    degree_0 = SPACE.split(population())[0][..., 0]
    assert torch.allclose(degree_0.norm(dim=-1), torch.ones(len(degree_0)))
