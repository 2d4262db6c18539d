"""A training recipe: a YAML file that names the task, what it trains and on what, and how the loop trains it."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from clarice.core.errors import ClariceError, InputError, UsageError
from clarice.training.settings import CHANGEABLE, TrainingSettings
from clarice.training.task import RegisteredTask, Task, get_task

M = TypeVar("M")
_OWN_KEYS = ("task", "seed", "training")
# What pydantic calls a key that should not be there.
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


class _Head(BaseModel):
    model_config = ConfigDict(extra="forbid")
    task: str
    seed: int = 0
    training: TrainingSettings = TrainingSettings()


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. `content` is all of it, defaults included, in the terms of JSON."""

    path: Path
    seed: int
    training: TrainingSettings
    registered: RegisteredTask
    task_settings: BaseModel
    content: dict[str, Any]

    @property
    def places(self) -> list[str]:
        """Keys that name files and folders: they may differ between machines on which one training goes on."""
        fields = self.registered.settings.model_fields.items()
        return [name for name, field in fields if Path in (field.annotation, *get_args(field.annotation))]

    def difference(self, trained: Mapping[str, Any]) -> str | None:
        """The first key on which this recipe takes another course than the content `trained`, and how, or None."""
        ours, theirs = _flat(self.content), _flat(trained)
        free = {*self.places, *(f"training.{name}" for name in CHANGEABLE)}
        for key in dict.fromkeys([*theirs, *ours]):
            if key not in free and ours.get(key) != theirs.get(key):
                return f"{key} = {theirs.get(key)}, now {ours.get(key)}"
        return None

    def task(self) -> Task:
        """What is to be trained. Raises InputError, naming the recipe, where its settings do not go together."""
        try:
            return self.registered.make(self.task_settings, self.seed)
        except UsageError as error:
            raise InputError(f"{self.path}: {error}") from error


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe in `path`, with `changes` such as "training.images=20000" made to it first.

    Raises InputError, naming the file and the key, for what is unknown, missing or out of bounds.
    """
    content = _read_yaml(path)
    for change in changes:
        _change(content, change)
    return recipe_of(content, path)


def recipe_of(content: Mapping[str, Any], path: Path) -> Recipe:
    """The recipe with such `content`, checked; `path` is what errors name. Raises InputError as `read_recipe` does."""
    head = checked(_Head, {key: content[key] for key in _OWN_KEYS if key in content}, path)
    try:
        registered = get_task(head.task)
    except UsageError as error:
        raise InputError(f"{path}: {error}") from error
    rest = {key: value for key, value in content.items() if key not in _OWN_KEYS}
    known = [*_OWN_KEYS, *registered.settings.model_fields]
    unknown = [key for key in rest if key not in known]
    if unknown:
        raise InputError(f"{path}: {_unknown_key(str(unknown[0]), known)}")
    task_settings = checked(registered.settings, rest, path)
    resolved = {**head.model_dump(mode="json"), **task_settings.model_dump(mode="json")}
    return Recipe(path, head.seed, head.training, registered, task_settings, resolved)


def _flat(content: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{above}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def checked(kind: type[M], content: Any, path: Path, above: str = "") -> M:
    """`content` as an instance of the model or dataclass `kind`, or one sentence about the first key that is wrong."""
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # A key that is missing may be there, but misspelt.
        first = next((one for one in found if one["type"] in _UNKNOWN), found[0])
        key = ".".join([*([above] if above else []), *(str(part) for part in first["loc"])])
        if first["type"] in _UNKNOWN:
            raise InputError(f"{path}: {_unknown_key(key, _keys_beside(kind, first['loc'], above))}") from error
        if first["type"] == "missing":
            raise InputError(f"{path}: the key {key} is missing: add it") from error
        told = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}: {key} is {first['input']!r}: {told[0].lower()}{told[1:]}") from error
    except ClariceError as error:
        raise InputError(f"{path}: {error}") from error


def _unknown_key(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    remedy = f"perhaps {near[0]} is meant" if near else f"the keys are {', '.join(known)}" if known else "remove it"
    return f"the key {key} is unknown: {remedy}"


def _keys_beside(kind: Any, location: Sequence[Hashable], above: str) -> list[str]:
    """The keys that may stand where the last part of `location` stands."""
    prefix = [above] if above else []
    for part in location[:-1]:
        kind = next(iter(get_args(kind)), None) if isinstance(part, int) else _annotation(kind, str(part))
        prefix.append(str(part))
    return [".".join([*prefix, name]) for name in _annotations(kind)]


def _annotations(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        return {field.name: field.type for field in fields(kind)}
    return {}


def _annotation(kind: Any, name: str) -> Any:
    return _annotations(kind).get(name)


class _Loader(yaml.SafeLoader):
    """YAML in which a key given twice is an error: the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(problem=f"the key {key} stands there twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): choose a recipe, such as recipes/cpu.yaml"
        ) from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{path}{line} is not YAML ({error.problem}): mend it") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is not YAML: choose a recipe, such as recipes/cpu.yaml") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a recipe: it must hold keys such as task and training")
    return content


def _change(content: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise UsageError(f"--set {change} is not understood: write a key and its value, as in training.images=20000")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {change}: {text} is not a value in YAML") from error
    place = content
    for name in names[:-1]:
        inner = place.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {change}: {name} is a value, not a group of keys")
        place = inner
    place[names[-1]] = value
