"""Draws from a network, and structures that network and moments agree on."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from tests.abinitio.structures import population, spread
from tests.abinitio.test_known_correlations import known_of
from tests.abinitio.test_moment_network import SIZE
from torch import Tensor

from clarice.abinitio.known_correlations import KnownCorrelations
from clarice.abinitio.learned_retrieval import LearnedSettings, learned_model, retrieve_learned
from clarice.abinitio.likeness import Likeness
from clarice.abinitio.moment_fit import MomentFit
from clarice.abinitio.moment_model import MomentModel, MomentTargets
from clarice.abinitio.moment_network import MomentNetwork
from clarice.abinitio.structure_draws import DrawSettings, draw_structures, drawn_around
from clarice.abinitio.structure_space import structure_space
from clarice.abinitio.trained_moment_network import load_moment_network, moment_network
from clarice.core.errors import InputError
from clarice.geometry.harmonics import slice_series
from clarice.geometry.so3 import random_rotations
from clarice.io.weights import write_weights
from clarice.metrics.shells import fsc

SPACE = structure_space()
FEW = DrawSettings(count=3, steps=4)
QUICK = LearnedSettings(draws=FEW, going_on=1, tries=2, levels=(0.5,), iterations=2, last_iterations=4)


class Nearest(MomentNetwork):
    """Expects what has the correlations."""

    def forward(self, noisy: Tensor, known: KnownCorrelations, sigma: Tensor) -> Tensor:  # noqa: ARG002
        return known.nearest(noisy)


class OneOfTwo(MomentNetwork):
    """Expects structure 0 of the population, or structure 1 for the first of a batch of several."""

    def forward(self, noisy: Tensor, known: KnownCorrelations, sigma: Tensor) -> Tensor:  # noqa: ARG002
        found = (population()[:1] / spread()).expand(len(noisy), -1).clone()
        if len(noisy) > 2:
            found[0] = population()[1] / spread()
        return found


def made(kind: type[MomentNetwork]) -> MomentNetwork:
    network = kind(SIZE)
    network.spread.copy_(spread())
    return network


@lru_cache(maxsize=2)
def problem(third: bool) -> tuple[MomentModel, MomentTargets]:
    """Exact moments of structure 0, seen from everywhere."""
    model = learned_model(32, SPACE.learning_fill * 32, third=third)
    nowhere_more = torch.zeros(model.density_size, dtype=torch.float64)
    moments = model.predict(population()[0].double(), nowhere_more, third=third)
    return model, MomentTargets.met_within(model.rings, moments, 0.01)


def retrieved(
    kind: type[MomentNetwork], third: bool = True, images: Likeness | None = None, settings: LearnedSettings = QUICK
) -> MomentFit:
    model, targets = problem(third)
    return retrieve_learned(targets, model, made(kind), [known_of(population()[:1])], settings, images=images)


def test_draws_have_the_correlations_and_are_many() -> None:
    known = known_of(population()[:1])
    draws = draw_structures(made(Nearest), known, FEW)
    assert torch.equal(draws, draw_structures(made(Nearest), known, FEW))
    for draw in draws:
        assert torch.allclose(known.nearest(draw[None])[0], draw, atol=1e-4)
    assert float(torch.cosine_similarity(draws[0], draws[1], dim=0)) < 0.9
    assert not torch.equal(draws, draw_structures(made(Nearest), known, DrawSettings(count=3, steps=4, seed=1)))


def test_the_less_noise_the_nearer_is_what_is_drawn_anew() -> None:
    known, structure = known_of(population()[:1]), population()[:1] / spread()
    distance = [
        float((drawn_around(made(Nearest), known, structure, level, torch.Generator(), 0.03, 3) - structure).norm())
        for level in (0.05, 0.5, 5.0)
    ]
    assert distance[0] < distance[1] < distance[2]


def test_the_draw_that_the_moments_speak_for_is_taken() -> None:
    found = retrieved(OneOfTwo)
    assert found.by_start[0] > 10 * found.by_start[1]
    assert found.misfit < 1e-3 * found.by_start[0]
    truth = SPACE.own_ball.to_volume(population()[0].double())
    assert float(fsc(found.volume, truth)[1:9].min()) > 0.99


def series_of(structure: Tensor, count: int, model: MomentModel) -> Tensor:
    """Series of slices in random directions."""
    rotations = random_rotations(count, torch.Generator().manual_seed(6))
    spheres = model.ball.on_spheres(structure.double(), model.ball.transforms(model.rings.radii))
    return slice_series(rotations, model.ball.degree, model.rings.orders) @ spheres.to(torch.complex128)


def test_images_decide_where_they_are_given() -> None:
    """Images of the structure that the moments speak against."""
    model, _ = problem(False)
    images = Likeness(series_of(population()[1], 4, model), model.ball.degree, model.rings.radii)
    found = retrieved(OneOfTwo, third=False, images=images)
    assert found.by_start[0] < found.by_start[1] - 0.01
    assert found.by_start[0] < -0.97


def test_images_pull_a_draw_their_way() -> None:
    """From a draw that has the correlations and else nothing of the structure."""
    model, _ = problem(False)
    images = Likeness(series_of(population()[0], 12, model), model.ball.degree, model.rings.radii)
    own = images(model.ball.on_spheres(population()[0].double(), model.ball.transforms(model.rings.radii)))
    alone, pulled = (
        retrieved(Nearest, third=False, images=images, settings=replace(QUICK, levels=levels, last_iterations=1))
        for levels in ((), (3.0,) * 4)
    )
    like = [
        images(model.ball.on_spheres(found.x, model.ball.transforms(model.rings.radii))) for found in (alone, pulled)
    ]
    assert like[1] > like[0] + 0.3 * (own - like[0])


def test_moments_pull_the_draws_their_way() -> None:
    model, targets = problem(True)
    settings = LearnedSettings(draws=FEW, going_on=1, tries=1, levels=(), last_iterations=15)
    found = retrieve_learned(targets, model, made(Nearest), [known_of(population()[:1])], settings)
    assert found.misfit < 0.5 * min(found.by_start)
    assert len(found.by_start) == 3
    everything = [known_of(population()[:1]), KnownCorrelations.unknown(spread())]
    both = retrieve_learned(targets, model, made(OneOfTwo), everything, settings)
    assert len(both.by_start) == 6


def test_weights_are_read_and_others_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = made(MomentNetwork)
    card = {"recipe": {"network": vars(SIZE)}}
    write_weights(tmp_path / "structures.safetensors", network.state_dict(), card)
    monkeypatch.setenv("CLARICE_WEIGHTS", str(tmp_path))
    found = moment_network()
    assert torch.equal(found.spread, network.spread)
    write_weights(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, card)
    with pytest.raises(InputError, match=r"other\.safetensors does not hold"):
        load_moment_network(tmp_path / "other.safetensors")
    monkeypatch.setenv("CLARICE_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="there are no weights"):
        moment_network()
