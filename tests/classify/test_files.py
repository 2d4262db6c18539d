"""Classes on disk: every row and column of the input, RELION's meaning, and the measures back for selection."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.classify.blobs import PIXEL_ANGSTROM, Blobs, make_blobs

from clarice.classify.classes import Classes2D, classify
from clarice.classify.files import quality_of, read_quality, write_classes
from clarice.core.errors import InputError
from clarice.core.particles import ParticleSet, Poses
from clarice.geometry import so3
from clarice.io.mrc import read_mrc, write_mrc
from clarice.io.stack import open_particles, write_particles
from clarice.io.star import read_star

K = 5


@pytest.fixture(scope="module")
def blobs() -> Blobs:
    return make_blobs(count=160)


@pytest.fixture(scope="module")
def classes(blobs: Blobs) -> Classes2D:
    return classify(blobs.observed, K, iterations=8, seed=2)


@pytest.fixture
def raw(blobs: Blobs, tmp_path: Path) -> ParticleSet:
    write_mrc(tmp_path / "raw.mrcs", blobs.observed.particles.read(), PIXEL_ANGSTROM)
    count = len(blobs.shape)
    euler = np.stack([np.arange(count) % 90.0, np.full(count, 30.0), np.zeros(count)], axis=1)
    write_particles(
        blobs.observed.particles,
        tmp_path / "raw.star",
        images_path=tmp_path / "raw.mrcs",
        poses=Poses(so3.euler_to_matrix(euler), np.ones((count, 2))),
        extra_columns={"labFavourite": np.arange(count)},
    )
    return open_particles(tmp_path / "raw.star")


def test_the_most_populated_class_comes_first(classes: Classes2D) -> None:
    assert (np.diff(classes.population) <= 0).all()
    assert classes.population.sum() == 160
    assert (np.bincount(classes.class_index, minlength=K) == classes.population).all()
    members = classes.members(1)
    assert len(members) == classes.population[0]
    assert (np.diff(classes.probability[members]) <= 0).all()


def test_members_keep_the_input_and_gain_the_alignment(classes: Classes2D, raw: ParticleSet, tmp_path: Path) -> None:
    write_classes(classes, raw, tmp_path / "out")
    table = read_star(tmp_path / "out" / "class_members.star")["particles"]
    before = read_star(tmp_path / "raw.star")["particles"]
    assert table["labFavourite"].tolist() == before["labFavourite"].tolist()
    assert table["rlnDefocusU"].tolist() == before["rlnDefocusU"].tolist()
    assert set(before) <= set(table)
    assert table["rlnClassNumber"].astype(int).tolist() == classes.class_number.tolist()
    assert np.allclose(table["rlnOriginXAngst"].astype(float), classes.shift_px[:, 0] * 4, atol=1e-3)
    assert np.allclose(table["rlnAnglePsi"].astype(float), classes.psi_deg, atol=1e-3)
    # A tilt of an earlier refinement beside the new psi would be a wrong pose.
    assert (table["rlnAngleTilt"].astype(float) == 0).all()
    again = open_particles(tmp_path / "out" / "class_members.star")
    assert np.array_equal(again.read(np.array([3])), raw.read(np.array([3])))
    assert again.class_number is not None


def test_class_table_names_its_images(classes: Classes2D, raw: ParticleSet, tmp_path: Path) -> None:
    write_classes(classes, raw, tmp_path / "out", sign=-1)
    table = read_star(tmp_path / "out" / "classes.star")["model_classes"]
    assert table["rlnReferenceImage"][1] == "000002@classes.mrcs"
    assert table["rlnClassDistribution"].astype(float).sum() == pytest.approx(1, abs=1e-4)
    images, pixel = read_mrc(tmp_path / "out" / "classes.mrcs")
    assert images.shape == (K, 32, 32)
    assert pixel == pytest.approx(4.0)
    assert np.allclose(images, -classes.images, atol=1e-6)


def test_quality_returns_from_its_record(classes: Classes2D, raw: ParticleSet, tmp_path: Path) -> None:
    without = replace(classes, contrast=np.where(np.arange(K) == 4, np.nan, classes.contrast))
    write_classes(without, raw, tmp_path / "out", settings={"seed": 2})
    record = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert record["seed"] == 2
    assert record["classes"][4]["contrast"] is None
    back, expected = read_quality(tmp_path / "out" / "classes.json"), quality_of(without)
    for name in ("population", "resolution_angstrom", "contrast", "class_fit"):
        left = np.nan_to_num(getattr(back, name), nan=-1, posinf=-1)
        assert np.allclose(left, np.nan_to_num(getattr(expected, name), nan=-1, posinf=-1))


@pytest.mark.parametrize("content", [None, "{", "[]", '{"classes": [{"number": 1}]}', '{"classes": 3}'])
def test_a_damaged_record_is_one_sentence(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"classes\.json"):
        read_quality(path)
