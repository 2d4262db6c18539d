"""`clarice classify` and `clarice select` on a small stack with dark protein, and what they refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer
from tests.classify.blobs import PIXEL_ANGSTROM, make_blobs
from typer.testing import CliRunner, Result

from clarice.cli.classify import parse_class_numbers, register
from clarice.core.errors import ClariceError, InputError, OutputError, UsageError
from clarice.io.mrc import read_mrc, write_mrc
from clarice.io.stack import open_particles, write_particles
from clarice.io.star import read_star
from clarice.metrics.clusters import purity

COUNT = 240
app = typer.Typer()
register(app)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark particles on a grey background, 240 of four shapes, and their classes in `out`."""
    home = tmp_path_factory.mktemp("stack")
    blobs = make_blobs(count=COUNT, box=48, snr=0.3)
    images = 100 - 7 * blobs.observed.particles.read()
    write_mrc(home / "raw.mrcs", images, PIXEL_ANGSTROM)
    write_particles(
        blobs.observed.particles,
        home / "raw.star",
        images_path=home / "raw.mrcs",
        extra_columns={"labFavourite": np.arange(COUNT)},
    )
    np.save(home / "shape.npy", blobs.shape)
    result = run("classify", home / "raw.star", "-o", home / "out", "--classes", "6", "--iterations", "10",
                 "--contrast", "dark", "--ctf-state", "raw", "--seed", "3")  # fmt: skip
    assert result.exit_code == 0, result.output
    return home


def test_classes_are_written_with_every_row_of_the_input(folder: Path) -> None:
    members = read_star(folder / "out" / "class_members.star")["particles"]
    number = members["rlnClassNumber"].astype(int).to_numpy()
    assert members["labFavourite"].astype(int).tolist() == list(range(COUNT))
    assert purity(number, np.load(folder / "shape.npy")) > 0.9
    images, pixel = read_mrc(folder / "out" / "classes.mrcs")
    assert images.shape == (6, 48, 48)
    assert pixel == pytest.approx(PIXEL_ANGSTROM)
    # Protein is dark in the input, so it is dark in the averages.
    assert images[0, 16:32, 16:32].mean() < 0
    record = json.loads((folder / "out" / "classes.json").read_text())
    assert record["seed"] == 3
    assert record["sign"] == -1


def test_same_seed_writes_the_same_classes(folder: Path, tmp_path: Path) -> None:
    again = run("classify", folder / "raw.star", "-o", tmp_path, "--classes", "6", "--iterations", "10",
                "--contrast", "dark", "--ctf-state", "raw", "--seed", "3")  # fmt: skip
    assert again.exit_code == 0
    assert np.array_equal(read_mrc(tmp_path / "classes.mrcs")[0], read_mrc(folder / "out" / "classes.mrcs")[0])


def test_selection_by_number_names_the_raw_images(folder: Path, tmp_path: Path) -> None:
    members = folder / "out" / "class_members.star"
    result = run("select", members, "--classes", "1,3", "-o", tmp_path / "good.star", "--json", tmp_path / "s.json")
    assert result.exit_code == 0, result.output
    assert f"selection: {tmp_path / 's.json'}" in result.output
    shown = result.output.splitlines()
    assert [line.split()[0] for line in shown[:3]] == ["class", "1", "3"]  # the chosen ones only
    assert re.fullmatch(r"4 other classes with \d+ particles left out: not chosen", shown[3])
    number = read_star(members)["particles"]["rlnClassNumber"].astype(int).to_numpy()
    rows = np.flatnonzero(np.isin(number, [1, 3]))
    chosen = open_particles(tmp_path / "good.star")
    assert len(chosen) == len(rows)
    assert np.array_equal(chosen.read(), open_particles(folder / "raw.star").read(rows))
    record = json.loads((tmp_path / "s.json").read_text())
    assert record["selected_classes"] == [1, 3]
    assert record["kept"] == len(rows)


def test_automatic_selection_replayed_on_another_table(folder: Path, tmp_path: Path) -> None:
    members = folder / "out" / "class_members.star"
    result = run("select", members, "--auto", "-o", tmp_path / "good.cs", "--stack", folder / "raw.star")
    assert result.exit_code == 0, result.output
    assert len(open_particles(tmp_path / "good.cs")) > 0.9 * COUNT


def test_a_table_of_the_same_images_in_another_order_is_refused(folder: Path, tmp_path: Path) -> None:
    """Its rows would be taken for those of other particles; images by other names cannot be compared."""
    raw, members = open_particles(folder / "raw.star"), folder / "out" / "class_members.star"
    words = ("select", members, "--classes", "1", "-o", tmp_path / "good.star", "--stack", tmp_path / "other.star")
    write_particles(raw.subset(np.arange(COUNT)[::-1]), tmp_path / "other.star")
    result = run(*words)
    assert isinstance(result.exception, InputError)
    assert f"row 1 is {COUNT}@raw.mrcs, but 1@raw.mrcs in {members}" in str(result.exception)
    write_particles(raw.subset(np.arange(COUNT - 1)), tmp_path / "other.star")
    assert "has 239 particles, but" in str(run(*words).exception)
    assert not (tmp_path / "good.star").exists()
    write_mrc(tmp_path / "small.mrcs", raw.read()[::-1, ::2, ::2], 2 * PIXEL_ANGSTROM, is_volume=False)
    write_particles(open_particles(tmp_path / "small.mrcs"), tmp_path / "other.star")
    assert run(*words).exit_code == 0


@pytest.mark.parametrize("option", ["-o", "--json"])
def test_selection_makes_no_folder_for_a_file(folder: Path, tmp_path: Path, option: str) -> None:
    places = {"-o": tmp_path / "good.star", "--json": tmp_path / "s.json"} | {option: tmp_path / "typo" / "x.star"}
    words = [word for pair in places.items() for word in pair]
    result = run("select", folder / "out" / "class_members.star", "--classes", "1", *words)
    assert isinstance(result.exception, OutputError)
    assert "there is no folder" in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_selection_does_not_overwrite_what_it_reads(folder: Path) -> None:
    members, raw = folder / "out" / "class_members.star", folder / "raw.star"
    before = members.read_bytes(), raw.read_bytes()
    for output, more in ((members, ()), (raw, ("--stack", raw))):
        result = run("select", members, "--classes", "1", "-o", output, *more)
        assert isinstance(result.exception, UsageError)
        assert "is a file that is read" in str(result.exception)
    assert (members.read_bytes(), raw.read_bytes()) == before


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        (["select", "out/class_members.star", "-o", "x.star"], UsageError, "either --classes"),
        (["select", "out/class_members.star", "-o", "x.star", "--auto", "--classes", "1"], UsageError, "either"),
        (["select", "out/class_members.star", "-o", "x.star", "--classes", "1,x"], UsageError, "'1,x'"),
        (["select", "out/class_members.star", "-o", "x.star", "--classes", "99"], UsageError, "no class 99"),
        (["select", "raw.star", "-o", "x.star", "--auto"], InputError, "_rlnClassNumber"),
        (["select", "none.star", "-o", "x.txt", "--auto"], UsageError, "x.txt must end in .star or .cs"),
        (["classify", "raw.star", "-o", "y", "--contrast", "dark", "--ctf-state", "raw", "-k", "300"],
         UsageError, "240 particles cannot make 300"),
        (["classify", "raw.star", "-o", "y", "--contrast", "dark", "--ctf-state", "raw", "--diameter", "-3"],
         UsageError, "--diameter"),
        (["classify", "none.star", "-o", "y"], InputError, "none.star does not exist"),
    ],
)  # fmt: skip
def test_refusals_are_one_sentence(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    error: type[ClariceError],
    named: str,
) -> None:
    monkeypatch.chdir(folder)
    result = run(*arguments)
    assert isinstance(result.exception, error)
    assert named in str(result.exception)
    assert not (folder / "x.star").exists()
    assert not (folder / "y" / "classes.mrcs").exists()


def test_class_numbers_are_parsed() -> None:
    assert parse_class_numbers("5, 1,3-4") == [1, 3, 4, 5]
    for text in ("", "1,,2", "4-2", "a", "-3"):
        with pytest.raises(UsageError):
            parse_class_numbers(text)
