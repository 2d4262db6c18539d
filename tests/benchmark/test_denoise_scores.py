"""Scores of sets are those of the metrics, summed as the definition says; sorting is judged up to what is arbitrary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.benchmark.denoise_sets import made

from clarice.benchmark.denoise_scores import Answer, fitted_to, output_power, over_sets, score
from clarice.benchmark.denoise_sorting import judge_sorting
from clarice.metrics.image import inscribed_disk, psnr, relative_mse, ssim


def test_figures_of_sets_are_the_metrics_own(tmp_path: Path) -> None:
    one, other = made(tmp_path / "a"), made(tmp_path / "b", snr=2.0)
    figures = over_sets([score(Answer(each.noisy, 1.0), each) for each in (one, other)])
    both = np.concatenate([one.noisy, other.noisy]), np.concatenate([one.clean, other.clean])
    assert figures["relative_mse"] == pytest.approx(relative_mse(*both), rel=1e-5)
    assert figures["psnr_db"] == pytest.approx(psnr(*both), rel=1e-5)
    assert figures["ssim"] == pytest.approx(ssim(*both), rel=1e-5)
    assert 0 < figures["frc_05"] <= figures["frc_0143"] <= 0.5
    assert figures["output_power"] == pytest.approx(output_power(both[0]), rel=1e-5)


def test_the_truth_is_perfect(tmp_path: Path) -> None:
    one = made(tmp_path)
    with np.errstate(divide="ignore"):
        figures = over_sets([score(Answer(one.clean, 1.0), one)])
    assert figures["relative_mse"] == 0
    assert figures["frc_05"] == figures["frc_0143"] == pytest.approx(0.5)


def test_power_is_that_inside_the_disk() -> None:
    images = np.ones((2, 16, 16), dtype=np.float32)
    assert output_power(images) == inscribed_disk(16).sum()


def test_fitting_finds_the_factor(tmp_path: Path) -> None:
    one = made(tmp_path)
    assert np.allclose(fitted_to(-3 * one.clean, one), one.clean, atol=1e-5)
    assert not fitted_to(np.zeros_like(one.clean), one).any()


def test_true_classes_with_any_angle_of_their_own_are_perfect(tmp_path: Path) -> None:
    truth = made(tmp_path, size=40)
    own_angle = np.linspace(0, 40, 8)[truth.shown.view]
    figures = judge_sorting((7 - truth.shown.view) * 10, truth.shown.angle_rad + own_angle, truth)
    assert figures == pytest.approx({"purity": 1.0, "ari": 1.0, "angle_error_deg": 0.0}, abs=1e-9)


def test_angle_errors_are_seen_and_one_class_for_all_is_impure(tmp_path: Path) -> None:
    truth = made(tmp_path, size=40)
    off = truth.shown.angle_rad + np.deg2rad(5) * np.where(np.arange(40) % 2, 1, -1)
    assert 4 < judge_sorting(truth.shown.view, off, truth)["angle_error_deg"] < 11
    together = judge_sorting(np.zeros(40, dtype=np.int64), None, truth)
    assert together["purity"] == np.bincount(truth.shown.view).max() / 40
    assert together["ari"] == pytest.approx(0, abs=1e-9)
    assert "angle_error_deg" not in together


def test_nothing_is_said_where_every_view_is_different(tmp_path: Path) -> None:
    truth = made(tmp_path, size=8, setting="all-different")
    assert judge_sorting(np.zeros(8, dtype=np.int64), truth.shown.angle_rad, truth) == {}
