"""What a stage is: a function, the files it reads and writes, and the parameters that decide its result."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

if TYPE_CHECKING:
    from clarice.pipeline.work import Work

P = ParamSpec("P")
# Metadata of a dataclass's field that cannot change a stage's result.
IMMATERIAL = {"immaterial": True}


@dataclass(frozen=True)
class Estimate:
    """What a stage should need: wall-clock seconds, the process's peak memory, disk in the run folder."""

    seconds: float = 0.0
    memory_mb: float = 0.0
    disk_mb: float = 0.0


@dataclass(frozen=True)
class Stage:
    """One step of a pipeline, with its parameters bound; nothing runs until `engine.execute`.

    `reads` and `writes` are names of files in the run folder; `optional` names files that the stage may
    write, depending on its input. `parameters` decide the result, in a form JSON can hold; `sources` are the
    files outside the run folder, which count by content and not by name.
    """

    name: str
    function: Callable[[Work], None]
    parameters: Mapping[str, Any]
    sources: tuple[Path, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    estimate: Estimate | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Every file the stage must or may write."""
        return self.writes + self.optional

    def expecting(self, estimate: Estimate) -> Stage:
        """The same stage with an estimate, which is told first and decides whether the machine will do."""
        return replace(self, estimate=estimate)


def stage(
    name: str,
    *,
    reads: Sequence[str] = (),
    writes: Sequence[str] = (),
    optional: Sequence[str] = (),
    immaterial: Sequence[str] = (),
) -> Callable[[Callable[Concatenate[Work, P], None]], Callable[P, Stage]]:
    """Turns `function(work, **parameters)` into `function(**parameters) -> Stage`.

    A Path among the parameters, or inside one, is a source file: its content counts, its name does not.
    Other parameters are None, bool, int, float, str, or sequences, string-keyed mappings and dataclasses
    of these. `immaterial` names parameters that cannot change the result (threads, batch size), as the metadata
    `IMMATERIAL` marks fields of dataclasses: they may differ without the stage being run again.
    """

    def decorate(function: Callable[Concatenate[Work, P], None]) -> Callable[P, Stage]:
        signature = inspect.signature(function)
        unknown = set(immaterial) - set(signature.parameters)
        if unknown:
            raise ValueError(f"stage {name}: {', '.join(sorted(unknown))} is no parameter of {function.__name__}")

        @functools.wraps(function)
        def bind(*args: P.args, **kwargs: P.kwargs) -> Stage:
            bound = signature.bind(None, *args, **kwargs)
            bound.apply_defaults()
            values = dict(list(bound.arguments.items())[1:])
            material = {key: value for key, value in values.items() if key not in immaterial}
            return Stage(
                name=name,
                function=lambda work: function(work, *args, **kwargs),
                parameters={key: _plain(value, f"{name}: {key}") for key, value in material.items()},
                sources=tuple(path for value in material.values() for path in _paths(value)),
                reads=tuple(reads),
                writes=tuple(writes),
                optional=tuple(optional),
            )

        return bind

    return decorate


def _paths(value: object) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _paths(item)
    elif isinstance(value, Mapping):
        yield from _paths(list(value.values()))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _paths([getattr(value, field.name) for field in fields(value)])


def _plain(value: object, what: str) -> Any:
    """`value` in JSON's types; a path leaves only its place behind, since its content is hashed apart."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return "(source file)"
    if is_dataclass(value) and not isinstance(value, type):
        material = [field.name for field in fields(value) if not field.metadata.get("immaterial")]
        return {name: _plain(getattr(value, name), what) for name in material}
    if isinstance(value, (list, tuple)):
        return [_plain(item, what) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, what) for key, item in value.items()}
    raise TypeError(f"{what}: a {type(value).__name__} cannot be recorded as a parameter of a stage")


def check_order(stages: Sequence[Stage]) -> None:
    """Raises ValueError unless names and outputs are unique and files are written before they are read."""
    written: set[str] = set()
    names: set[str] = set()
    for item in stages:
        missing = set(item.reads) - written
        if item.name in names:
            raise ValueError(f"two stages are named {item.name}")
        if missing:
            raise ValueError(f"stage {item.name} reads {', '.join(sorted(missing))}, which no earlier stage writes")
        if written & set(item.outputs):
            raise ValueError(f"stage {item.name} writes a file of an earlier stage")
        names.add(item.name)
        written |= set(item.outputs)
