"""One frame and the mean of the others, against sums written out and signals that are known."""

from __future__ import annotations

import numpy as np
import pytest

from clarice.benchmark.frame_targets import Agreement, agreement, ceiling, mean_of_others, raw_spectra, share_of_frame
from clarice.benchmark.real_frames import EXPLAINED, explained
from clarice.core.particles import ArraySource, FloatArray, ParticleSet
from clarice.metrics.shells import half_shells

FRAMES = 8


def smooth(generator: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    """A signal that has nothing at the frequencies of noise alone."""
    spectrum = np.fft.rfft2(generator.normal(size=shape))
    radius = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    found: FloatArray = np.fft.irfft2(spectrum * (radius < 0.2), s=shape)
    return found


def test_the_mean_of_the_others_is_found_whatever_the_scale_of_the_mean_of_all() -> None:
    generator = np.random.default_rng(1)
    signal = smooth(generator, (300, 280))
    movie = (signal + generator.normal(size=(FRAMES, 300, 280))).astype(np.float32)
    average = 40 * movie.mean(axis=0) + 1000
    assert share_of_frame(average, movie[2]) == pytest.approx(40 / FRAMES, rel=0.03)
    rest = mean_of_others(average, movie[2])
    truth = 40 / FRAMES * np.delete(movie, 2, axis=0).sum(axis=0)
    assert np.corrcoef(rest.ravel(), truth.ravel())[0, 1] > 0.999
    noise = movie[2] - signal
    assert abs(np.corrcoef((rest - 1000 - 35 * signal).ravel(), noise.ravel())[0, 1]) < 0.03


def stack(images: FloatArray) -> ParticleSet:
    return ParticleSet(ArraySource(images.astype(np.float32)), 2.0)


def test_agreement_is_the_sum_over_every_coefficient() -> None:
    generator, box = np.random.default_rng(2), 12
    one, other = generator.normal(size=(2, 300, box, box))
    names = np.array(["b", "a", "b"] * 100)
    found = agreement(raw_spectra(stack(one)), stack(other), names)
    a, b = (np.fft.fft2(images.astype(np.float32).astype(np.float64)) for images in (one, other))
    shell = np.rint(np.hypot(*np.meshgrid(np.fft.fftfreq(box, 1 / box), np.fft.fftfreq(box, 1 / box))))
    for number, name in enumerate(("a", "b")):
        for k in range(box // 2 + 1):
            at = (names == name)[:, None, None] & (shell == k)
            assert found.cross[number, k] == pytest.approx((a * b.conj()).real[at].sum(), rel=1e-6, abs=1e-6)
            assert found.images[number, k] == pytest.approx((np.abs(a[at]) ** 2).sum(), rel=1e-6)
            assert found.targets[number, k] == pytest.approx((np.abs(b[at]) ** 2).sum(), rel=1e-6)
    apart = agreement(raw_spectra(stack(one[names == "b"])), stack(other[names == "b"]), names[names == "b"])
    assert np.allclose(found.without(0).correlation, apart.correlation)


def test_the_ceiling_is_what_the_clean_images_reach() -> None:
    generator, box, count = np.random.default_rng(3), 16, 4000
    shells, _ = half_shells(box, 2)
    strength = 1.5 / (1 + np.minimum(shells, box // 2))
    clean = np.fft.irfft2(np.fft.rfft2(generator.normal(size=(count, box, box))) * strength, s=(box, box))
    movie = clean + generator.normal(size=(FRAMES, count, box, box))
    others, names = stack(movie[1:].mean(axis=0)), np.array(["m"] * count)
    raw = agreement(raw_spectra(stack(movie[0])), others, names)
    true = agreement(raw_spectra(stack(clean)), others, names)
    assert np.allclose(ceiling(raw.correlation, FRAMES), true.correlation, atol=0.02)
    assert true.correlation.min() < 0.6
    wide = slice(1, 8)
    assert explained(true, raw, FRAMES, wide) == pytest.approx(1, abs=0.03)
    expected = (raw.correlation**2 * raw.power)[wide].sum() / (true.correlation**2 * true.power)[wide].sum()
    assert explained(raw, raw, FRAMES, wide) == pytest.approx(expected, abs=0.02)
    upside_down = Agreement(-true.cross, true.images, true.targets)
    assert explained(upside_down, raw, FRAMES, wide) == 0
    brighter = Agreement(7 * true.cross, 49 * true.images, true.targets)
    assert explained(brighter, raw, FRAMES, wide) == pytest.approx(explained(true, raw, FRAMES, wide))


def test_the_ceiling_of_what_correlates_with_nothing_is_zero() -> None:
    assert ceiling(np.array([-0.1, 0.0, 1.0]), 50).tolist() == [0, 0, 1]
    assert EXPLAINED.start > 0
