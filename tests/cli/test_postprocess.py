"""`clarice postprocess`: what it writes of two half maps, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from tests.metrics.filters import cut_to, noise
from typer.testing import CliRunner

from clarice.cli.postprocess import WRITES, register
from clarice.core.errors import ClariceError, InputError, UsageError
from clarice.io.mrc import read_mrc, write_mrc
from clarice.metrics.masks import soft_sphere
from clarice.metrics.sharpening import sharpened

BOX, PIXEL, LAST = 32, 2.0, 13


def run(*arguments: object) -> str:
    app = typer.Typer()
    register(app)
    app.callback()(lambda: None)  # a lone command would go without its name
    result = CliRunner().invoke(app, ["postprocess", *map(str, arguments)])
    if isinstance(result.exception, ClariceError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A particle of nine shells under noise that ends with shell LAST."""
    folder = tmp_path_factory.mktemp("halves")
    signal = 6 * cut_to(noise(BOX), 9) * soft_sphere(BOX, 9.0, 3.0)
    for number in (1, 2):
        values = cut_to(signal + noise(BOX, 1 + number), LAST).astype(np.float32)
        write_mrc(folder / f"half{number}.mrc", values, PIXEL, is_volume=True)
    return folder / "half1.mrc", folder / "half2.mrc"


def test_the_mean_is_sharpened_as_far_as_the_halves_vouch_for_it(halves: tuple[Path, Path], tmp_path: Path) -> None:
    said = run(*halves, "-o", tmp_path, "--diameter", "40", "--b-factor", "25")
    assert {path.name for path in tmp_path.iterdir()} == set(WRITES)
    told, record = (json.loads((tmp_path / name).read_text()) for name in ("fsc.json", "postprocess.json"))
    mean = sum(read_mrc(half)[0] for half in halves) / 2
    values, pixel = read_mrc(tmp_path / "map_sharpened.mrc")
    assert pixel == pytest.approx(PIXEL)
    np.testing.assert_allclose(values, sharpened(mean, PIXEL, told["curves"]["corrected"], 25.0), atol=1e-5)
    # The halves hold nothing beyond LAST, and no resolution is told there.
    assert told["last_shell"] == LAST
    assert read_mrc(tmp_path / "local_resolution.mrc")[0].min() >= BOX * PIXEL / LAST * (1 - 1e-5)
    assert record["b_factor_angstrom2"] == 25.0
    assert f"{told['resolution_angstrom']['0.143']:.1f} Å at FSC 0.143" in said
    assert "B-factor 25 Å², given" in said


def test_what_is_no_pair_of_half_maps_is_refused(halves: tuple[Path, Path], tmp_path: Path) -> None:
    out, wide = tmp_path / "out", tmp_path / "wide.mrc"
    write_mrc(wide, read_mrc(halves[1])[0], 3.0, is_volume=True)
    with pytest.raises(InputError, match=r"pixels of 2 Å, .*wide\.mrc of 3 Å"):
        run(halves[0], wide, "-o", out)
    with pytest.raises(InputError, match="same map"):
        run(halves[0], halves[0], "-o", out)
    with pytest.raises(UsageError, match="--b-factor 2000 must lie between -1920 and 1920"):
        run(*halves, "-o", out, "--b-factor", "2000")
    assert not out.exists()


def test_halves_that_cancel_are_told_what_to_mend(halves: tuple[Path, Path], tmp_path: Path) -> None:
    """No threshold can be given to the command, so none is asked for."""
    write_mrc(tmp_path / "other.mrc", -read_mrc(halves[0])[0], PIXEL, is_volume=True)
    with pytest.raises(InputError, match=r"flat or not finite map, .* mend what it was made of"):
        run(halves[0], tmp_path / "other.mrc", "-o", tmp_path / "out")


def test_the_files_of_a_run_are_not_overwritten(halves: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="is the folder of a run"):
        run(*halves, "-o", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
