"""Class averages from true assignments give the true shape, in any box; their halves tell signal from noise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.classify.blobs import Blobs, make_blobs

from clarice.classify.align import Assignment
from clarice.classify.average import aligned_rings, class_averages, halves_of
from clarice.classify.classes import Classes2D
from clarice.core.particles import ArraySource
from clarice.geometry import so3
from clarice.geometry.polar import FourierRings, from_hartley
from clarice.physics.ctf import ctf
from clarice.physics.noisy_set import white_set


def truth(blobs: Blobs) -> Assignment:
    count = len(blobs.shape)
    return Assignment(
        torch.from_numpy(blobs.shape),
        torch.from_numpy(blobs.angle_rad).float(),
        torch.from_numpy(blobs.shift_px).float(),
        torch.ones(count),
        torch.ones(count),
    )


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("box", [32, 33])
def test_averages_at_the_true_assignment_show_the_true_shapes(box: int) -> None:
    blobs = make_blobs(box=box, count=400, snr=0.3)
    averages = class_averages(blobs.observed, truth(blobs), 4)
    for index in range(4):
        assert correlation(averages.images[index].numpy(), blobs.templates[index]) > 0.97
    assert averages.images.shape == (4, box, box)


def test_amplitude_is_that_of_the_shape_without_ctf() -> None:
    blobs = make_blobs(count=400, snr=2.0, ctf=False)
    averages = class_averages(blobs.observed, truth(blobs), 4)
    for index in range(4):
        template = blobs.templates[index] - blobs.templates[index].mean()
        image = averages.images[index].numpy()
        slope = (image * template).sum() / (template**2).sum()
        assert slope == pytest.approx(1.0, abs=0.06)


def test_aligned_rings_agree_with_exact_images() -> None:
    blobs = make_blobs(count=6, n_shapes=1, snr=1e4, ctf=False)
    rings = FourierRings.up_to(32, 15, 32)
    stack = blobs.observed.rings(rings, np.arange(6))
    aligned = aligned_rings(stack, torch.from_numpy(blobs.shift_px).float(), torch.from_numpy(blobs.angle_rad).float())
    for image in rings.to_images(from_hartley(aligned)).numpy():
        assert correlation(image, blobs.templates[0]) > 0.995


def test_sums_agree_with_a_plain_loop_over_pixels() -> None:
    """CTF-weighted average of particles that need no turn, pixel by pixel of the Fourier plane."""
    blobs = make_blobs(count=60, n_shapes=1, snr=5.0)
    images = blobs.observed.particles.read()
    assert blobs.observed.particles.optics is not None
    transfer = ctf(blobs.observed.particles.optics, 32, blobs.observed.particles.pixel_size_angstrom).numpy()
    spectra = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes=(1, 2))), axes=(1, 2))
    numerator = np.zeros((32, 32), dtype=complex)
    denominator = np.zeros((32, 32))
    for spectrum, filtering in zip(spectra, transfer, strict=True):
        numerator += filtering * spectrum
        denominator += filtering**2
    plain = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(numerator / (denominator + 0.05)))).real
    still = replace(
        truth(blobs), angle_rad=torch.zeros(60), shift_px=torch.zeros((60, 2)), class_index=torch.zeros(60).long()
    )
    ours = class_averages(blobs.observed, still, 1, diameter_px=32.0).images[0].numpy()
    inside = np.hypot(*np.mgrid[-16:16, -16:16]) < 12
    assert correlation(ours[inside], plain[inside]) > 0.97


def test_resolution_of_signal_and_of_noise() -> None:
    blobs = make_blobs(count=400, snr=0.5)
    noise = np.random.default_rng(3).standard_normal((400, 32, 32)).astype(np.float32)
    empty = white_set(replace(blobs.observed.particles, images=ArraySource(noise)))
    signal = class_averages(blobs.observed, truth(blobs), 4)
    nothing = class_averages(empty, truth(blobs), 4)
    assert (signal.resolution_angstrom < 17).all()
    assert (nothing.resolution_angstrom > 30).all()
    assert np.abs(nothing.frc[:, 3:]).mean() < 0.35


def test_a_weak_innermost_shell_does_not_end_the_resolution() -> None:
    """Without the lowest frequencies, which the CTF passes least, the detail is the same."""
    blobs = make_blobs(count=400, snr=0.5)
    images = blobs.observed.particles.read()
    spectra = np.fft.fft2(images)
    kx, ky = np.meshgrid(np.fft.fftfreq(32, 1 / 32), np.fft.fftfreq(32, 1 / 32))
    noise = np.random.default_rng(8).standard_normal(images.shape)
    lowest = np.hypot(kx, ky) < 1.6
    mixed = np.where(lowest, np.fft.fft2(noise), spectra)
    particles = replace(blobs.observed.particles, images=ArraySource(np.fft.ifft2(mixed).real.astype(np.float32)))
    whole = class_averages(blobs.observed, truth(blobs), 4).resolution_angstrom
    without = class_averages(white_set(particles), truth(blobs), 4).resolution_angstrom
    assert np.allclose(without, whole, rtol=0.15)


def test_classes_of_none_and_of_one_have_no_resolution() -> None:
    blobs = make_blobs(count=20)
    assignment = replace(truth(blobs), class_index=torch.tensor([1] + [0] * 19))
    averages = class_averages(blobs.observed, assignment, 3)
    assert math.isfinite(averages.resolution_angstrom[0])
    assert np.isinf(averages.resolution_angstrom[1:]).all()
    assert (averages.images[2] == 0).all()


def test_halves_are_balanced_in_each_class_or_as_known() -> None:
    group = torch.tensor([0] * 11 + [1] * 6)
    half = halves_of(group, None, torch.Generator().manual_seed(0))
    assert abs(int(half[:11].sum()) - 5.5) <= 0.5
    assert int(half[11:].sum()) == 3
    known = torch.tensor([1, 2] * 8 + [1])
    assert torch.equal(halves_of(group, known, torch.Generator()), known - 1)


def test_psi_is_relions() -> None:
    """The class, seen with psi, is the particle: R(psi) turns content by the angle found."""
    angle = np.deg2rad([0.0, 35.0, 120.0, 180.0, 275.0])
    classes = Classes2D.__new__(Classes2D)
    object.__setattr__(classes, "angle_rad", angle)
    psi = classes.psi_deg
    assert ((psi > -180) & (psi <= 180)).all()
    zeros = np.zeros_like(psi)
    relion = so3.euler_to_matrix(np.stack([zeros, zeros, psi], axis=1))
    assert so3.angle_between_deg(relion, so3.in_plane(np.rad2deg(angle))).max() < 1e-4
