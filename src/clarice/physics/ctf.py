"""The contrast transfer function, `H = +sin χ`: bright protein keeps a positive `H(0)`.

    χ = π λ Δz s² − (π/2) C_s λ³ s⁴ + phase_shift + arcsin w
    Δz = ½ [U + V + (U − V) cos 2(θ − θ_U)],  θ from +x towards +y

damped by the envelope exp(−B s² / 4). CTFFIND and cryoDRGN write −H.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.particles import Optics
from clarice.geometry.fourier import frequency_grid

# Physical constants, SI (CODATA 2018; all but the electron's mass are exact).
_PLANCK = 6.62607015e-34
_ELECTRON_MASS = 9.1093837015e-31
_ELEMENTARY_CHARGE = 1.602176634e-19
_LIGHT_SPEED = 299_792_458.0


def electron_wavelength_angstrom(voltage_kv: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Relativistic wavelength of electrons accelerated by `voltage_kv`, Å (0.0197 Å at 300 kV)."""
    energy = _ELEMENTARY_CHARGE * 1e3 * np.asarray(voltage_kv, dtype=np.float64)
    relativistic = 1 + energy / (2 * _ELECTRON_MASS * _LIGHT_SPEED**2)
    return np.asarray(_PLANCK / np.sqrt(2 * _ELECTRON_MASS * energy * relativistic) * 1e10)


def _coefficients(optics: Optics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """χ and the envelope's exponent as coefficients (n, 5) and (n,) of (fx², fy², fx·fy, s⁴, 1) and s².

    The defocus term written out in fx and fy needs no angle per pixel: s² cos 2(θ − θ_U) is
    (fx² − fy²) cos 2θ_U + 2 fx fy sin 2θ_U.
    """
    wavelength = electron_wavelength_angstrom(optics.voltage_kv)
    mean = (optics.defocus_u_angstrom + optics.defocus_v_angstrom) / 2
    half_difference = (optics.defocus_u_angstrom - optics.defocus_v_angstrom) / 2
    double_angle = 2 * np.deg2rad(optics.defocus_angle_deg)
    along, across = half_difference * np.cos(double_angle), half_difference * np.sin(double_angle)
    spherical_angstrom = optics.spherical_aberration_mm * 1e7
    phase = np.stack(
        [
            np.pi * wavelength * (mean + along),
            np.pi * wavelength * (mean - along),
            np.pi * wavelength * 2 * across,
            -np.pi / 2 * spherical_angstrom * wavelength**3,
            np.deg2rad(optics.phase_shift_deg) + np.arcsin(optics.amplitude_contrast),
        ],
        axis=1,
    )
    return phase, -optics.bfactor_angstrom2 / 4


def ctf_at(optics: Optics, fx: Tensor, fy: Tensor) -> Tensor:
    """CTF of each particle at frequencies `fx`, `fy` (1/Å, both of one shape S): (n, *S) float32."""
    phase, envelope = _coefficients(optics)
    squared = fx**2 + fy**2
    terms = torch.stack([fx**2, fy**2, fx * fy, squared**2, torch.ones_like(fx)]).flatten(1)
    device, count = fx.device, len(optics)
    chi = torch.as_tensor(phase, dtype=torch.float32, device=device) @ terms
    values = torch.sin(chi).reshape(count, *fx.shape)
    if np.any(envelope != 0):
        exponent = torch.as_tensor(envelope, dtype=torch.float32, device=device)
        values = values * torch.exp(exponent.reshape(-1, *[1] * fx.ndim) * squared)
    return values


def ctf(optics: Optics, box: int, pixel_size_angstrom: float, device: torch.device | None = None) -> Tensor:
    """CTF of each particle on the centred Fourier grid, (n, box, box) float32, axes (ky, kx)."""
    fy, fx = frequency_grid(box, device)
    return ctf_at(optics, fx / pixel_size_angstrom, fy / pixel_size_angstrom)


def radial_ctf(optics: Optics, frequencies_per_angstrom: Tensor) -> Tensor:
    """CTF at the mean defocus (U + V) / 2, without astigmatism: (n, k) for frequencies (k,) in 1/Å."""
    mean = (optics.defocus_u_angstrom + optics.defocus_v_angstrom) / 2
    round_optics = Optics(
        optics.voltage_kv,
        optics.spherical_aberration_mm,
        optics.amplitude_contrast,
        mean,
        mean,
        np.zeros_like(mean),
        optics.phase_shift_deg,
        optics.bfactor_angstrom2,
    )
    frequencies = torch.as_tensor(frequencies_per_angstrom, dtype=torch.float32)
    return ctf_at(round_optics, frequencies, torch.zeros_like(frequencies))


def apply_ctf(images: Tensor, optics: Optics, pixel_size_angstrom: float) -> Tensor:
    """Images (n, L, L) multiplied in Fourier space by the CTF of their row; differentiable in `images`.

    The CTF spreads an image over λ·Δz·s around each point: pad by that much first where the rim matters.
    """
    box = images.shape[-1]
    fy, fx = rfft_frequency_grid(box, images.device)
    transfer = ctf_at(optics, fx / pixel_size_angstrom, fy / pixel_size_angstrom)
    filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) * transfer, s=(box, box))
    return filtered


def rfft_frequency_grid(box: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Frequencies (fy, fx) in cycles per pixel of `torch.fft.rfft2`'s output, each (L, L // 2 + 1)."""
    fy, fx = torch.meshgrid(
        torch.fft.fftfreq(box, device=device), torch.fft.rfftfreq(box, device=device), indexing="ij"
    )
    return fy, fx
