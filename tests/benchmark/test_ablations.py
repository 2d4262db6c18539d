"""The protocol `ablations`: every variant can be trained, and is judged against the whole network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clarice.benchmark import ablations as protocol
from clarice.benchmark.ablation_variants import KINDS, VARIANTS, WHOLE, Variant, recipe_content
from clarice.benchmark.ablations import AblationRequest, ablations
from clarice.benchmark.records import Row
from clarice.core.errors import UsageError
from clarice.training.recipe import recipe_of


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
    assert narrow["over_whole"] == pytest.approx(narrow["general"] / whole["general"], rel=1e-3)
    assert "over_whole" not in whole
    assert all(row[kind.name] > 0 for row in rows for kind in KINDS)
    record = json.loads((tmp_path / "out" / "ablations.json").read_text())
    assert record["summary"]["32 channels: error in general sets over the whole network's"].startswith(
        f"{narrow['over_whole']:.3f}"
    )
    monkeypatch.setattr(protocol, "train", None)
    kept = ablations(request_of(resume=True), shown=nothing).rows
    assert [row["made"] for row in kept] == [row["made"] for row in rows]


def test_errors_are_those_of_each_structure() -> None:
    results = AblationRequest((variant(WHOLE),), Path("out"), Path("work")).results()
    results.rows = [
        {"variant": WHOLE, "seed": 1, "by_structure": {"general": [0.1, 0.2, 0.4]}, "training_seconds": 10.0},
        {"variant": "2 blocks", "seed": 1, "by_structure": {"general": [0.2, 0.4, 0.8]}, "training_seconds": 5.0},
        {"variant": "2 blocks", "seed": 2, "by_structure": {"general": [0.3, 0.3, 0.3]}, "training_seconds": 5.0},
    ]
    protocol.summarise(results)
    assert results.rows[1]["over_whole"] == pytest.approx(2)
    assert results.rows[1]["over_whole_interval"] == pytest.approx([2, 2])
    assert results.rows[1]["time_over_whole"] == 0.5
    assert "over_whole" not in results.rows[2]  # its seed has no whole network


def test_less_than_a_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--images 100"):
        AblationRequest((variant(WHOLE),), tmp_path, tmp_path, images=100)
