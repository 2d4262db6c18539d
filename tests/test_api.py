"""The Python interface: the same parameters and defaults as the command, errors of ours, and progress that is seen."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import clarice
from clarice import api
from clarice.cli.run import run as command
from clarice.core import errors
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.physics.simulation_files import write_simulation
from clarice.pipeline.first_map_settings import Method
from clarice.pipeline.job_settings import UNTIL_NAMES, JobSettings


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stack")
    settings = SimulationSettings(particles=120, box=24, seed=3, snr=1.0, defocus_groups=4)
    write_simulation(simulate(make_molecule(2, mass_kda=80), settings), folder, contrast="bright", specimen="made")
    return folder / "particles.star"


def test_parameters_and_defaults_are_those_of_the_command_and_of_the_job() -> None:
    ours, theirs = inspect.signature(api.run).parameters, inspect.signature(command).parameters
    assert all(parameter.kind is not parameter.VAR_KEYWORD for parameter in ours.values())
    for field in fields(JobSettings):
        assert ours[field.name].default == theirs[field.name.removesuffix("_angstrom")].default == field.default
    assert {name.removesuffix("_angstrom") for name in ours} - {"progress"} == set(theirs)


def test_every_parameter_is_described_and_every_stage_named() -> None:
    described = re.findall(r"^        (\w+): ", api.run.__doc__ or "", re.MULTILINE)
    assert described[: len(inspect.signature(api.run).parameters)] == list(inspect.signature(api.run).parameters)
    assert all(re.search(rf"\b{name}\b", api.run.__doc__ or "") for name in UNTIL_NAMES)


def test_errors_are_exported() -> None:
    for name in ("ClariceError", "InputError", "OutputError", "ResourceError", "UsageError"):
        assert name in clarice.__all__
        assert getattr(clarice, name) is getattr(errors, name)
    assert clarice.run is api.run


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": "one"},
        {"classes": 2.5},
        {"starts": 0},
        {"contrast": "grey"},
        {"until": "tea"},
        {"method": 3},
        {"pixel_size_angstrom": "two"},
        {"optics_group": 1.5},
        {"root": 7},
    ],
    ids=str,
)
def test_bad_values_are_refused_in_a_sentence(stack: Path, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(clarice.UsageError) as caught:
        clarice.run(stack, tmp_path / "run", **wrong)
    assert str(next(iter(wrong.values()))) in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_what_an_option_mends_is_an_error_of_usage_and_of_input(stack: Path, tmp_path: Path) -> None:
    shutil.copy(stack.with_suffix(".mrcs"), tmp_path)
    sizeless = tmp_path / "particles.star"
    sizeless.write_text(stack.read_text().replace("_rlnImagePixelSize", "_rlnOther"))
    for kind in (clarice.UsageError, clarice.InputError):
        with pytest.raises(kind, match="pass --pixel-size") as caught:
            clarice.run(sizeless, tmp_path / "run")
        assert caught.value.exit_code == clarice.UsageError.exit_code


def test_every_way_to_a_first_map_is_offered() -> None:
    assert set(get_args(get_type_hints(api.run)["first_map"])) == set(Method)
    described = (api.run.__doc__ or "").partition("first_map: ")[2].partition("starts: ")[0]
    assert all(method.value in described for method in Method)


def test_progress_is_shown_told_to_a_function_or_to_nobody(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = clarice.run(stack, tmp_path / "shown", until="check", seed=2)
    printed = capsys.readouterr().out
    assert "check: started" in printed
    assert "looking at images: 120/120" in printed
    record = json.loads((folder / "run.json").read_text())
    assert record["command"] == f"clarice.run({str(stack)!r}, {str(folder)!r}, seed=2, until='check')"
    heard: list[tuple[str, int, int]] = []
    clarice.run(stack, tmp_path / "told", until="check", progress=lambda *step: heard.append(step))
    clarice.run(stack, tmp_path / "silent", until="check", progress=False)
    assert heard[-1][1:] == (120, 120)
    assert capsys.readouterr().out == ""


def test_public_names_are_listed_before_their_first_use() -> None:
    assert set(clarice.__all__) <= set(dir(clarice))
