"""Transfer functions made radial: the ring mean in closed form, the grouping, and the turned images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clarice.core.particles import ArraySource, Optics, ParticleSet
from clarice.denoise.radial_transfer import (
    MOST_GROUPS,
    mean_square_ctf,
    radial_transfer,
    transfer_groups,
    turned_radial,
)
from clarice.physics.ctf import ctf_at
from clarice.physics.noisy_set import NoisySet, white_set


def optics(defocus: np.ndarray, astigmatism: float = 600.0, bfactor: float = 30.0) -> Optics:
    ones = np.ones(len(defocus))
    return Optics(
        300 * ones,
        2.7 * ones,
        0.1 * ones,
        defocus + astigmatism / 2,
        defocus - astigmatism / 2,
        35 * ones,
        20 * ones,
        bfactor * ones,
    )


def noise_set(parameters: Optics, box: int = 32, pixel: float = 3.0) -> NoisySet:
    shape = (len(parameters), box, box)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(1)).numpy()
    return white_set(ParticleSet(ArraySource(images), pixel, optics=parameters))


def test_the_closed_form_is_the_mean_over_the_ring() -> None:
    parameters = optics(np.array([8_000.0, 21_000.0]), astigmatism=1500)
    frequencies = np.linspace(0.002, 0.15, 40)
    theta = torch.arange(720) * 2 * np.pi / 720
    radii = torch.from_numpy(frequencies).float()[:, None]
    plain = ctf_at(parameters, radii * torch.cos(theta), radii * torch.sin(theta)).square().mean(dim=2)
    assert np.allclose(mean_square_ctf(parameters, frequencies), plain, atol=2e-3)


def test_equal_optics_make_one_group_whatever_the_angle_of_astigmatism() -> None:
    parameters = optics(np.repeat([10_000.0, 20_000.0], 5))
    parameters = replace(parameters, defocus_angle_deg=np.arange(10.0))
    groups = transfer_groups(noise_set(parameters))
    assert len(groups) == 2
    assert np.array_equal(groups.group, np.repeat([0, 1], 5))


def test_defoci_of_their_own_are_quantised_and_stay_near_the_truth() -> None:
    defocus = np.random.default_rng(0).uniform(10_000, 30_000, 3000)
    noisy = noise_set(optics(defocus), box=16)
    groups = transfer_groups(noisy)
    assert len(groups) <= MOST_GROUPS
    radii = np.linspace(0, 0.3, 30)
    grouped = radial_transfer(noisy, groups, radii).numpy()[groups.group]
    exact = np.sqrt(mean_square_ctf(optics(defocus), radii / 3.0))
    assert float(np.sqrt(np.mean((grouped - exact) ** 2))) < 0.03


def test_phase_shifts_of_their_own_are_quantised_as_well() -> None:
    """Each micrograph of a phase plate has another."""
    rng = np.random.default_rng(0)
    parameters = replace(optics(rng.uniform(5_000, 8_000, 3000)), phase_shift_deg=rng.uniform(20, 120, 3000))
    noisy = noise_set(parameters, box=16)
    groups = transfer_groups(noisy)
    assert len(groups) <= MOST_GROUPS
    radii = np.linspace(0, 0.2, 30)
    grouped = radial_transfer(noisy, groups, radii).numpy()[groups.group]
    exact = np.sqrt(mean_square_ctf(parameters, radii / 3.0))
    assert float(np.sqrt(np.mean((grouped - exact) ** 2))) < 0.06


def test_noise_groups_keep_their_own_whitening() -> None:
    noisy = noise_set(optics(np.full(6, 15_000.0)))
    whitening = np.stack([np.ones(17), np.full(17, 3.0)])
    noisy = replace(noisy, whitening=whitening, noise_group=np.array([0, 1, 0, 1, 0, 1]))
    groups = transfer_groups(noisy)
    transfer = radial_transfer(noisy, groups, np.array([0.1]))
    assert len(groups) == 2
    assert float(transfer[groups.group[1], 0]) == pytest.approx(3 * float(transfer[groups.group[0], 0]))


def test_turned_noise_stays_white_and_round_transfers_are_only_flipped() -> None:
    noisy = noise_set(optics(np.linspace(10_000, 30_000, 64), astigmatism=800))
    assert float(turned_radial(noisy, np.arange(64)).square().mean()) == pytest.approx(1.0, abs=0.02)
    round_set = noise_set(optics(np.linspace(10_000, 30_000, 8), astigmatism=0))
    rows = np.arange(8)
    spectrum = torch.fft.rfft2(round_set.images(rows)) * torch.sign(round_set.ctf_of(rows))
    flipped = torch.fft.irfft2(spectrum, s=(32, 32))
    assert torch.allclose(turned_radial(round_set, rows), flipped, atol=5e-3)
