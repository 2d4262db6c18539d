"""What is drawn for batches: the shares, ranges and kinds of sets that the settings ask for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clarice.core.errors import UsageError
from clarice.core.particles import Optics
from clarice.physics.ctf import ctf_at, rfft_frequency_grid
from clarice.training.set_draws import (
    SetDraws,
    SetSettings,
    draw_sets,
    largest_batch,
    optics_in_pixels,
    with_defaults,
)

SETTINGS = SetSettings(seed=3, images_per_batch=64, sizes=(8,), size_weights=(1.0,))


def many(settings: SetSettings, count: int = 60) -> list[SetDraws]:
    return [draw_sets(settings, position, slots=5) for position in range(count)]


def test_sizes_come_as_often_as_their_weights() -> None:
    settings = SetSettings(seed=3, images_per_batch=64, sizes=(1, 64), size_weights=(1.0, 3.0))
    sizes = [draws.view.shape for draws in many(settings, 200)]
    assert set(sizes) == {(64, 1), (1, 64)}
    assert sizes.count((1, 64)) == pytest.approx(150, abs=20)


def test_all_kinds_of_sets_occur() -> None:
    """One view, every image its own, and numbers between."""
    views = [len(row.unique()) for draws in many(SETTINGS) for row in draws.view if (row >= 0).all()]
    share = np.bincount(views, minlength=9) / len(views)
    assert share[1] > 0.15  # one view by its own odds, and the least of the log-uniform ones
    assert share[8] > 0.15
    assert np.all(share[2:6] > 0.05)


def test_shares_are_kept() -> None:
    draws = many(SETTINGS)
    empty = torch.cat([one.view for one in draws]) < 0
    assert float(empty.all(dim=1).float().mean()) == pytest.approx(0.08, abs=0.04)
    assert float((empty.any(dim=1) & ~empty.all(dim=1)).float().mean()) == pytest.approx(0.07, abs=0.04)
    assert np.mean([one.defocus_rows is not None for one in draws]) == pytest.approx(0.5, abs=0.2)
    assert np.mean(np.concatenate([one.poisson for one in draws])) == pytest.approx(0.15, abs=0.06)
    shifted = torch.cat([one.shifts_px for one in draws]).abs().amax(dim=(1, 2))
    assert float((shifted > 0).float().mean()) == pytest.approx(0.5, abs=0.12)
    assert 3.5 < float(shifted.max()) <= 4.0


def test_snr_is_log_uniform_over_its_range() -> None:
    snr = torch.cat([one.snr for one in many(SETTINGS)])
    assert 0.005 <= float(snr.min()) < 0.006
    assert 0.16 < float(snr.max()) <= 0.2
    assert float(snr.median()) == pytest.approx((0.005 * 0.2) ** 0.5, rel=0.25)


def test_specimens_of_a_batch_differ_while_they_last() -> None:
    settings = SetSettings(seed=3, images_per_batch=32, sizes=(8,), size_weights=(1.0,))
    assert len(np.unique(draw_sets(settings, 0, slots=5).slot)) == 4
    counts = np.bincount(draw_sets(SETTINGS, 0, slots=5).slot, minlength=5)
    assert counts.min() >= 1


def test_optics_in_pixels_give_the_ctf_of_optics_in_angstrom() -> None:
    settings = SetSettings(seed=3, images_per_batch=8, sizes=(4,), size_weights=(1.0,), ctf_share=1.0)
    draws = draw_sets(settings, 0, slots=2)
    assert draws.defocus_rows is not None
    assert draws.microscope is not None
    fy, fx = rfft_frequency_grid(16)
    found = ctf_at(optics_in_pixels(draws, np.array([2.0, 3.5])), fx, fy).reshape(2, 4, *fx.shape)
    for row, pixel in enumerate((2.0, 3.5)):
        kv, mm, contrast = (np.full(4, value) for value in draws.microscope[row])
        optics = Optics(kv, mm, contrast, *draws.defocus_rows[row].T, np.zeros(4), np.zeros(4))
        assert torch.allclose(found[row], ctf_at(optics, fx / pixel, fy / pixel), atol=2e-4)


def test_the_largest_batch_has_the_largest_sets_there_are_and_a_ctf() -> None:
    settings = SetSettings(
        seed=3, images_per_batch=64, sizes=(1, 64, 8, 32), size_weights=(8.0, 0.0, 8.0, 1.0), ctf_share=0.3
    )
    for start in (0, 40):
        position = largest_batch(settings, start)
        draws = draw_sets(settings, position, slots=5)
        assert position >= start
        assert draws.view.shape == (2, 32)
        assert draws.defocus_rows is not None


def test_what_a_recipe_leaves_out_is_usual() -> None:
    assert SetSettings(seed=1, **with_defaults({"ctf_share": 0.25})) == SetSettings(seed=1, ctf_share=0.25)


def test_sets_without_ctf_have_no_optics() -> None:
    settings = SetSettings(seed=3, images_per_batch=8, sizes=(4,), size_weights=(1.0,), ctf_share=0.0)
    with pytest.raises(ValueError, match="without a CTF"):
        optics_in_pixels(draw_sets(settings, 0, 2), np.ones(2))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"images_per_batch": 100}, "no multiple of 8"),
        ({"sizes": ()}, "sizes"),
        ({"sizes": (1, 2)}, "as many as sizes"),
        ({"least_snr": 0.0}, "SNR"),
        ({"ctf_share": 1.5}, "ctf_share"),
        ({"one_view_share": 0.7, "own_views_share": 0.7}, "exceed 1"),
        ({"empty_set_share": 0.7, "some_empty_share": 0.7}, "exceed 1"),
        ({"seed": -1}, "seed"),
        ({"images_per_batch": 0}, "images_per_batch 0 must be at least 1"),
        ({"images_per_batch": 64.0}, "images_per_batch 64.0 must be a whole number"),
        ({"sizes": [2.0, 4.0]}, "a list of whole numbers"),
        ({"sizes": 8}, "a list of whole numbers"),
        ({"size_weights": [float("nan")]}, "a list of numbers"),
        ({"least_snr": "low"}, "least_snr 'low' must be a number"),
        ({"max_shift_px": [4.0]}, "must be a number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        SetSettings(**{"seed": 1, **options})  # type: ignore[arg-type]
