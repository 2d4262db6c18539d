"""Sets of the protocol `denoise`: SNR and noise as stated, one signal under all noises, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.benchmark.denoise_sets import ENTRY, made, store

from clarice.benchmark.denoise_cells import Cell, Sheet
from clarice.benchmark.denoise_sets import joined, seed_of, with_noise
from clarice.benchmark.structures import load_subject


def test_gaussian_noise_has_variance_one_and_the_stated_snr(tmp_path: Path) -> None:
    one = made(tmp_path, snr=0.05, size=64)
    assert float((one.noisy - one.clean).var()) == pytest.approx(1.0, abs=0.02)
    assert float(np.square(one.clean).mean()) == pytest.approx(0.05, rel=1e-3)


def test_poisson_noise_has_variance_one_and_the_stated_snr(tmp_path: Path) -> None:
    one = made(tmp_path, snr=0.1, noise="poisson", size=64)
    noise = one.noisy - one.clean
    assert float(noise.var()) == pytest.approx(1.0, abs=0.02)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(np.square(one.clean).mean()) == pytest.approx(0.1, rel=0.01)
    # Counts are whole numbers before they are scaled.
    values = np.unique(one.noisy)
    assert len(values) < 30
    assert np.allclose(np.diff(values), np.diff(values)[0], rtol=1e-3)


def test_noise_kinds_and_snrs_share_the_signal_and_calls_repeat(tmp_path: Path) -> None:
    kept = store(tmp_path)
    subject = load_subject(ENTRY, None)
    sheet = kept.sheet
    first, again = (next(kept.signals(subject)) for _ in range(2))
    assert first is again
    low, high, same = (with_noise(first, Cell(sheet, "gaussian", snr), 1) for snr in (0.02, 0.08, 0.02))
    assert np.allclose(2 * low.clean, high.clean)
    assert np.array_equal(low.noisy, same.noisy)
    assert not np.allclose(low.noisy - low.clean, high.noisy - high.clean, atol=0.5)


def test_single_images_are_one_stack(tmp_path: Path) -> None:
    kept = store(tmp_path, "single", 1, sets=6)
    sets = [with_noise(one, Cell(kept.sheet, "gaussian", 0.1), 1) for one in kept.signals(load_subject(ENTRY, None))]
    assert [len(one) for one in sets] == [1] * 6
    assert [one.number for one in sets] == list(range(6))
    assert float(np.mean([np.square(one.clean).mean() for one in sets])) == pytest.approx(0.1, rel=1e-3)
    assert len({one.noisy.tobytes() for one in sets}) == 6


def test_the_ctf_comes_with_optics_and_shifts(tmp_path: Path) -> None:
    plain, passed = made(tmp_path / "a"), made(tmp_path / "b", snr=0.5, ctf="on")
    assert plain.optics is None
    assert np.all(plain.poses.shifts_px == 0)
    assert passed.optics is not None
    assert np.abs(passed.poses.shifts_px).max() > 1
    transfer = passed.noisy_set().transfer_of(np.arange(24))
    signal = torch.fft.irfft2(torch.fft.rfft2(torch.from_numpy(passed.clean)) * transfer, s=(32, 32)).numpy()
    assert float((passed.noisy - signal).var()) < 1.1 < float((passed.noisy - passed.clean).var())


def test_joined_sets_keep_order_and_optics(tmp_path: Path) -> None:
    one, other = made(tmp_path / "a", ctf="on"), made(tmp_path / "b", ctf="on", size=8)
    both = joined([one, other])
    assert len(both) == 32
    assert np.array_equal(both.images(np.arange(24, 32)).numpy(), other.noisy)
    assert torch.equal(both.transfer_of(np.array([25])), other.noisy_set().transfer_of(np.array([1])))


@pytest.mark.parametrize("noise", ["gaussian", "poisson"])
def test_an_emptied_set_is_noise_alone(tmp_path: Path, noise: str) -> None:
    empty = made(tmp_path, noise=noise).emptied(noise, 3)
    assert float(empty.noisy.var()) == pytest.approx(1.0, abs=0.03)
    assert float(empty.noisy.mean()) == pytest.approx(0.0, abs=0.03)
    assert not empty.clean.any()


def test_seeds_differ_by_every_word() -> None:
    assert len({seed_of(1, "a", 2), seed_of(1, "a", 3), seed_of(2, "a", 2), seed_of(1, "b", 2)}) == 4
    assert Sheet("general", 8, "off") == Sheet("general", 8, "off")
