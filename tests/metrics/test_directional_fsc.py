"""Agreement by direction: whole shells from wide cones, and directions that hold nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.metrics.filters import cut_to, filtered, noise

from clarice.geometry.so3 import euler_to_matrix, sphere_grid
from clarice.metrics.directional_fsc import directional_fsc, directional_half_map_fsc
from clarice.metrics.masks import soft_sphere
from clarice.metrics.registration import apply_superposition
from clarice.metrics.shells import fsc, half_shells

X, Y, Z = np.eye(3)


def cone_about_z(box: int, half_angle_deg: float) -> np.ndarray:
    """Elements of a real transform within the cone, True."""
    frequency = np.fft.fftfreq(box, 1 / box)
    z, y, x = np.meshgrid(frequency, frequency, frequency[: box // 2 + 1], indexing="ij")
    return np.asarray(np.abs(z) > np.cos(np.deg2rad(half_angle_deg)) * np.sqrt(x**2 + y**2 + z**2))


@pytest.mark.parametrize("box", [32, 33])
def test_a_cone_as_wide_as_space_gives_the_whole_curve(box: int) -> None:
    signal = 3 * cut_to(noise(box), 8)
    halves = signal + noise(box, 2), signal + noise(box, 3)
    np.testing.assert_allclose(directional_fsc(*halves, [X, Z], 90.0), np.stack(2 * [fsc(*halves)]), atol=1e-12)


def test_cones_hold_their_elements_one_by_one() -> None:
    """Slow reference: the full transform, element by element."""
    box, axis = 9, np.array([0.48, 0.6, 0.64])
    halves = noise(box), noise(box) + noise(box, 2)
    found = directional_fsc(*halves, [axis], 35.0)[0]
    sums = np.zeros((3, box // 2 + 1))
    spectra = [np.fft.fftn(half) for half in halves]
    frequency = np.fft.fftfreq(box, 1 / box)
    for index in np.ndindex(box, box, box):
        vector = frequency[list(index[::-1])]
        length = np.linalg.norm(vector)
        shell = round(float(length))
        if shell > box // 2 or (shell and abs(vector @ axis) < np.cos(np.deg2rad(35)) * length):
            continue
        a, b = spectra[0][index], spectra[1][index]
        sums[:, shell] += (a * b.conj()).real, abs(a) ** 2, abs(b) ** 2
    np.testing.assert_allclose(found, sums[0] / np.sqrt(sums[1] * sums[2]), atol=1e-10)


def test_a_direction_without_signal_shows() -> None:
    """A missing cone about z leaves nothing to agree on there, and all elsewhere."""
    box = 32
    signal = filtered(5 * cut_to(noise(box), 12), ~cone_about_z(box, 45))
    curves = directional_fsc(signal + noise(box, 2), signal + noise(box, 3), [X, Y, Z], 30.0)
    assert curves[:2, 4:10].min() > 0.7
    assert np.abs(curves[2, 4:10]).mean() < 0.2


def test_a_mask_does_not_fill_what_was_not_measured() -> None:
    """Neither half holds anything about z: all that a mask carries there from beside is alike in both."""
    box, mask = 32, soft_sphere(32, 8.0, 3.0)
    measured = ~cone_about_z(box, 45)
    signal = cut_to(noise(box) * mask, 12)
    halves = [filtered(4 * signal + cut_to(noise(box, seed), 15), measured) for seed in (2, 3)]
    generator = torch.Generator().manual_seed(1)
    curves = directional_half_map_fsc(*halves, mask, [X, Z], generator, last_shell=14)
    assert directional_fsc(halves[0] * mask, halves[1] * mask, [Z])[0, 5:12].mean() > 0.3
    np.testing.assert_array_equal(curves[1, 5:], 0)
    assert curves[0, 5:12].min() > 0.5
    np.testing.assert_array_equal(curves[:, 15:], 0)


def test_noise_under_a_mask_agrees_in_no_cone() -> None:
    """Noise that falls off, and low frequencies that both halves share: a mask alone would make them agree."""
    box, mask = 32, soft_sphere(32, 6.0, 2.0)
    shells, _ = half_shells(box, 3)
    falling = 1 / (1 + shells.astype(float)) ** 3
    plain, corrected = [], []
    for seed in range(2, 18, 2):
        shared = 3 * cut_to(noise(box, seed), 3)
        halves = [filtered(noise(box, seed + half), falling) + shared for half in (0, 1)]
        generator = torch.Generator().manual_seed(seed)
        corrected.append(directional_half_map_fsc(*halves, mask, sphere_grid(20), generator)[:, 8:])
        plain.append(directional_fsc(halves[0] * mask, halves[1] * mask, sphere_grid(20))[:, 8:])
    assert np.mean(plain) > 0.3
    assert abs(np.mean(corrected)) < 0.08


def test_turning_the_maps_turns_the_directions() -> None:
    box = 32
    z = np.fft.fftfreq(box, 1 / box)[:, None, None]
    signal = 3 * filtered(cut_to(noise(box), 9), np.exp(-((z / 4) ** 2)))  # little detail along z
    halves = [signal + cut_to(noise(box, seed), 9) for seed in (2, 3)]
    turn = euler_to_matrix(np.array([[0.0, 90.0, 0.0]]))[0]
    turned = [apply_superposition(half.astype(np.float32), turn, np.zeros(3), False) for half in halves]
    before, after = (directional_fsc(*pair, [Z, turn @ Z], 30.0)[:, 3:8].mean(axis=1) for pair in (halves, turned))
    assert before[0] < before[1] - 0.2
    np.testing.assert_allclose(after, before[::-1], atol=0.12)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be correlated"):
        directional_fsc(noise(32), noise(31), [X])
    with pytest.raises(ValueError, match="equal trailing axes"):
        directional_fsc(noise(32)[1:], noise(32)[1:], [X])
    with pytest.raises(ValueError, match="directions"):
        directional_fsc(noise(32), noise(32, 2), X)
    assert directional_fsc(noise(32), noise(32, 2), sphere_grid(7)).shape == (7, 17)
