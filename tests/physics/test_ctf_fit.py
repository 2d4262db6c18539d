"""Defocus from power spectra: of made micrographs whose CTF is known, and of real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clarice.core.errors import InputError
from clarice.core.particles import Optics
from clarice.io.micrograph import read_micrograph
from clarice.io.micrograph_ctf import read_micrograph_ctf
from clarice.physics.ctf import ctf_at
from clarice.physics.ctf_fit import FitRange, Microscope, fit_ctf

TITAN = Microscope(300.0, 2.7, 0.1)
PIXEL = 1.5


def micrograph(u: float, v: float, angle: float, noise: float = 2.0, edge: int = 1024) -> np.ndarray:
    """White scattering seen through a CTF, with white noise on it."""
    one = np.ones(1)
    optics = Optics(300 * one, 2.7 * one, 0.1 * one, u * one, v * one, angle * one, 0 * one, 0 * one)
    fy, fx = (
        torch.from_numpy(f).float() for f in np.meshgrid(np.fft.fftfreq(edge), np.fft.rfftfreq(edge), indexing="ij")
    )
    transfer = ctf_at(optics, fx / PIXEL, fy / PIXEL)[0]
    generator = torch.Generator().manual_seed(1)
    scattering = torch.randn((edge, edge), generator=generator)
    seen = torch.fft.irfft2(torch.fft.rfft2(scattering) * transfer, s=(edge, edge))
    return (seen + noise * torch.randn((edge, edge), generator=generator)).numpy()


@pytest.mark.parametrize(
    ("u", "v", "angle"), [(15_000.0, 15_000.0, 0.0), (22_000.0, 20_500.0, 30.0), (9_000.0, 8_000.0, 150.0)]
)
def test_the_defocus_of_a_made_micrograph_is_found(u: float, v: float, angle: float) -> None:
    found = fit_ctf(micrograph(u, v, angle), PIXEL, TITAN)
    assert (found.defocus_u_angstrom + found.defocus_v_angstrom) / 2 == pytest.approx((u + v) / 2, rel=0.01)
    assert found.defocus_u_angstrom >= found.defocus_v_angstrom
    assert found.defocus_u_angstrom - found.defocus_v_angstrom == pytest.approx(u - v, abs=250)
    if u > v:
        off = (found.defocus_angle_deg - angle + 90) % 180 - 90
        assert abs(off) < 8
    assert found.correlation > 0.1
    assert not found.is_no_better_than_noise


@pytest.mark.parametrize("edge", [300, 512, 1024])
def test_noise_alone_correlates_with_no_ctf(edge: int) -> None:
    for seed in range(3):
        found = fit_ctf(np.random.default_rng(seed).normal(size=(edge, edge)).astype(np.float32), PIXEL, TITAN)
        assert found.is_no_better_than_noise


def test_defocus_and_astigmatism_stay_within_their_range() -> None:
    """Though the micrograph's own lie outside."""
    image = micrograph(18_000.0, 16_500.0, 30.0)
    within = FitRange(least_defocus_angstrom=17_000.0)
    assert fit_ctf(image, PIXEL, TITAN, within).defocus_v_angstrom >= 17_000
    within = FitRange(largest_defocus_angstrom=17_500.0)
    assert fit_ctf(image, PIXEL, TITAN, within).defocus_u_angstrom <= 17_500
    found = fit_ctf(image, PIXEL, TITAN, FitRange(largest_astigmatism_angstrom=700.0))
    assert found.defocus_u_angstrom - found.defocus_v_angstrom <= 700


def test_micrographs_that_show_no_rings_are_refused() -> None:
    with pytest.raises(InputError, match="too small"):
        fit_ctf(np.zeros((127, 300), dtype=np.float32), PIXEL, TITAN)
    with pytest.raises(InputError, match="leave no Thon rings"):
        fit_ctf(np.random.default_rng(1).normal(size=(300, 300)).astype(np.float32), 12.0, TITAN, FitRange(30.0, 25.0))


def test_real_micrographs_have_the_defocus_that_others_fitted(shared_data: Path) -> None:
    folder = shared_data / "micrographs" / "apoferritin"
    known = read_micrograph_ctf(folder / "micrographs_ctf.star")
    assert known.microscope is not None
    for name in ("May08_03.15.02", "May08_05.35.20"):
        found = fit_ctf(read_micrograph(folder / "average" / f"{name}.png"), 1.5, Microscope(*known.microscope))
        ctf = known.by_stem[name]
        mean = (ctf.defocus_u_angstrom + ctf.defocus_v_angstrom) / 2
        assert (found.defocus_u_angstrom + found.defocus_v_angstrom) / 2 == pytest.approx(mean, rel=0.02)
        assert found.correlation > 2 * found.noise_correlation
