"""Recipes: what is understood, and one sentence about what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.training.toy_task import RECIPE, ToyData, ToySettings, ToyTask, write_recipe

from clarice.core.errors import ClariceError, InputError, UsageError
from clarice.training.recipe import read_recipe


def test_a_recipe_is_completed_by_defaults_and_makes_its_task(tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path))
    assert recipe.seed == 3
    assert recipe.training.images == 640
    assert recipe.task_settings == ToySettings.model_validate({"network": {"width": 6}})
    assert recipe.content["training"]["clip_norm"] == 1.0
    assert recipe.content["data"] == {"noise": 0.5, "sets": 8, "pause_seconds": 0.0}
    task = recipe.task()
    assert isinstance(task, ToyTask)
    assert task.seed == 3


def test_changes_come_before_the_check(tmp_path: Path) -> None:
    changes = ["training.images=1_000", "training.learning_rate=2e-3", "data.noise=0.25", "training.clip_norm=null"]
    recipe = read_recipe(write_recipe(tmp_path), changes)
    assert recipe.training.images == 1000
    assert recipe.training.learning_rate == 0.002
    assert recipe.training.clip_norm is None
    assert isinstance(recipe.task_settings, ToySettings)
    assert recipe.task_settings.data == ToyData(noise=0.25)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (RECIPE + "  learning_rat: 1\n", "training.learning_rat is unknown: perhaps training.learning_rate is meant"),
        (RECIPE + "netwrok: {}\n", "netwrok is unknown: perhaps network is meant"),
        (RECIPE + "data: {nose: 1}\n", "data.nose is unknown: perhaps data.noise is meant"),
        (RECIPE + "data: {zzz: 1}\n", "the keys are data.noise, data.sets, data.pause_seconds"),
        (RECIPE.replace("width: 6", "width: -6"), "network.width is -6: input should be greater than 0"),
        (RECIPE.replace("width: 6", "width: six"), "network.width is 'six'"),
        (RECIPE.replace("seed: 3", "seed: 3\nseed: 4"), "stands there twice"),
        (RECIPE.replace("task: toy", ""), "the key task is missing"),
        (RECIPE.replace("task: toy", "task: toil"), "no task 'toil' to train: choose one of"),
        (RECIPE.replace("640", "-1"), "training.images is -1"),
        (RECIPE.replace("640", ".inf"), "training.images is inf"),
        ("- a\n- b\n", "is not a recipe"),
        ("task: [\n", "line 2 is not YAML"),
        ("", "is not a recipe"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_file_and_key(tmp_path: Path, text: str, told: str) -> None:
    path = write_recipe(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(str(path))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not YAML"):
        read_recipe(tmp_path / "binary.yaml")


@pytest.mark.parametrize("change", ["training.images", "=3", "a..b=3", "seed.deeper=3", "seed=[", "training=5"])
def test_a_change_that_cannot_be_made_is_one_sentence(tmp_path: Path, change: str) -> None:
    with pytest.raises(ClariceError) as caught:
        read_recipe(write_recipe(tmp_path), [change])
    assert "\n" not in str(caught.value)


def test_settings_that_do_not_go_together_name_the_recipe(tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path))

    def refuse(_settings: object, _seed: int) -> ToyTask:
        raise UsageError("training sets: too few")

    object.__setattr__(recipe.registered, "make", refuse)
    try:
        with pytest.raises(InputError, match=r"toy.yaml: training sets: too few"):
            recipe.task()
    finally:
        object.__setattr__(recipe.registered, "make", ToyTask)


def test_recipes_differ_where_the_course_of_training_does(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    plain = read_recipe(path)
    elsewhere = read_recipe(path, ["training.images=9", "training.log_images=7", "folder=/elsewhere"])
    assert elsewhere.places == ["folder"]
    assert elsewhere.difference(plain.content) is None
    assert read_recipe(path, ["data.noise=0.75"]).difference(plain.content) == "data.noise = 0.5, now 0.75"
    assert plain.difference({**plain.content, "new": 1}) == "new = 1, now None"
