"""The recipes that come with the project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from tests.training.runs import ROOT, assert_same_run, quick, stop_after, trained
from tests.training.small_sets import small_pool

from clarice.training import structure_store
from clarice.training.batches import EndlessSets
from clarice.training.recipe import read_recipe
from clarice.training.set_draws import SetSettings

__all__ = ["quick"]  # a fixture
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_understood_and_its_network_can_be_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Networks that know structures are scaled by the first specimens, of which two will do.
    monkeypatch.setattr(structure_store, "BLOCK", 2)
    recipe = read_recipe(path, ["first_specimens=2"] if path.stem.startswith("structures") else [])
    model = recipe.task().model()
    assert sum(p.numel() for p in model.parameters()) > 10_000
    assert path.name in path.read_text(encoding="utf-8").splitlines()[1]  # the command that uses it


def documented_commands() -> set[tuple[str, int]]:
    """The recipe and the number of processes of every command line in the recipes and the documents."""
    job = (ROOT / "recipes" / "slurm.sh").read_text(encoding="utf-8")
    nodes, gpus = (int(re.findall(rf"^#SBATCH --{name}=(\d+)$", job, re.M)[0]) for name in ("nodes", "gpus-per-node"))
    found = set()
    texts = (path for path in (ROOT / "recipes").rglob("*") if path.suffix in {".yaml", ".sh", ".md"})
    for path in (*texts, *(ROOT / "docs").glob("*.md"), ROOT / "README.md"):
        for line in path.read_text(encoding="utf-8").splitlines():
            for program, recipe in re.findall(r"(clarice train|recipes/slurm\.sh) (recipes/[\w-]+\.yaml)", line):
                asked = re.findall(r"--nproc-per-node (\d+)", line)
                found.add((recipe, nodes * gpus if "slurm" in program else int(asked[0]) if asked else 1))
    return found


def test_several_processes_are_documented() -> None:
    assert {world for _, world in documented_commands()} == {1, 4, 8}


@pytest.mark.parametrize(("recipe", "world"), sorted(documented_commands()))
def test_batches_can_be_shared_out_as_every_documented_command_does(recipe: str, world: int) -> None:
    content = read_recipe(ROOT / recipe).content
    if "structures_per_batch" in content:
        assert content["structures_per_batch"] % world == 0
        return
    settings = SetSettings(seed=content["seed"], **content["sets"])
    sets = EndlessSets(settings, small_pool(slots=1), torch.device("cpu"))
    shapes = {sets.draws(0, rank, world).view.shape for rank in range(world)}
    assert len(shapes) == 1
    assert shapes.pop().numel() == settings.images_per_batch // world


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
