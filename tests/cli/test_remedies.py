"""No sentence asks for an option that the command lacks, or for a column that the file cannot have."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.cli.map_commands import COUNT, SmallStack, make_stack
from typer.testing import CliRunner

from clarice.cli.app import app
from clarice.core.errors import ClariceError, InputError
from clarice.io.cryosparc import read_cs, with_fields
from clarice.io.cryosparc_write import write_cs
from clarice.io.stack import open_particles, write_particles
from clarice.io.star import read_star, write_star


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> SmallStack:
    return make_stack(tmp_path_factory.mktemp("stack"))


def run(*words: object) -> None:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, ClariceError):
        raise result.exception
    assert result.exit_code == 0, result.output


def refusal(*words: object) -> str:
    with pytest.raises(InputError) as caught:
        run(*words)
    return str(caught.value)


def without_pixel_size(path: Path) -> Path:
    """The map, its cell's lengths wiped out."""
    with path.open("r+b") as file:
        file.seek(40)
        file.write(bytes(12))
    return path


def test_a_map_without_pixel_size_is_to_be_mended_itself(stack: SmallStack, tmp_path: Path) -> None:
    """Whether the command has a --pixel-size, which is of the images, or not."""
    whole = stack.table.parent / "map.mrc"
    bare = without_pixel_size(Path(shutil.copy(whole, tmp_path / "bare.mrc")))
    for words in (
        ("evaluate", "map", bare, "--truth", whole),
        ("evaluate", "halves", whole, bare),
        ("postprocess", bare, whole, "-o", tmp_path / "out"),
        ("refine", stack.table, "--map", bare, "-o", tmp_path / "out", "--pixel-size", "2"),
        ("simulate", "--map", bare, "-o", tmp_path / "out", "--pixel-size", "2"),
    ):
        assert "bare.mrc has no pixel size: write it there (field CELLA)" in refusal(*words)


def two_groups(stack: SmallStack, path: Path) -> Path:
    """The stack with its classes and poses, in two optics groups that differ in pixel size, the larger one second."""
    blocks = read_star(stack.with_poses)
    optics, rows = blocks["optics"], blocks["particles"]
    doubled = optics.loc[[0, 0]].reset_index(drop=True)
    doubled["rlnOpticsGroup"] = ["1", "2"]
    doubled["rlnImagePixelSize"] = [f"{stack.pixel_size_angstrom * factor:.6f}" for factor in (1, 1.1)]
    rows["rlnOpticsGroup"] = np.where(np.arange(COUNT) < 50, "1", "2")
    rows["rlnClassNumber"] = np.where(np.arange(COUNT) % 2 == 0, "1", "2")
    write_star(path, {"optics": doubled, "particles": rows})
    shutil.copy(stack.table.parent / "particles.mrcs", path.parent)
    return path


def test_selection_and_comparison_of_images_take_the_group_they_ask_for(stack: SmallStack, tmp_path: Path) -> None:
    table = two_groups(stack, tmp_path / "groups.star")
    select = ("select", table, "--classes", "1", "-o", tmp_path / "good.star")
    compare = ("evaluate", "images", table, "--truth", table)
    for words in (select, compare):
        assert "pass --optics-group N" in refusal(*words)
        run(*words, "--optics-group", "1")
    assert len(open_particles(tmp_path / "good.star")) == 25


def test_selection_takes_the_pixel_size_it_asks_for(stack: SmallStack, tmp_path: Path) -> None:
    table = tmp_path / "sizeless.star"
    table.write_text(two_groups(stack, tmp_path / "groups.star").read_text().replace("_rlnImagePixelSize", "_rlnOther"))
    select = ("select", table, "--classes", "1", "-o", tmp_path / "good.star")
    assert "pass --pixel-size" in refusal(*select)
    run(*select, "--pixel-size", "2.5")
    assert open_particles(tmp_path / "good.star").pixel_size_angstrom == pytest.approx(2.5)


def test_poses_and_classes_are_compared_whatever_the_pixel_size(stack: SmallStack, tmp_path: Path) -> None:
    table = two_groups(stack, tmp_path / "groups.star")
    for part in ("poses", "classes"):
        run("evaluate", part, table, "--truth", table)


@pytest.fixture
def dataset(stack: SmallStack, tmp_path: Path) -> Path:
    """The stack as a .cs file without poses, classes and exposure groups."""
    path = tmp_path / "bare.cs"
    write_particles(open_particles(stack.table), path)
    rows = read_cs(path).rows
    kept = [name for name in rows.dtype.names or () if name != "ctf/exp_group_id"]
    write_cs(path, rows[kept])
    return path


def test_a_dataset_is_told_of_its_own_fields(dataset: Path, stack: SmallStack, tmp_path: Path) -> None:
    assert "alignments3D/pose" in refusal("reconstruct", dataset, "-o", tmp_path / "out")
    assert "alignments3D/pose" in refusal("evaluate", "poses", dataset, "--truth", dataset)
    assert "alignments2D/class" in refusal("evaluate", "classes", dataset, "--truth", dataset)
    assert "alignments2D/class" in refusal("select", dataset, "--auto", "-o", tmp_path / "good.cs")
    assert "_rlnAngleRot" in refusal("reconstruct", stack.table, "-o", tmp_path / "out")


def test_a_dataset_without_groups_is_not_asked_for_one(dataset: Path) -> None:
    rows = read_cs(dataset).rows
    sizes = np.where(np.arange(len(rows)) < 50, 2.0, 2.2).astype(np.float32)
    write_cs(dataset, with_fields(rows, {"blob/psize_A": sizes}))
    said = refusal("check", dataset)
    assert "no field ctf/exp_group_id parts them; split the file" in said
    assert "--optics-group" not in said


def test_a_passthrough_file_serves_the_classes_themselves(dataset: Path, tmp_path: Path) -> None:
    rows = read_cs(dataset).rows
    blob = [name for name in rows.dtype.names or () if name.startswith("blob/")]
    write_cs(tmp_path / "images.cs", rows[["uid", *blob]])
    classes = with_fields(rows[["uid"]], {"alignments2D/class": (np.arange(len(rows)) % 2).astype(np.uint32)})
    write_cs(tmp_path / "classes.cs", classes)
    words = ("select", tmp_path / "images.cs", "--passthrough", tmp_path / "classes.cs", "--classes", "2")
    run(*words, "-o", tmp_path / "good.cs")
    assert len(open_particles(tmp_path / "good.cs")) == COUNT // 2
