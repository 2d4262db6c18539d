"""The recipes that come with the project."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.training.runs import ROOT, assert_same_run, quick, stop_after, trained

from clarice.training.recipe import read_recipe

__all__ = ["quick"]  # a fixture
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_understood_and_its_network_can_be_made(path: Path) -> None:
    recipe = read_recipe(path)
    model = recipe.task().model()
    assert sum(p.numel() for p in model.parameters()) > 10_000
    assert path.name in path.read_text(encoding="utf-8").splitlines()[1]  # the command that uses it


@pytest.mark.parametrize("network", ["polar-cnn", "unet", "dncnn"])
@pytest.mark.parametrize("path", [ROOT / "recipes" / f"{name}.yaml" for name in ("cpu", "gpu")], ids=lambda p: p.stem)
def test_single_image_networks_are_trained_by_the_same_recipes(path: Path, network: str) -> None:
    changed, plain = read_recipe(path, [f"network={{name: {network}}}"]), read_recipe(path)
    assert {**plain.content, "network": {"name": network}} == changed.content
    assert changed.task().kind.name == network  # type: ignore[attr-defined]


@pytest.mark.usefixtures("quick")
def test_the_smoke_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    recipe = ROOT / "recipes" / "tiny.yaml"
    changes = ("training.images=256", "training.log_images=64", "training.validate_images=128")
    whole = trained(recipe, tmp_path / "whole", *changes)
    halted = trained(recipe, tmp_path / "halted", *changes, progress=stop_after(96))
    assert (whole.images, halted.images) == (256, 96)
    trained(recipe, tmp_path / "halted", *changes)
    assert_same_run(tmp_path / "whole", tmp_path / "halted")


@pytest.mark.slow
def test_the_smoke_run_learns_in_less_than_a_minute(tmp_path: Path) -> None:
    outcome = trained(ROOT / "recipes" / "tiny.yaml", tmp_path / "run")
    assert outcome.validations[-1][1] < outcome.validations[0][1]
    assert outcome.seconds < 60
