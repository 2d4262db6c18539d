"""Judging: a turned and mirrored truth is right, a wrong map is not, symmetry is taken out of angles and views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clarice.benchmark.protocol import SimulatedStack, judge_classes, judge_map, judge_poses, read_rows
from clarice.core.errors import InputError
from clarice.geometry.so3 import euler_to_matrix, matrix_to_euler, sphere_grid, symmetry_rotations
from clarice.io.mrc import read_mrc, write_mrc
from clarice.io.star import read_star, write_star
from clarice.metrics.registration import HALF_TURN, apply_superposition

TURN = euler_to_matrix(np.array([[40.0, 70.0, 110.0]]))[0]
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")


def table_with(stack: SimulatedStack, path: Path, **columns: object) -> Path:
    truth = read_star(stack.folder / "truth.star")
    write_star(path, {"optics": truth["optics"], "particles": truth["particles"].assign(**columns)})
    return path


def with_rotations(stack: SimulatedStack, path: Path, rotations: np.ndarray) -> Path:
    return table_with(stack, path, **dict(zip(ANGLES, matrix_to_euler(rotations).T, strict=True)))


def test_the_truth_turned_and_mirrored_is_right(small_stack: SimulatedStack, tmp_path: Path) -> None:
    volume, pixel_size = read_mrc(small_stack.true_map)
    moved = apply_superposition(volume, TURN, np.array([1.0, 0.5, -1.0]), mirrored=True)
    write_mrc(tmp_path / "moved.mrc", moved, pixel_size, is_volume=True)
    scores = judge_map(tmp_path / "moved.mrc", small_stack)
    assert scores.right
    assert scores.hand == "mirrored"
    assert scores.fsc_05_px < 2.5
    assert scores.fsc_05_angstrom == pytest.approx(scores.fsc_05_px * pixel_size, rel=1e-3)


def test_noise_is_not_right(small_stack: SimulatedStack, tmp_path: Path) -> None:
    volume, pixel_size = read_mrc(small_stack.true_map)
    noise = np.random.default_rng(1).normal(size=volume.shape).astype(np.float32)
    write_mrc(tmp_path / "noise.mrc", noise, pixel_size, is_volume=True)
    scores = judge_map(tmp_path / "noise.mrc", small_stack)
    assert not scores.right
    assert scores.fsc_05_px > 4


def test_orientation_errors_are_modulo_hand_gauge_and_symmetry(small_stack: SimulatedStack, tmp_path: Path) -> None:
    truth = small_stack.truth.rotations
    group = symmetry_rotations("C2")
    members = group[np.random.default_rng(2).integers(2, size=len(truth))]
    found = HALF_TURN @ truth @ members @ TURN
    exact = judge_poses(with_rotations(small_stack, tmp_path / "exact.star", found), small_stack)
    assert exact["orientation_median_deg"] < 0.01
    third = euler_to_matrix(np.array([[120.0, 0.0, 0.0]]))[0]
    broken = truth.copy()
    broken[::2] = broken[::2] @ third  # no member of C2
    wrong = judge_poses(with_rotations(small_stack, tmp_path / "broken.star", broken), small_stack)
    assert wrong["orientation_mean_deg"] > 10
    tilted = euler_to_matrix(np.array([[0.0, 5.0, 0.0]]))[0] @ truth
    small = judge_poses(with_rotations(small_stack, tmp_path / "tilted.star", tilted), small_stack)
    assert small["orientation_median_deg"] == pytest.approx(5, abs=1.5)


def test_rows_are_matched_by_section_whatever_their_order(small_stack: SimulatedStack, tmp_path: Path) -> None:
    truth = read_star(small_stack.folder / "truth.star")
    order = np.random.default_rng(3).permutation(len(truth["particles"]))
    shuffled = {"optics": truth["optics"], "particles": truth["particles"].iloc[order]}
    write_star(tmp_path / "shuffled.star", shuffled)
    rotations = read_rows(tmp_path / "shuffled.star", small_stack).rotations
    assert rotations is not None
    np.testing.assert_allclose(rotations, small_stack.truth.rotations, atol=1e-5)
    write_star(tmp_path / "short.star", {**shuffled, "particles": truth["particles"].iloc[1:]})
    with pytest.raises(InputError, match="each of the 60 particles"):
        read_rows(tmp_path / "short.star", small_stack)


def test_classes_of_one_view_are_pure_and_narrow_and_random_ones_are_not(
    small_stack: SimulatedStack, tmp_path: Path
) -> None:
    directions = small_stack.truth.rotations[:, 2, :]
    copies = np.einsum("gij,nj->gni", symmetry_rotations("C2"), directions)
    cells = np.argmax((copies @ sphere_grid(8).T).max(axis=0), axis=1) + 1
    good = judge_classes(table_with(small_stack, tmp_path / "good.star", rlnClassNumber=cells), small_stack, 8)
    labels = np.random.default_rng(4).integers(1, 9, size=len(directions))
    poor = judge_classes(table_with(small_stack, tmp_path / "poor.star", rlnClassNumber=labels), small_stack, 8)
    assert good["purity"] == 1
    assert poor["purity"] < 0.6
    assert good["view_spread_deg"] < 0.7 * poor["view_spread_deg"]
    with pytest.raises(InputError, match="no classes"):
        judge_classes(small_stack.folder / "truth.star", small_stack, 8)
