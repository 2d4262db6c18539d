"""One test named after each clause of core/conventions.py; docs/conventions.md gives the reasons."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import clarice
from clarice.core.conventions import CLAUSES, centre_index
from clarice.core.particles import ArraySource, Optics, ParticleSet, Poses
from clarice.geometry import so3
from clarice.geometry.fourier import centred_fft2
from clarice.geometry.polar import FourierRings
from clarice.geometry.slices import project
from clarice.metrics.image import relative_mse
from clarice.metrics.registration import register
from clarice.metrics.shells import resolution_at
from clarice.physics.ctf import ctf, electron_wavelength_angstrom
from clarice.physics.noise import radial_noise_spectrum, white_noise
from clarice.physics.simulate import MapPotential, SimulationSettings, simulate
from clarice.pipeline.prepare import prepare

SOURCES = sorted(Path(clarice.__file__).parent.rglob("*.py"))
IDENTITY = np.eye(3)[None]


def blob(box: int, *centres_xyz: tuple[float, float, float], width: float = 1.5) -> Tensor:
    """A volume of Gaussians at (x, y, z) pixels from the centre, each a little weaker than the one before."""
    axis = torch.arange(box, dtype=torch.float32) - box // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    volume = torch.zeros(box, box, box)
    for number, (cx, cy, cz) in enumerate(centres_xyz):
        distance = (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2
        volume += torch.exp(-distance / (2 * width**2)) / (1 + number / 3)
    return volume


def centre_of_mass(image: Tensor | NDArray[np.float32]) -> NDArray[np.float64]:
    """(x, y) of the brightness of an image, pixels from index L // 2."""
    weights = np.asarray(image, dtype=np.float64).clip(min=0)
    weights[weights < 0.02 * weights.max()] = 0
    axis = np.arange(len(weights)) - len(weights) // 2
    return np.array([weights.sum(0) @ axis, weights.sum(1) @ axis]) / weights.sum()


def some_optics(**changes: float) -> Optics:
    values = {
        "voltage_kv": 300.0,
        "spherical_aberration_mm": 2.7,
        "amplitude_contrast": 0.1,
        "defocus_u_angstrom": 21000.0,
        "defocus_v_angstrom": 15000.0,
        "defocus_angle_deg": 35.0,
        "phase_shift_deg": 20.0,
        "bfactor_angstrom2": 0.0,
    }
    return Optics(**{name: np.array([value]) for name, value in (values | changes).items()})


def test_every_clause_has_its_test() -> None:
    tests = {name for name, _ in inspect.getmembers(sys.modules[__name__], inspect.isfunction)}
    assert {f"test_{clause}" for clause in CLAUSES} <= tests


@pytest.mark.parametrize("box", [24, 25])
def test_images(box: int) -> None:
    image = project(blob(box, (3, -4, 5)), IDENTITY)
    assert image.shape == (1, box, box)
    assert image.dtype == torch.float32
    row, column = np.unravel_index(int(image[0].argmax()), (box, box))
    assert (column - box // 2, row - box // 2) == (3, -4)


@pytest.mark.parametrize("box", [24, 25])
def test_centre(box: int) -> None:
    assert centre_index(box) == box // 2
    image = torch.zeros(box, box)
    image[box // 2, box // 2] = 1
    torch.testing.assert_close(centred_fft2(image), torch.ones(box, box, dtype=torch.complex64))
    for rotation in so3.random_rotations(4, torch.Generator().manual_seed(0)):
        view = project(blob(box, (0, 0, 0)), rotation[None])[0]
        np.testing.assert_allclose(centre_of_mass(view), 0, atol=1e-3)


@pytest.mark.parametrize("box", [32, 33])
def test_fourier_transform(box: int) -> None:
    spectrum = centred_fft2(torch.ones(box, box))
    assert spectrum[box // 2, box // 2].real.item() == pytest.approx(box**2)
    noise = 3 * white_noise(300, box, torch.Generator().manual_seed(1))
    assert centred_fft2(noise).abs().square().mean().item() / box**2 == pytest.approx(9, rel=0.02)
    measured = radial_noise_spectrum(noise, radius_px=0.4 * box)
    assert measured[2:].numpy() == pytest.approx(9, rel=0.1)


def test_rotation() -> None:
    molecule = np.array([6.0, -3.0, 4.0])
    rotations = so3.random_rotations(5, torch.Generator().manual_seed(2))
    views = project(blob(33, tuple(molecule)), rotations)
    for rotation, view in zip(rotations, views, strict=True):
        np.testing.assert_allclose(centre_of_mass(view), (rotation @ molecule)[:2], atol=0.05)
    np.testing.assert_allclose(so3.view_directions(rotations), rotations[:, 2])


def test_euler_angles() -> None:
    euler = np.array([[10.0, 20.0, 30.0], [-140.0, 95.0, 170.0]])

    def about(axis: int, degrees: float) -> NDArray[np.float64]:
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        matrix, angle = np.eye(3), np.deg2rad(degrees)
        matrix[i, i] = matrix[j, j] = np.cos(angle)
        matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
        return matrix

    expected = [about(2, -psi) @ about(1, -tilt) @ about(2, -rot) for rot, tilt, psi in euler]
    np.testing.assert_allclose(so3.euler_to_matrix(euler), expected, atol=1e-12)
    np.testing.assert_allclose(so3.matrix_to_euler(so3.euler_to_matrix(euler)), euler, atol=1e-9)


def test_in_plane_rotation() -> None:
    rotation = so3.euler_to_matrix(np.array([[25.0, 50.0, 70.0]]))
    rings = FourierRings(32, (2.0, 4.0, 6.0), 36)
    turned = so3.in_plane(30.0) @ rotation
    np.testing.assert_allclose(so3.matrix_to_euler(turned), [[25.0, 50.0, 40.0]], atol=1e-9)
    volume = blob(32, (4, 1, 0), (-3, 5, 2), (0, -4, -5))
    before, after = (rings.sample(project(volume, r))[0] for r in (rotation, turned))
    full = torch.cat([before, before.conj()], dim=-1)
    torch.testing.assert_close(after, full.roll(3, dims=-1)[:, :18], rtol=1e-3, atol=1e-2)


def simulated(volume: Tensor, poses: Poses, **settings: float | str | bool) -> NDArray[np.float32]:
    """Noiseless images without CTF, unless `settings` say otherwise."""
    chosen = {"ctf": False, "noise": "none", "seed": 1} | settings
    box = volume.shape[-1]
    full = SimulationSettings(particles=len(poses), box=box, **chosen)  # type: ignore[arg-type]
    return simulate(MapPotential(volume, 3.0), full, poses=poses).images


def test_shifts() -> None:
    shifts = np.array([[2.5, 0.0], [0.0, -1.5], [-3.0, 4.0]])
    rotations = so3.random_rotations(3, torch.Generator().manual_seed(3))
    molecule = np.array([4.0, 2.0, -3.0])
    images = simulated(blob(32, tuple(molecule)), Poses(rotations, shifts))
    for image, rotation, shift in zip(images, rotations, shifts, strict=True):
        np.testing.assert_allclose(centre_of_mass(image), (rotation @ molecule)[:2] - shift, atol=0.05)


def test_contrast() -> None:
    """Particles of either sign are bright inside; what is written has the sign of what came in."""
    rotations = so3.random_rotations(30, torch.Generator().manual_seed(6))
    volume = blob(32, (4, 1, 0), (-3, 5, 2), (0, -4, -5))
    bright = simulated(volume, Poses(rotations, np.zeros((30, 2))), snr=2.0, noise="white")
    for sign in (1, -1):
        made = prepare(ParticleSet(ArraySource(sign * bright), 3.0), sign=sign)
        inside = made.particles.read()[:, 12:20, 12:20].mean()
        assert inside > 0.5
        restored = made.preparation.restore(made.particles.read())
        assert np.sign(restored[:, 12:20, 12:20].mean()) == sign


def test_relative_mse() -> None:
    """Over the set, inside the inscribed disk: the corners do not count, bright images count more."""
    truth = np.zeros((2, 16, 16), dtype=np.float32)
    truth[0, 8, 8], truth[1, 8, 8] = 1, 3
    estimate = truth.copy()
    estimate[0, 8, 8] = 0
    assert relative_mse(estimate, truth) == pytest.approx(1 / 10)
    estimate[:, 0, 0] = 100
    assert relative_mse(estimate, truth) == pytest.approx(1 / 10)
    assert relative_mse(np.zeros_like(truth), truth) == pytest.approx(1)


@pytest.mark.parametrize("box", [32, 33])
def test_ctf(box: int) -> None:
    pixel_size = 2.0
    transfer = ctf(some_optics(phase_shift_deg=0.0), box, pixel_size)[0]
    assert transfer[box // 2, box // 2].item() == pytest.approx(0.1)
    transfer = ctf(some_optics(), box, pixel_size)[0]
    for kx, ky in [(5, 0), (0, 5), (3, 7), (-6, 2)]:
        s = np.hypot(kx, ky) / (box * pixel_size)
        theta, axis = np.arctan2(ky, kx), np.deg2rad(35)
        defocus = 0.5 * (21000 + 15000 + (21000 - 15000) * np.cos(2 * (theta - axis)))
        wavelength = electron_wavelength_angstrom(300.0)
        chi = np.pi * wavelength * defocus * s**2 - np.pi / 2 * 2.7e7 * wavelength**3 * s**4
        expected = np.sin(chi + np.deg2rad(20) + np.arcsin(0.1))
        assert transfer[box // 2 + ky, box // 2 + kx].item() == pytest.approx(float(expected), abs=1e-4)


def test_snr() -> None:
    """The mean square over the whole box, of the images with their CTF and before the noise."""
    rotations = so3.random_rotations(40, torch.Generator().manual_seed(4))
    poses = Poses(rotations, np.zeros((40, 2)))
    volume = blob(32, (4, 1, 0), (-3, 5, 2))
    signal = simulated(volume, poses, ctf=True, snr=0.2)
    noisy = simulated(volume, poses, ctf=True, snr=0.2, noise="white")
    assert np.mean(signal.astype(np.float64) ** 2) == pytest.approx(0.2, rel=1e-4)
    assert np.var(noisy - signal) == pytest.approx(1, rel=0.02)


def test_fsc() -> None:
    box, pixel_size = 20, 2.0
    curve = np.array([1, 1, 0.9, 0.7, 0.3, 0.2, 0.1, 0, 0, 0, 0])
    assert resolution_at(curve, 0.5, pixel_size, box) == pytest.approx(box * pixel_size / 3.5)
    assert resolution_at(curve, 0.143, pixel_size, box) == pytest.approx(box * pixel_size / 5.57, rel=1e-3)
    assert resolution_at(np.ones(11), 0.143, pixel_size, box) == pytest.approx(2 * pixel_size)


@pytest.mark.parametrize("mirrored", [False, True])
def test_gauge(mirrored: bool) -> None:
    parts = np.array([[5.0, 0, 1], [-4, 3, 0], [0, -5, 3], [2, 4, -5], [-3, -2, -4]])
    rotation = so3.euler_to_matrix(np.array([[40.0, 60.0, -20.0]]))[0]
    shift = np.array([1.0, -1.5, 0.5])
    hand = -1 if mirrored else 1
    reference = blob(32, *map(tuple, parts @ rotation.T * hand + shift))
    found = register(blob(32, *map(tuple, parts)).numpy(), reference.numpy())
    assert found.mirrored is mirrored
    assert found.correlation > 0.99
    assert so3.angle_between_deg(found.rotation[None], rotation[None])[0] < 1


def parameters_with_defaults() -> list[tuple[str, str, ast.expr | None]]:
    """(place, name, default) of every public function's parameter and every class attribute."""
    found: list[tuple[str, str, ast.expr | None]] = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                given, optional = node.args.posonlyargs + node.args.args, node.args.defaults
                defaults = [None] * (len(given) - len(optional)) + list(optional)
                pairs = [*zip(given, defaults, strict=True)]
                pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                found += [(f"{path.name}:{node.lineno}", each.arg, default) for each, default in pairs]
            elif isinstance(node, ast.ClassDef):
                fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
                found += [(f"{path.name}:{item.lineno}", ast.unparse(item.target), item.value) for item in fields]
    return found


def test_units() -> None:
    """No pixel size has a number for a default, and lengths and angles carry their unit in the name."""
    bare = {"pixel_size_default", "voltage", "defocus", "defocus_u", "defocus_v", "angle", "tilt_angle", "cs"}
    for place, name, default in parameters_with_defaults():
        assert name not in bare, f"{place}: {name} has no unit"
        if "pixel_size" in name:
            numeric = isinstance(default, ast.Constant) and isinstance(default.value, (int, float))
            assert not numeric, f"{place}: {name} has a default"


GLOBAL_RANDOMNESS = {
    "torch": {"manual_seed", "seed"},
    "random": {"seed", "random", "shuffle", "choice", "randint", "uniform", "gauss", "sample"},
}
# Layers of torch draw their first weights from the global generator: seeded there, and forked so that none notices.
SEEDS_LAYERS = {("learner.py", "torch.manual_seed"), ("loop.py", "torch.manual_seed")}
DRAWS = {"rand", "randn", "randint", "randperm", "normal", "multinomial", "bernoulli", "poisson"}


def test_randomness() -> None:
    """Every draw names its generator, and nothing seeds a global one."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner, name = ast.unparse(node.func.value), node.func.attr
            place = f"{path.name}:{node.lineno}: {owner}.{name}"
            if (path.name, f"{owner}.{name}") not in SEEDS_LAYERS:
                assert name not in GLOBAL_RANDOMNESS.get(owner, set()), place
            if owner == "torch" and name in DRAWS:
                assert any(keyword.arg == "generator" for keyword in node.keywords), place
            if owner in ("np.random", "numpy.random"):
                assert name in {"default_rng", "Generator", "SeedSequence", "PCG64"}, place
                assert node.args or node.keywords, f"{place} without a seed"
    settings = SimulationSettings(particles=3, box=16, seed=5)
    volume = MapPotential(blob(16, (2, 0, 1)), 3.0)
    first, second = simulate(volume, settings), simulate(volume, settings)
    np.testing.assert_array_equal(first.images, second.images)
