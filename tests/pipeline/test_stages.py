"""Binding parameters to stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from clarice.pipeline.stages import IMMATERIAL, Estimate, stage
from clarice.pipeline.work import Work


@dataclass(frozen=True)
class Settings:
    rings: int
    files: tuple[Path, ...] = ()
    place: str = field(default="here", metadata=IMMATERIAL)


@stage("refine", reads=["a.mrc"], writes=["b.mrc"], optional=["c.mrc"], immaterial=["batch"])
def refine(work: Work, files: tuple[Path, ...], settings: Settings, *, seed: int = 3, batch: int = 8) -> None:
    """Improves the map."""


def test_parameters_are_recorded_with_defaults_and_without_the_immaterial() -> None:
    bound = refine((Path("x.mrcs"), Path("y.mrcs")), Settings(rings=4), batch=99)
    assert bound.parameters == {
        "files": ["(source file)", "(source file)"],
        "settings": {"rings": 4, "files": []},
        "seed": 3,
    }
    assert bound.sources == (Path("x.mrcs"), Path("y.mrcs"))
    assert (bound.reads, bound.writes, bound.outputs) == (("a.mrc",), ("b.mrc",), ("b.mrc", "c.mrc"))


def test_files_inside_settings_are_sources_too() -> None:
    assert refine((), Settings(4, (Path("z.mrcs"),))).sources == (Path("z.mrcs"),)


def test_parameter_that_cannot_be_recorded_is_refused() -> None:
    with pytest.raises(TypeError, match="refine: seed: a set cannot be recorded"):
        refine((), Settings(4), seed={1})  # type: ignore[arg-type]


def test_wrong_parameters_are_refused_when_bound() -> None:
    with pytest.raises(TypeError, match="unexpected keyword"):
        refine((), Settings(4), sede=1)  # type: ignore[call-arg]


def test_immaterial_must_name_a_parameter() -> None:
    with pytest.raises(ValueError, match="threads is no parameter"):
        stage("x", immaterial=["threads"])(Work.say)


def test_expecting_adds_an_estimate_and_changes_nothing_else() -> None:
    bound = refine((), Settings(4))
    expected = bound.expecting(Estimate(seconds=5))
    assert bound.estimate is None
    assert expected.estimate == Estimate(5.0, 0.0, 0.0)
    assert expected.parameters == bound.parameters
