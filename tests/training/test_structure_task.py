"""The task that teaches what molecules look like: its batches, what they are judged on, and a store that keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from clarice.abinitio.moment_network import MomentNetwork, MomentNetworkSize
from clarice.abinitio.structure_space import structure_space
from clarice.core.errors import UsageError
from clarice.physics.potential import atoms_to_volume
from clarice.training import structure_store
from clarice.training.specimens import draw_atoms
from clarice.training.structure_store import StructureStore, specimen_settings
from clarice.training.structure_task import KnownSettings, StructureTask, StructureTaskSettings, seen_structures

CPU = torch.device("cpu")
SMALL = MomentNetworkSize(channels=4, products=2, blocks=1, context=8)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def few_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure_store, "BLOCK", 4)


def task(cache: Path, **changes: Any) -> StructureTask:
    settings: dict[str, Any] = {
        "network": SMALL,
        "structures_per_batch": 8,
        "first_specimens": 8,
        "validation_structures": 2,
    }
    return StructureTask(StructureTaskSettings(**{**settings, "molecules": True, "cache": cache, **changes}), seed=1)


def test_a_batch_is_the_same_whenever_it_is_asked_for(cache: Path) -> None:
    first, again = task(cache), task(cache)
    later = again.batch(5, 0, 1, CPU)
    here, there = first.batch(5, 0, 1, CPU), again.batch(5, 0, 1, CPU)
    for name, values in vars(here).items():
        assert torch.equal(values, vars(there)[name]), name
        assert torch.equal(values, vars(later)[name]), name
    assert not torch.equal(first.batch(6, 0, 1, CPU).noisy, here.noisy)
    assert len(first.batch(5, 1, 2, CPU).noisy) == 4
    with pytest.raises(UsageError, match="shared by 3"):
        first.batch(5, 0, 3, CPU)


def test_specimens_are_kept_and_damaged_ones_made_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = specimen_settings(1, (0.9, 1.0))
    made = StructureStore(settings, None, cache).first(6)
    kept = sorted(cache.glob("*/0000[01].safetensors"), key=lambda path: path.stat().st_mtime)[-2:]
    assert len(kept) == 2
    kept[0].write_bytes(b"damaged")
    assert torch.equal(StructureStore(settings, None, cache).first(6), made)
    monkeypatch.setattr(StructureStore, "_coefficients", lambda *_: pytest.fail("made again"))
    assert torch.equal(StructureStore(settings, None, cache).first(5), made[:5])
    with pytest.raises(UsageError, match="workers 0"):
        StructureStore(settings, None, workers=0)


def test_coefficients_are_those_of_the_specimens_atoms() -> None:
    settings = specimen_settings(3, (1.0, 1.0))
    space = structure_space()
    found = StructureStore(settings, None).first(2)
    for number, coefficients in enumerate(found):
        atoms, _ = draw_atoms(settings, number, None)
        pixel = atoms.diameter_angstrom() / (space.learning_fill * space.learning_box)
        expected = space.own_ball.of_volume(atoms_to_volume(atoms, space.learning_box, pixel)).float()
        assert float(torch.cosine_similarity(coefficients, expected, dim=0)) > 0.999


def test_new_specimens_join_while_training_goes_on(cache: Path) -> None:
    growing = task(
        cache,
        first_specimens=4,
        specimens_added=1,
        structures_per_batch=64,
        known=KnownSettings(exact_share=1, unknown_share=0),
    )
    for position, most in ((0, 4), (6, 10)):
        clean = growing.batch(position, 0, 1, CPU).clean
        assert len(torch.unique(clean, dim=0)) <= most
    assert len(torch.unique(growing.batch(6, 0, 1, CPU).clean, dim=0)) > 4


def test_what_is_seen_is_the_structure_under_noise_of_its_level(cache: Path) -> None:
    made = task(cache)
    structures = structure_space().scaled(made.store.first(4))
    level = torch.tensor([0.1, 1.0, 3.0, 10.0])
    seen = seen_structures(structures, made.spread, level, torch.zeros(4).double(), torch.Generator().manual_seed(1))
    assert torch.allclose(seen.clean * made.spread, structures)
    assert torch.allclose((seen.noisy - seen.clean).std(dim=1), level, rtol=0.15)
    # At the least noise the nearest structure with exact correlations is the structure, at the most it is another.
    error = (seen.nearest - seen.clean).square().mean(dim=1) / seen.clean.square().mean(dim=1)
    assert error[0] < 0.05
    assert error[-1] > 0.5


def test_errors_of_correlations_come_in_the_shares_asked_for(cache: Path) -> None:
    known = KnownSettings(exact_share=0.5, unknown_share=0.25, least_error=1e-6, largest_error=1e-3)
    made = task(cache, known=known, structures_per_batch=400, first_specimens=4)
    told = made.batch(0, 0, 1, CPU).context[:, -1] * 4
    shares = [float((told < -7.5).float().mean()), float((told > 0).float().mean())]
    assert shares == pytest.approx([0.5, 0.25], abs=0.1)
    between = told[(told > -7.5) & (told < 0)]
    assert float(between.min()) > -6.1
    assert float(between.max()) < -2.9


@torch.no_grad()
def test_a_perfect_network_has_no_loss_and_validation_names_what_it_is_of(cache: Path) -> None:
    made = task(cache)
    model = made.model()
    assert isinstance(model, MomentNetwork)
    assert torch.equal(model.spread, made.spread)
    batch = made.batch(0, 0, 1, CPU)
    loss, parts = made.loss(model, batch)
    assert float(loss) > float(parts["relative_error"]) > 0
    model.expected = lambda *_: batch.clean  # type: ignore[method-assign, assignment]
    assert float(made.loss(model, batch)[0]) == 0
    figures = made.validate(made.model(), CPU)
    assert {"error", "exact-level1", "unknown-level3", "error1e-05-level0.3"} <= set(figures)
    assert figures["error"] == pytest.approx(sum(v for k, v in figures.items() if k != "error") / 9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": Path("there")}, "exclude each other"),
        ({"known": KnownSettings(exact_share=0.7, unknown_share=0.7)}, "more than 1"),
        ({"network": MomentNetworkSize(blocks=0)}, "blocks 0 must be at least 1"),
        ({"least_level": 5, "largest_level": 1}, "least_level 5 is above largest_level 1"),
        ({"known": KnownSettings(least_error=1e-1)}, "least_error 0.1 is above"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(cache: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task(cache, **changes)
