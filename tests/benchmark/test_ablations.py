"""The protocol `ablations`: every variant can be trained, and is judged against the whole network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clarice.benchmark import ablations as protocol
from clarice.benchmark.ablation_variants import (
    KINDS,
    STRUCTURES,
    VARIANTS,
    WHOLE,
    Variant,
    chosen_variants,
    recipe_content,
)
from clarice.benchmark.ablations import AblationRequest, ablations
from clarice.benchmark.records import Row
from clarice.core.errors import UsageError
from clarice.training.recipe import recipe_of
from clarice.training.structures import StructureCollection
from clarice.training.summary import Outcome


def nothing(_: Row) -> None:
    """Shows no row."""


def variant(name: str) -> Variant:
    return next(one for one in VARIANTS if one.name == name)


@pytest.mark.parametrize("one", VARIANTS, ids=lambda one: one.name)
def test_every_variant_has_a_recipe_and_its_network_differs_from_the_whole_one(one: Variant, tmp_path: Path) -> None:
    task = recipe_of(recipe_content(one, 1280, 1, None, tmp_path), tmp_path / "recipe.yaml").task()
    assert task.box == 32  # type: ignore[attr-defined]
    whole = recipe_of(recipe_content(variant(WHOLE), 1280, 1, None, tmp_path), tmp_path / "recipe.yaml").task()
    made, other = task.model(), whole.model()
    same = type(made) is type(other) and made.size == other.size
    assert same == (one.name == WHOLE)


@pytest.fixture
def request_of(tmp_path: Path):
    def make(**changes: object) -> AblationRequest:
        fields: dict[str, object] = {
            "variants": (variant(WHOLE), variant("32 channels")),
            "out": tmp_path / "out",
            "work": tmp_path / "work",
            "images": 128,
            "structures": 1,
        }
        (tmp_path / "work").mkdir(exist_ok=True)
        return AblationRequest(**{**fields, **changes})  # type: ignore[arg-type]

    return make


def test_variants_are_trained_judged_and_kept(request_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ablations(request_of(), shown=nothing).rows
    assert [row.get("failed") for row in rows] == [None, None], rows
    whole, narrow = rows
    assert narrow["parameters"] < whole["parameters"]
    assert narrow["ratio"] == pytest.approx(narrow["general"] / whole["general"], rel=1e-3)
    assert "ratio" not in whole
    assert all(row[kind.name] > 0 for row in rows for kind in KINDS)
    record = json.loads((tmp_path / "out" / "ablations.json").read_text())
    assert record["summary"]["32 channels: error in general sets over that of whole"] == f"{narrow['ratio']:.3f}"
    monkeypatch.setattr(protocol, "train", None)
    kept = ablations(request_of(resume=True), shown=nothing).rows
    assert [row["made"] for row in kept] == [row["made"] for row in rows]


def row(name: str, seed: int, errors: list[float]) -> Row:
    return {"variant": name, "seed": seed, "by_structure": {"general": errors}}


def test_variants_are_held_against_what_they_differ_from_in_one_thing() -> None:
    results = AblationRequest((variant(WHOLE),), Path("out"), Path("work")).results()
    results.rows = [
        row(WHOLE, 1, [0.1, 0.2, 0.4]),
        row("2 blocks", 1, [0.2, 0.4, 0.8]),
        row("2 blocks", 2, [0.3, 0.3, 0.3]),
        row("no attention", 1, [0.3, 0.6, 1.2]),
        row("Cartesian U-Net", 1, [0.6, 1.2, 2.4]),
    ]
    protocol.summarise(results)
    whole, blocks, other_seed, alone, cartesian = results.rows
    assert blocks["ratio"] == pytest.approx(2)
    assert blocks["ratio_interval"] == pytest.approx([2, 2])
    assert "ratio" not in other_seed  # there is no whole network of its seed
    assert (alone["against"], alone["ratio"]) == (WHOLE, pytest.approx(3))
    assert (cartesian["against"], cartesian["ratio"]) == ("no attention", pytest.approx(2))
    whole["failed"] = True
    protocol.summarise(results)
    assert "ratio" not in blocks
    assert cartesian["ratio"] == pytest.approx(2)


def test_a_signal_to_stop_leaves_no_row_of_a_network_trained_by_half(
    request_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> Outcome:
        return Outcome("signal", 15, 64, 1.0, [], None)

    monkeypatch.setattr(protocol, "train", stopped)
    request = request_of()
    with pytest.raises(KeyboardInterrupt):
        ablations(request, shown=nothing)
    assert not (request.out / "ablations.json").exists()


def test_too_many_structures_are_refused_before_any_training(request_of, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "train", None)
    with pytest.raises(UsageError, match="7"):
        ablations(request_of(structures=7), shown=nothing)


def test_there_are_structures_enough_for_the_default(request_of, shared_data: Path) -> None:
    assert all(len(sets.noisy) % STRUCTURES == 0 for sets in request_of(structures=STRUCTURES).judged_on.values())
    assert (shared_data / "structures" / "validation.npz").is_file()
    entries = StructureCollection(shared_data / "structures" / "validation.npz")
    assert len(entries.largest_of_clusters(2840)) >= STRUCTURES


def test_molecules_are_meant_whatever_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLARICE_DATA", str(tmp_path))
    task = recipe_of(recipe_content(variant(WHOLE), 1280, 1, None, tmp_path), tmp_path / "recipe.yaml").task()
    assert task.data is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("one", VARIANTS, ids=lambda one: one.name)
def test_each_variant_can_be_named_and_brings_what_it_is_held_against(one: Variant) -> None:
    assert "," not in one.name
    names = [chosen.name for chosen in chosen_variants([one.name])]
    assert {one.name, one.against, WHOLE} <= set(names)
    assert len(names) <= 3


def test_less_than_a_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--images 100"):
        AblationRequest((variant(WHOLE),), tmp_path, tmp_path, images=100)
