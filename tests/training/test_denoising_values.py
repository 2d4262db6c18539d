"""Recipes for denoisers with values that cannot be: each is refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clarice.core.errors import InputError, UsageError
from clarice.training.denoising_task import DenoiserSettings, DenoisingTask
from clarice.training.recipe import recipe_of
from clarice.training.simulated_sets import NetworkSettings

SMALL: dict[str, Any] = {"name": "dncnn", "layers": 2, "channels": 4}
ONE = {"name": "one", "images": 1, "views": 0, "snr": 0.1}


def test_settings_that_cannot_be_are_refused_in_words() -> None:
    with pytest.raises(UsageError, match="no network 'polar-bear'"):
        DenoisingTask(DenoiserSettings(network=NetworkSettings(name="polar-bear")), 1)
    with pytest.raises(UsageError, match="network polar-transformer"):
        DenoisingTask(DenoiserSettings(network=NetworkSettings(name="polar-transformer", wings=2)), 1)
    with pytest.raises(UsageError, match="sets:"):
        DenoisingTask(DenoiserSettings(network=NetworkSettings(name="unet"), sets={"flavour": 1}), 1)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"network": {"name": "unet", "box": "big"}}, "box 'big' must be a whole number of pixels, such as 64"),
        ({"network": {"name": "polar-transformer", "box": 64.5}}, "box 64.5 must be a whole number of pixels"),
        ({"network": {"name": "polar-transformer", "heads": 0}}, "heads 0 must be a whole number of at least 1"),
        ({"network": {"name": "dncnn", "channels": -8}}, "channels -8 must be a whole number of at least 1"),
        ({"network": {"name": "polar-transformer", "attention_blocks": -1}}, "attention_blocks -1 must be"),
        ({"network": {"name": "polar-transformer", "likelihood": "no"}}, "likelihood 'no' must be true or false"),
        ({"network": {"name": "unet", "box": 36}}, "box 36 must be a multiple of 8 for 4 levels"),
        ({"network": {"name": "unet", "channels": 12}}, "channels 12 must be a multiple of 8"),
        ({"network": SMALL, "sets": {"images_per_batch": 0}}, "images_per_batch 0 must be at least 1"),
        ({"network": SMALL, "sets": {"sizes": [2.0, 4.0]}}, "sizes [2.0, 4.0] must be a list of whole numbers"),
        (
            {"network": SMALL, "validation": {"kinds": [{"name": "a", "image": 1}]}},
            "validation.kinds.0.image is unknown: perhaps validation.kinds.0.images is meant",
        ),
        ({"network": SMALL, "validation": {"kinds": [{**ONE, "snr": "low"}]}}, "validation.kinds.0.snr is 'low'"),
        ({"network": SMALL, "validation": {"kinds": [{**ONE, "images": 0}]}}, "validation set one: images"),
        ({"network": SMALL, "validation": {"kinds": [{**ONE, "empty": True}]}}, "no kind of validation sets has"),
    ],
)
def test_values_that_cannot_be_are_one_sentence_with_the_recipe(
    tmp_path: Path, content: dict[str, Any], told: str
) -> None:
    path = tmp_path / "recipe.yaml"
    with pytest.raises(InputError) as caught:
        recipe_of({"task": "denoiser", **content}, path).task()
    assert str(caught.value).startswith(str(path))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
