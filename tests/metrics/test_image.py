from __future__ import annotations

import numpy as np
import pytest
import torch

from clarice.metrics.image import (
    ImageScores,
    correlation,
    fitted,
    image_scores,
    inscribed_disk,
    psnr,
    relative_mse,
    ssim,
)


@pytest.fixture(params=[24, 25])
def images(request):
    random = np.random.default_rng(0)
    truth = random.normal(size=(3, request.param, request.param)) + 1
    return truth + 0.5 * random.normal(size=truth.shape), truth


def in_disk(index, box):
    return (index[0] - box // 2) ** 2 + (index[1] - box // 2) ** 2 <= (box / 2) ** 2


def test_relative_mse_and_psnr_equal_the_plain_loop(images):
    estimate, truth = images
    box = truth.shape[-1]
    error, power, decibels = 0.0, 0.0, []
    for x, y in zip(estimate, truth, strict=True):
        inside = [index for index in np.ndindex(x.shape) if in_disk(index, box)]
        squares = [(x[index] - y[index]) ** 2 for index in inside]
        values = [y[index] for index in inside]
        error, power = error + sum(squares), power + sum(value**2 for value in values)
        peak = max(values) - min(values)
        decibels.append(10 * np.log10(peak**2 / np.mean(squares)))
    assert relative_mse(estimate, truth) == pytest.approx(error / power)
    assert psnr(estimate, truth) == pytest.approx(np.mean(decibels))


def test_what_lies_outside_the_disk_does_not_count(images):
    estimate, truth = images
    spoilt = np.where(inscribed_disk(truth.shape[-1]), estimate, 1e6)
    assert relative_mse(spoilt, truth) == relative_mse(estimate, truth)
    np.testing.assert_array_equal(correlation(spoilt, truth), correlation(estimate, truth))


def test_known_errors():
    truth = np.random.default_rng(1).normal(size=(4, 32, 32))
    assert relative_mse(truth, truth) == 0
    assert relative_mse(np.zeros_like(truth), truth) == 1
    assert psnr(truth, truth) == np.inf
    assert ssim(truth, truth) == pytest.approx(1)
    np.testing.assert_allclose(correlation(-2 * truth + 3, truth), -1)


def test_a_fit_takes_out_its_own_kind_of_error_and_no_other(images):
    _, truth = images
    changed = truth * np.array([2.0, -0.5, 3.0])[:, None, None]
    assert relative_mse(changed, truth, "scale") == pytest.approx(0, abs=1e-12)
    assert relative_mse(changed + 4, truth, "scale") > 0.05
    assert relative_mse(changed + 4, truth, "scale_offset") == pytest.approx(0, abs=1e-12)
    assert relative_mse(changed, truth) > 0.5


def test_the_fit_is_least_squares(images):
    estimate, truth = images
    disk = inscribed_disk(truth.shape[-1])
    best = fitted(estimate, truth, "scale_offset")
    for x, y, found in zip(estimate, truth, best, strict=True):
        columns = np.stack([x[disk], np.ones(disk.sum())], axis=1)
        solution = np.linalg.lstsq(columns, y[disk], rcond=None)[0]
        np.testing.assert_allclose(found, solution[0] * x + solution[1])


def test_ssim_falls_with_noise_and_takes_tensors(images):
    estimate, truth = images
    little = truth + 0.1 * (estimate - truth)
    assert 1 > ssim(little, truth) > ssim(estimate, truth) > 0
    assert relative_mse(torch.as_tensor(estimate), torch.as_tensor(truth)) == relative_mse(estimate, truth)


def test_unfit_images_are_refused():
    with pytest.raises(ValueError, match="measured against"):
        relative_mse(np.zeros((2, 8, 8)), np.zeros((3, 8, 8)))
    with pytest.raises(ValueError, match="not zero"):
        relative_mse(np.zeros((2, 8, 8)), np.zeros((2, 8, 8)))
    with pytest.raises(ValueError, match="at least 11"):
        ssim(np.zeros((2, 8, 8)), np.zeros((2, 8, 8)))


def test_scores_of_parts_join_to_those_of_the_set(images):
    estimate, truth = images
    joined = ImageScores.joined([image_scores(estimate[:1], truth[:1]), image_scores(estimate[1:], truth[1:])])
    assert joined.relative_mse == pytest.approx(relative_mse(estimate, truth))
    assert joined.psnr_db.mean() == pytest.approx(psnr(estimate, truth))
    assert joined.ssim.mean() == pytest.approx(ssim(estimate, truth))
    np.testing.assert_allclose(joined.correlation, correlation(estimate, truth))
