from __future__ import annotations

import numpy as np
import pytest

from clarice.metrics.shells import (
    frc,
    fsc,
    resolution_at,
    shell_frequencies,
)


def plain_shell_correlation(a, b):
    """Every Fourier element of the full centred transform, one at a time."""
    box = a.shape[-1]
    fa, fb = (np.fft.fftshift(np.fft.fftn(x)) for x in (a, b))
    cross, pa, pb = (np.zeros(box // 2 + 1) for _ in range(3))
    for index in np.ndindex(a.shape):
        shell = round(np.sqrt(sum((i - box // 2) ** 2 for i in index)))
        if shell <= box // 2:
            cross[shell] += (fa[index] * np.conj(fb[index])).real
            pa[shell] += abs(fa[index]) ** 2
            pb[shell] += abs(fb[index]) ** 2
    return cross / np.sqrt(pa * pb)


@pytest.mark.parametrize("box", [11, 12])
def test_correlations_equal_the_plain_loop(box):
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, box, box, box))
    np.testing.assert_allclose(fsc(a, b), plain_shell_correlation(a, b), atol=1e-12)
    curves = frc(a, b)
    assert curves.shape == (box, box // 2 + 1)
    for row in range(box):
        np.testing.assert_allclose(curves[row], plain_shell_correlation(a[row], b[row]), atol=1e-12)


def test_fsc_of_equal_spectra_states_their_signal_to_noise_ratio():
    random = np.random.default_rng(1)
    signal, noise1, noise2 = random.normal(size=(3, 40, 40, 40))
    curve = fsc(signal + 0.5 * noise1, signal + 0.5 * noise2)
    assert np.median(curve[5:]) == pytest.approx(1 / 1.25, abs=0.02)


def test_fsc_ignores_scale_and_shells_without_power_are_zero():
    random = np.random.default_rng(2)
    a = random.normal(size=(16, 16, 16))
    np.testing.assert_allclose(fsc(a, -3 * a), -1)
    assert not fsc(a, np.zeros_like(a)).any()


def test_unequal_or_oblong_grids_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        fsc(np.zeros((8, 8, 8)), np.zeros((9, 9, 9)))
    with pytest.raises(ValueError, match="equal trailing axes"):
        frc(np.zeros((2, 8, 9)), np.zeros((2, 8, 9)))


def test_resolution_is_interpolated_at_the_first_crossing():
    curve = np.array([1, 1, 0.9, 0.4, 0.6, 0.1])
    assert resolution_at(curve, 0.5, 2.0, 10) == pytest.approx(20 / 2.8)
    assert resolution_at(curve, 0.05, 2.0, 10) == 4.0
    assert resolution_at(np.array([1, 0.1, 0, 0, 0, 0]), 0.5, 2.0, 10) == 20.0
    assert resolution_at(np.array([0, 1, 1, 0, 0, 0]), 0.5, 2.0, 10) == pytest.approx(20 / 2.5)


def test_shell_frequencies_end_at_nyquist_for_even_boxes():
    assert shell_frequencies(64, 2.0)[-1] == pytest.approx(0.25)
    assert shell_frequencies(65, 2.0)[-1] == pytest.approx(32 / 130)
