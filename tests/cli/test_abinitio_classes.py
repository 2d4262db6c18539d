"""`clarice abinitio --classes` and `--junk`: particles told apart by the map they show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.cli.map_commands import COUNT, SmallStack, make_stack, run

from clarice.core.errors import UsageError
from clarice.io.mrc import read_mrc, write_mrc
from clarice.io.stack import open_particles, write_particles
from clarice.io.star import read_star
from clarice.metrics.registration import register
from clarice.metrics.shells import fsc


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> SmallStack:
    return make_stack(tmp_path_factory.mktemp("stack"))


@pytest.fixture(scope="module")
def mixed(stack: SmallStack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stack's table, with noise in place of every fifth particle."""
    folder = tmp_path_factory.mktemp("mixed")
    particles = open_particles(stack.table)
    images = particles.read().copy()
    images[::5] = images.std() * np.random.default_rng(1).standard_normal(images[::5].shape)
    write_mrc(folder / "images.mrcs", images, particles.pixel_size_angstrom, is_volume=False)
    write_particles(particles, folder / "particles.star", images_path=folder / "images.mrcs")
    return folder / "particles.star"


def test_junk_gets_a_class_of_its_own(mixed: Path, stack: SmallStack, tmp_path: Path) -> None:
    options = ("--junk", "0.2", "--starts", "2", "--max-shift", "15", "--contrast", "dark")
    (tmp_path / "abinitio_2.mrc").write_bytes(b"of no earlier call, which would have left its record")
    said = run("abinitio", mixed, "-o", tmp_path, *options)
    names = {"abinitio_1.mrc", "abinitio_1_mirror.mrc", "particles.star", "abinitio.json"}
    assert {path.name for path in tmp_path.iterdir()} == names | {"abinitio_2.mrc"}
    record = json.loads((tmp_path / "abinitio.json").read_text())
    kept, junk = record["particles"]
    assert record["has_junk"]
    assert kept + junk == COUNT
    assert f"{kept} particles, and {junk} of junk" in said
    (evidence,) = record["random_phases"]
    assert evidence["gain"] > max(0, 2 * evidence["randomised"])
    assert "phases" not in said
    table = read_star(tmp_path / "particles.star")["particles"]
    number = table["rlnClassNumber"].astype(int).to_numpy()
    assert np.mean(number[::5] == 2) > 0.8
    assert np.mean(np.delete(number, np.s_[::5]) == 1) > 0.9
    assert (table["rlnMaxValueProbDistribution"].astype(float)[number == 2] == 0).all()
    registered = register(read_mrc(tmp_path / "abinitio_1.mrc")[0], stack.simulated.volume)
    assert fsc(registered.volume, stack.simulated.volume)[1:7].min() > 0.5


def test_several_maps_come_in_both_hands_the_largest_first(stack: SmallStack, tmp_path: Path) -> None:
    for name in ("abinitio.json", "abinitio.mrc", "abinitio_3.mrc", "abinitio_3_mirror.mrc"):
        (tmp_path / name).write_bytes(b"of an earlier call")
    others = {"abinitio_from_relion.mrc", "abinitio_3_masked.mrc"}
    for name in others:
        (tmp_path / name).write_bytes(b"the user's own")
    said = run("abinitio", stack.table, "-o", tmp_path, "--classes", "2", "--starts", "1", "--contrast", "dark")
    maps = {f"abinitio_{number}{hand}.mrc" for number in (1, 2) for hand in ("", "_mirror")}
    assert {path.name for path in tmp_path.iterdir()} == maps | others | {"particles.star", "abinitio.json"}
    first, second = json.loads((tmp_path / "abinitio.json").read_text())["particles"]
    assert first >= second
    assert first + second == COUNT
    assert f"{first}, {second} particles" in said
    number = read_star(tmp_path / "particles.star")["particles"]["rlnClassNumber"].astype(int)
    assert [(number == each).sum() for each in (1, 2)] == [first, second]


def test_more_structures_than_particles_are_refused(stack: SmallStack, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="200 particles cannot show 201 structures"):
        run("abinitio", stack.table, "-o", tmp_path, "--classes", "201", "--contrast", "dark")
    assert not list(tmp_path.glob("*.mrc"))
