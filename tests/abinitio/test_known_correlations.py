"""Correlations of structures: what is known of them holds for the structure, and the nearest structure keeps to it."""

from __future__ import annotations

import pytest
import torch
from tests.abinitio.structures import blobs, population, spread
from torch import Tensor

from clarice.abinitio.kam import Autocorrelations, autocorrelations, autocorrelations_of
from clarice.abinitio.known_correlations import UNKNOWN, KnownCorrelations, disturbed, error_growth
from clarice.abinitio.learned_retrieval import learned_model
from clarice.abinitio.moments import Moments
from clarice.abinitio.structure_space import structure_space
from clarice.geometry.harmonics import sphere_coefficients
from clarice.geometry.slices import project
from clarice.geometry.so3 import random_rotations
from clarice.geometry.wigner import mirrored, turned, wigner_matrices

SPACE = structure_space()


def known_of(structures: Tensor, error: float = 0.0) -> KnownCorrelations:
    spheres = SPACE.spheres(structures.double())
    errors = torch.full((len(structures),), error, dtype=torch.float64)
    return KnownCorrelations.of(spheres[:, 0], autocorrelations_of(spheres), errors, spread())


def moved(structures: Tensor, seed: int, mirror: bool) -> Tensor:
    """Scaled coefficients turned, and mirrored."""
    rotation = random_rotations(1, torch.Generator().manual_seed(seed))
    table, back = SPACE.places
    harmonics = torch.nn.functional.pad(structures, (0, 1))[:, table]  # (B, n, S)
    there = turned(
        mirrored(harmonics) if mirror else harmonics, [m[0] for m in wigner_matrices(rotation, SPACE.degree)]
    )
    return there.flatten(1)[:, back]


def test_a_structure_is_nearest_to_itself() -> None:
    structures = population()[:3] / spread()
    found = known_of(population()[:3]).nearest(structures)
    assert float((found - structures).square().sum() / structures.square().sum()) < 1e-3


@pytest.mark.parametrize("mirror", [False, True])
def test_what_is_known_does_not_turn_and_the_nearest_does(mirror: bool) -> None:
    structures = population()[:2] / spread()
    other = moved(structures, 1, mirror)
    here, there = known_of(population()[:2]), known_of(other * spread())
    assert torch.allclose(here.context, there.context, atol=1e-4)
    noisy = torch.randn(structures.shape, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(here.nearest(moved(noisy, 1, mirror)), moved(here.nearest(noisy), 1, mirror), atol=1e-4)


def test_the_nearest_structure_has_the_correlations_and_no_other_is_nearer() -> None:
    known = known_of(population()[:1])
    noisy = torch.randn((1, SPACE.size), generator=torch.Generator().manual_seed(2))
    nearest = known.nearest(noisy)
    generator = torch.Generator().manual_seed(3)
    parts = zip(SPACE.split(nearest), SPACE.split(noisy), known.factors, strict=True)
    for degree, (found, wanted, factor) in enumerate(parts):
        assert torch.allclose(found @ found.mT, factor @ factor.mT, atol=1e-3)
        distance = float((found - wanted).norm())
        for _ in range(20 if degree else 0):
            frame = torch.linalg.qr(torch.randn((2 * degree + 1,) * 2, generator=generator))[0]
            assert float((factor @ frame[: factor.shape[-1]] - wanted).norm()) >= distance - 1e-4


def test_the_larger_the_errors_the_less_is_known() -> None:
    structures = population()[:1] / spread()
    power = [float(known_of(population()[:1], error).nearest(structures).square().sum()) for error in (0, 1e-4, 1e-2)]
    assert power[0] > power[1] > power[2]
    assert float(KnownCorrelations.unknown(spread()).nearest(structures).abs().max()) == 0
    assert float(KnownCorrelations.unknown(spread()).context[0, :-1].abs().max()) == 0
    assert known_of(population()[:1], UNKNOWN).context[0, -1] == KnownCorrelations.unknown(spread()).context[0, -1]


def test_disturbed_correlations_have_the_errors_they_are_said_to_have() -> None:
    spheres = SPACE.spheres(population()[:1].double()).expand(400, -1, -1)
    exact = autocorrelations_of(spheres)
    error = torch.full((400,), 1e-3, dtype=torch.float64)
    first, found = disturbed(spheres[:, 0], exact, error, torch.Generator().manual_seed(1))
    off = torch.triu(torch.ones(exact.shape[-2:]), 1).bool()
    spread_found = (found - exact)[..., off].std(dim=(0, 2)) / 1e-3
    assert torch.allclose(spread_found, error_growth(SPACE.degree), rtol=0.1)
    assert float((first - spheres[:, 0]).std()) == pytest.approx(0.1 * 1e-3**0.5, rel=0.1)


def test_measured_moments_tell_what_the_structure_does() -> None:
    """Projections from everywhere, in another box and scale, without noise."""
    model = learned_model(32, SPACE.learning_fill * 32, third=False)
    volume = 5 * blobs(1)
    rotations = random_rotations(3000, torch.Generator().manual_seed(4))
    images = torch.cat([project(volume, part) for part in torch.from_numpy(rotations).split(500)])
    moments = Moments.of(images, torch.ones((3000, len(model.rings.radii))), model.rings, noise_variance=0.0)
    found = KnownCorrelations.measured(
        moments.first_moment(), autocorrelations(moments, SPACE.learning_fill * 32), spread()
    )
    spheres = sphere_coefficients(volume, model.rings.radii, SPACE.degree)
    values = autocorrelations_of(spheres)
    exact = Autocorrelations(values, torch.zeros_like(values))
    expected = KnownCorrelations.measured(spheres[0] / (4 * torch.pi) ** 0.5, exact, spread())
    structure = population()[1:2] / spread()
    assert float((expected.nearest(structure) - structure).square().mean() / structure.square().mean()) < 0.01
    low = sum(part.numel() for part in SPACE.split(structure)[:4])
    assert float(torch.cosine_similarity(found.factors[0], expected.factors[0], dim=1)) > 0.99
    assert float(found.context[0, -1]) > float(expected.context[0, -1])
    near = found.nearest(structure)[:, :low] - structure[:, :low]
    assert float(near.square().mean() / structure[:, :low].square().mean()) < 0.1
