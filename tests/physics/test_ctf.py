"""The contrast transfer function: sign, formula, astigmatism, envelope, and other programs' values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clarice.core.particles import Optics
from clarice.geometry.fourier import centred_fft2, centred_ifft2, frequency_grid
from clarice.physics.ctf import apply_ctf, ctf, electron_wavelength_angstrom, radial_ctf


def make_optics(count: int = 3, bfactor: float = 0.0, astigmatism: float = 3000.0) -> Optics:
    rng = np.random.default_rng(5)
    defocus = rng.uniform(8000, 25000, count)
    return Optics(
        voltage_kv=np.array([300.0, 200.0, 120.0])[:count],
        spherical_aberration_mm=np.array([2.7, 0.01, 2.0])[:count],
        amplitude_contrast=np.array([0.1, 0.07, 0.2])[:count],
        defocus_u_angstrom=defocus + astigmatism / 2,
        defocus_v_angstrom=defocus - astigmatism / 2,
        defocus_angle_deg=np.array([20.0, -65.0, 130.0])[:count],
        phase_shift_deg=np.array([0.0, 90.0, 45.0])[:count],
        bfactor_angstrom2=np.full(count, bfactor),
    )


def slow_ctf(optics: Optics, row: int, fx: float, fy: float) -> float:
    """The published formula for one frequency in 1/Å, angles and all."""
    wavelength = float(electron_wavelength_angstrom(optics.voltage_kv[row]))
    squared = fx**2 + fy**2
    theta = np.arctan2(fy, fx) - np.deg2rad(optics.defocus_angle_deg[row])
    u, v = optics.defocus_u_angstrom[row], optics.defocus_v_angstrom[row]
    defocus = 0.5 * (u + v + (u - v) * np.cos(2 * theta))
    spherical = optics.spherical_aberration_mm[row] * 1e7
    chi = np.pi * wavelength * defocus * squared - np.pi / 2 * spherical * wavelength**3 * squared**2
    chi += np.deg2rad(optics.phase_shift_deg[row]) + np.arcsin(optics.amplitude_contrast[row])
    return float(np.sin(chi) * np.exp(-optics.bfactor_angstrom2[row] * squared / 4))


def test_wavelength_is_the_textbook_value() -> None:
    assert electron_wavelength_angstrom(300.0) == pytest.approx(0.0196875, abs=2e-7)
    assert electron_wavelength_angstrom(200.0) == pytest.approx(0.0250793, abs=2e-7)


@pytest.mark.parametrize("box", [16, 17])
def test_ctf_is_the_formula_at_every_pixel(box: int) -> None:
    optics = make_optics(bfactor=80.0)
    values = ctf(optics, box, 2.5)
    assert values.shape == (3, box, box)
    assert values.dtype == torch.float32
    for row in range(3):
        for y in range(box):
            for x in range(box):
                fx, fy = (x - box // 2) / (box * 2.5), (y - box // 2) / (box * 2.5)
                assert float(values[row, y, x]) == pytest.approx(slow_ctf(optics, row, fx, fy), abs=3e-5)


def test_ctf_is_plus_the_amplitude_contrast_at_zero_frequency() -> None:
    optics = make_optics()
    values = ctf(optics, 32, 3.0)[:, 16, 16]
    expected = np.sin(np.deg2rad(optics.phase_shift_deg) + np.arcsin(optics.amplitude_contrast))
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert float(values[0]) == pytest.approx(0.1)


def test_defocus_u_lies_along_its_angle_from_x_towards_y() -> None:
    one = make_optics(1)
    box, pixel_size = 64, 4.0
    turned = Optics(**{**one.__dict__, "defocus_angle_deg": np.array([45.0])})
    along = Optics(**{**one.__dict__, "defocus_v_angstrom": one.defocus_u_angstrom})
    step = 9  # towards +x and +y index alike, which is 45°
    frequency = torch.tensor([np.hypot(step, step) / (box * pixel_size)])
    value = ctf(turned, box, pixel_size)[0, 32 + step, 32 + step]
    assert float(value) == pytest.approx(float(radial_ctf(along, frequency)[0, 0]), abs=1e-4)


def test_radial_ctf_is_the_ctf_without_astigmatism() -> None:
    optics = make_optics(bfactor=50.0, astigmatism=0.0)
    box, pixel_size = 32, 3.0
    fy, fx = frequency_grid(box)
    radius = torch.hypot(fy, fx) / pixel_size
    torch.testing.assert_close(
        radial_ctf(optics, radius.flatten()).reshape(3, box, box),
        ctf(optics, box, pixel_size),
        atol=1e-4,
        rtol=0,
    )


@pytest.mark.parametrize("box", [20, 21])
def test_applying_the_ctf_multiplies_the_spectrum(box: int) -> None:
    images = torch.randn((3, box, box), generator=torch.Generator().manual_seed(1))
    if box % 2 == 0:  # keep off the Nyquist lines, which a real image shares between both signs
        spectrum = centred_fft2(images)
        spectrum[:, 0, :] = 0
        spectrum[:, :, 0] = 0
        images = centred_ifft2(spectrum).real
    optics = make_optics()
    expected = centred_ifft2(centred_fft2(images) * ctf(optics, box, 3.0)).real
    torch.testing.assert_close(apply_ctf(images, optics, 3.0), expected, atol=1e-4, rtol=0)


def test_applying_the_ctf_is_its_own_adjoint_and_passes_gradients() -> None:
    generator = torch.Generator().manual_seed(2)
    a, b = torch.randn((2, 3, 15, 15), generator=generator)
    optics = make_optics()
    left = float((apply_ctf(a, optics, 3.0) * b).sum())
    assert left == pytest.approx(float((a * apply_ctf(b, optics, 3.0)).sum()), rel=1e-4)
    a.requires_grad_()
    (apply_ctf(a, optics, 3.0) * b).sum().backward()
    torch.testing.assert_close(a.grad, apply_ctf(b, optics, 3.0), atol=1e-4, rtol=0)


@pytest.mark.parametrize("astigmatism", [0.0, 3000.0])
def test_torch_ctf_gives_the_same(astigmatism: float) -> None:
    torch_ctf = pytest.importorskip("torch_ctf")
    optics, box, pixel_size = make_optics(astigmatism=astigmatism), 32, 3.0
    for row in range(3):
        theirs = torch_ctf.calculate_ctf_2d(
            defocus=(optics.defocus_u_angstrom[row] + optics.defocus_v_angstrom[row]) / 2e4,
            astigmatism=astigmatism / 2e4,
            astigmatism_angle=optics.defocus_angle_deg[row],
            voltage=optics.voltage_kv[row],
            spherical_aberration=optics.spherical_aberration_mm[row],
            amplitude_contrast=optics.amplitude_contrast[row],
            phase_shift=optics.phase_shift_deg[row],
            pixel_size=pixel_size,
            image_shape=(box, box),
            rfft=False,
            fftshift=True,
        )
        ours = ctf(optics.subset(np.array([row])), box, pixel_size)[0]
        torch.testing.assert_close(theirs.float(), ours, atol=1e-3, rtol=0)


def test_real_defocus_values_stay_exact_in_single_precision(shared_data: Path) -> None:
    table = np.load(shared_data / "formats" / "ctf_EMPIAR-10028_cryodrgn.npz")["ctf"][::20_000].astype(float)
    count = len(table)
    zero = np.zeros(count)
    optics = Optics(table[:, 5], table[:, 6], table[:, 7], table[:, 2], table[:, 3], table[:, 4], zero, zero)
    values = ctf(optics, 48, 1.34)
    for row in range(count):
        for y, x in ((0, 0), (5, 40), (24, 47)):
            fx, fy = (x - 24) / (48 * 1.34), (y - 24) / (48 * 1.34)
            assert float(values[row, y, x]) == pytest.approx(slow_ctf(optics, row, fx, fy), abs=5e-4)
