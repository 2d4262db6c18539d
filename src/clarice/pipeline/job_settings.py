"""What a user may decide about the main job, with its defaults, and what no stack could be processed with."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

from clarice.classify.select import SelectionRule
from clarice.core.errors import UsageError
from clarice.core.seeds import LARGEST_SEED
from clarice.denoise.registry import DEFAULT_METHOD, get_denoiser
from clarice.geometry.so3 import symmetry_rotations
from clarice.pipeline.first_map_settings import Method

STAGE_NAMES = (
    *("check", "prepare", "denoise", "classify", "select"),
    *("ab initio", "refine", "postprocess", "controls", "map controls", "export"),
)
# The same as one types them.
UNTIL_NAMES = tuple(name.replace(" ", "") for name in STAGE_NAMES)
UNTIL_WORDS = f"{', '.join(UNTIL_NAMES[:-1])} or {UNTIL_NAMES[-1]}"
CHOICES = {
    "contrast": ("bright", "dark"),
    "ctf_state": ("raw", "flipped", "multiplied"),
    "first_map": tuple(method.value for method in Method),
    "selection": tuple(rule.value for rule in SelectionRule),
}
# Settings that count something, with the least that makes sense.
COUNTS = {"classes": 1, "iterations": 3, "starts": 1, "working_box": None, "seed": 0}
LENGTHS = ("diameter_angstrom", "max_shift_angstrom")


@dataclass(frozen=True)
class JobSettings:
    """What a user may decide about the job; None leaves the choice to the data.

    `diameter_angstrom` and `max_shift_angstrom` are the particle's diameter and the largest off-centre shift;
    `contrast` ("bright" or "dark") and `ctf_state` ("raw", "flipped" or "multiplied") settle what the images leave
    open; `classes` 2D classes, and the `selection` of particles by them; `first_map` the way to the first map and
    `starts` its random starts; `until` names the last stage to run.
    """

    method: str = DEFAULT_METHOD
    diameter_angstrom: float | None = None
    symmetry: str = "C1"
    classes: int | None = None
    iterations: int = 20
    selection: str = SelectionRule.AUTO.value
    first_map: str = Method.BOTH.value
    starts: int = 4
    max_shift_angstrom: float | None = None
    contrast: str | None = None
    ctf_state: str | None = None
    working_box: int | None = None
    seed: int = 0
    until: str | None = None

    @property
    def last_stage(self) -> str | None:
        """The stage that `until` names, as the run's record spells it; None for the whole job."""
        return None if self.until is None else STAGE_NAMES[UNTIL_NAMES.index(self.until.replace(" ", ""))]


def option_name(field: str) -> str:
    """A setting as the command line spells it: `max_shift_angstrom` is --max-shift."""
    return "--" + field.removesuffix("_angstrom").replace("_", "-")


def checked(settings: JobSettings) -> JobSettings:
    """The settings with plain numbers, before anything is touched; raises UsageError for one that cannot be meant."""
    plain: dict[str, Any] = {}
    for name, least in COUNTS.items():
        plain[name] = whole_number(getattr(settings, name), option_name(name), least)
    for name in LENGTHS:
        plain[name] = real_number(getattr(settings, name), option_name(name))
    for name in ("iterations", "starts", "seed"):
        if plain[name] is None:
            raise UsageError(f"{option_name(name)} None must be a whole number")
    for name, words in CHOICES.items():
        value = getattr(settings, name)
        if (value is not None or getattr(JobSettings, name) is not None) and value not in words:
            raise UsageError(f"{option_name(name)} {value} is not known: use {', '.join(words[:-1])} or {words[-1]}")
    if plain["seed"] >= LARGEST_SEED:
        raise UsageError(f"--seed {plain['seed']} must lie between 0 and {LARGEST_SEED - 1}")
    for name in ("method", "symmetry", "until"):
        value = getattr(settings, name)
        if not isinstance(value, str) and not (value is None and name == "until"):
            raise UsageError(f"{option_name(name)} {value!r} must be a name")
    get_denoiser(settings.method)
    symmetry_rotations(settings.symmetry)
    if settings.until is not None and settings.until.replace(" ", "") not in UNTIL_NAMES:
        raise UsageError(f"--until {settings.until!r} is no stage: choose one of {UNTIL_WORDS}")
    return replace(settings, **plain)


def whole_number(value: object, option: str, least: int | None = None) -> int | None:
    """`value` as an int, None as it is. Raises UsageError for what is no whole number or is below `least`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UsageError(f"{option} {value!r} must be a whole number")
    if least is not None and value < least:
        raise UsageError(f"{option} {value} must be at least {least}")
    return int(value)


def real_number(value: object, option: str) -> float | None:
    """`value` as a float, None as it is. Raises UsageError for anything that is no number."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
        raise UsageError(f"{option} {value!r} must be a number of Å")
    return float(value)
