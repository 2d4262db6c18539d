"""Several maps at once, and a class for particles that show none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tests.abinitio.conftest import BOX, DIAMETER_PX, noise_only

from clarice.abinitio.climb import Climb, Settings
from clarice.abinitio.projection_matching import SHAPE, InitialMap, initial_map
from clarice.abinitio.ring_source import Rows
from clarice.geometry.expectation import RingStack
from clarice.geometry.polar import FourierRings
from clarice.metrics.registration import register
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate

EACH, NOISE = 160, 40


@dataclass(frozen=True)
class Mixture:
    """Sets of particles one after the other."""

    parts: tuple[NoisySet, ...]

    @property
    def box(self) -> int:
        return self.parts[0].box

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def labels(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.parts)), [len(part) for part in self.parts])

    def rings(self, rings: FourierRings, rows: Rows) -> RingStack:
        labels, start, stacks, places = self.labels()[rows], 0, [], []
        for number, part in enumerate(self.parts):
            (chosen,) = np.nonzero(labels == number)
            stacks.append(part.rings(rings, rows[chosen] - start))
            places.append(chosen)
            start += len(part)
        back = torch.from_numpy(np.argsort(np.concatenate(places)))
        whole = RingStack(rings, torch.cat([s.filtered for s in stacks]), torch.cat([s.power for s in stacks]))
        return whole.subset(back)


def simulated(number: int) -> SimulatedSet:
    settings = SimulationSettings(EACH, BOX, seed=number, snr=1.0, max_shift_px=1.0, defocus_groups=6)
    return simulate(make_molecule(number, mass_kda=150), settings)


@pytest.fixture(scope="module")
def molecules() -> list[SimulatedSet]:
    return [simulated(1), simulated(4)]


@pytest.fixture(scope="module")
def mixture(molecules: list[SimulatedSet]) -> Mixture:
    noise = noise_only(molecules[0], seed=9).subset(np.arange(NOISE))
    return Mixture((white_set(molecules[0].particles), white_set(molecules[1].particles), noise))


@pytest.fixture(scope="module")
def found(mixture: Mixture) -> InitialMap:
    settings = Settings(DIAMETER_PX, starts=2, max_shift_px=1.0, classes=2, junk_share=0.1)
    return initial_map(mixture, settings)


def test_each_molecule_gets_a_map_and_noise_none(found: InitialMap, mixture: Mixture) -> None:
    chosen, labels = found.memberships.argmax(dim=1).numpy(), mixture.labels()
    torch.testing.assert_close(found.memberships.sum(dim=1), torch.ones(len(mixture)))
    shares = np.array([[np.mean(chosen[labels == label] == number) for number in range(3)] for label in range(3)])
    assert shares[2, 2] > 0.9, "noise is junk"
    assert shares[:2, 2].max() < 0.1, "particles are not"
    straight, crossed = shares[0, 0] + shares[1, 1], shares[0, 1] + shares[1, 0]
    assert max(straight, crossed) / 2 > 0.9


def test_each_map_is_its_molecule(found: InitialMap, molecules: list[SimulatedSet]) -> None:
    agreement = np.array(
        [[register(volume, made.volume).correlation for made in molecules] for volume in found.volumes]
    )
    own = agreement.argmax(axis=1)
    assert sorted(own) == [0, 1]
    assert agreement[[0, 1], own].min() > 0.7
    assert (agreement[[0, 1], own] - agreement[[0, 1], 1 - own]).min() > 0.1


def test_one_map_belongs_to_all(mixture: Mixture) -> None:
    alone = initial_map(mixture, Settings(DIAMETER_PX, starts=1, max_shift_px=0.0))
    assert len(alone.volumes) == 1
    assert torch.equal(alone.memberships, torch.ones((len(mixture), 1)))


def test_evidence_of_maps_that_are_alike_is_that_of_one(mixture: Mixture) -> None:
    """K copies of one map are as likely as the one, and junk takes its share of what is no likelier than noise."""
    rows = np.arange(40)
    one, two = (
        Climb(mixture, Settings(DIAMETER_PX, max_shift_px=0.0, classes=classes), rows, 3, SHAPE, SHAPE)
        for classes in (1, 2)
    )
    two.volumes = [one.volumes[0], one.volumes[0].clone()]
    two.generator.set_state(one.generator.get_state())
    assert two.score(rows, SHAPE) == pytest.approx(one.score(rows, SHAPE), abs=0.02)
    junk = Climb(mixture, Settings(DIAMETER_PX, max_shift_px=0.0, junk_share=0.3), rows, 3, SHAPE, SHAPE)
    junk.volumes = [torch.zeros_like(one.volumes[0])]
    np.testing.assert_allclose(junk.memberships(rows, SHAPE)[:, 1], 0.3, atol=0.01)
    assert junk.score(rows, SHAPE) == pytest.approx(0.0, abs=0.02)


def test_shares_and_counts_that_cannot_be_are_refused() -> None:
    for wrong in ({"classes": 0}, {"junk_share": 1.0}, {"junk_share": -0.1}):
        with pytest.raises(ValueError, match="one map at least"):
            Settings(DIAMETER_PX, **wrong)
