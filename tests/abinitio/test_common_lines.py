"""Common lines: the likelihood by densities, the search by plain loops, and lines of projections of known views."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.abinitio.lines import log_density
from tests.geometry.blobs import blob_projections, seeded
from torch import Tensor

from clarice.abinitio.common_lines import CommonLines, find_common_lines
from clarice.abinitio.line_scores import LineSettings
from clarice.abinitio.rays import LineLikelihood, Rays
from clarice.geometry.so3 import random_rotations
from clarice.metrics.orientation import FloatArray, found_line_share
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulationSettings, simulate

DIAMETER_PX = 0.7 * 32


@pytest.fixture(scope="module")
def projections() -> tuple[Tensor, FloatArray]:
    """60 clean projections of a molecule without symmetry, and their rotations."""
    settings = SimulationSettings(particles=60, box=32, seed=3, snr=1.0, ctf=False, noise="none", max_shift_px=0.0)
    made = simulate(make_molecule(1, mass_kda=150), settings)
    return torch.from_numpy(made.images), made.poses.rotations


def test_the_likelihood_ratio_is_that_of_the_densities() -> None:
    """λ(a, b) less its constant against densities of the pair with a shared signal, and of two by themselves."""
    generator = seeded(1)
    radii = 3
    mix = torch.randn((radii, radii), generator=generator)
    signal = mix @ mix.T
    draws = torch.complex(*torch.randn((2, 4000, radii), generator=generator)) / math.sqrt(2)
    values = draws @ torch.linalg.cholesky(signal).T.to(draws.dtype)
    noise = torch.complex(*torch.randn((2, 4000, radii), generator=generator)) / math.sqrt(2)
    rays = Rays((values + noise).view(4000, 1, radii), torch.arange(1.0, radii + 1), 32)
    found = LineLikelihood.of(rays, rays.mean_power() - 1)
    a, b = rays.values[:2, 0]
    covariance = torch.cat([rays.values[:, 0].real, rays.values[:, 0].imag])
    whole = (covariance.T @ covariance / len(covariance) * 2).double()
    shared = whole - torch.eye(radii)
    pair = torch.cat([torch.cat([whole, shared], dim=1), torch.cat([shared, whole], dim=1)])

    def direct(x: Tensor, y: Tensor) -> float:
        both = torch.cat([x, y]).to(torch.complex128)
        return log_density(both, pair) - log_density(both[:radii], whole) - log_density(both[radii:], whole)

    def ours(x: Tensor, y: Tensor) -> float:
        first, second = x @ found.analysis, y @ found.analysis
        energy = float(found.energy_of(first) + found.energy_of(second))
        return float(((first * second.conj()).real * found.cross).sum()) - energy

    nothing = torch.zeros_like(a)
    for x, y in ((a, b), (a, a), (b, nothing)):
        assert ours(x, y) - ours(nothing, nothing) == pytest.approx(direct(x, y) - direct(nothing, nothing), rel=0.02)


def searched_by_loops(images: Tensor, settings: LineSettings, radius: int, snr: Tensor) -> dict[str, float]:
    """The highest λ of images 0 and 1 over all angles of the fine grid and all moves half a pixel apart."""
    half = settings.n_angles // 2
    rays = Rays.sampled(images, radius, half)
    likelihood = LineLikelihood.of(rays, snr)
    best = {"score": -math.inf}
    circle = [rays.at(torch.tensor([image]), torch.arange(2 * half)[None])[0] for image in (0, 1)]
    reach = float(settings.moves_px().max())
    for move in torch.arange(-reach, reach + 0.25, 0.5):
        first = (circle[0][:half] * rays.moved_back(move)) @ likelihood.analysis
        second = circle[1] @ likelihood.analysis
        for i in range(half):
            products = (first[i] * second.conj()).real @ likelihood.cross
            scores = products - likelihood.energy_of(first[i]) - likelihood.energy_of(second)
            j = int(scores.argmax())
            if float(scores[j]) > best["score"]:
                best = {"score": float(scores[j]), "first": i, "second": j, "move": float(move)}
    return best


@pytest.mark.parametrize("max_shift_px", [0.0, 1.0])
def test_the_search_finds_what_plain_loops_find(projections: tuple[Tensor, FloatArray], max_shift_px: float) -> None:
    images = projections[0][:12]
    if max_shift_px:
        images = torch.stack([torch.roll(image, (n % 3 - 1, 0), (0, 1)) for n, image in enumerate(images)])
    settings = LineSettings(DIAMETER_PX, 10, 8, n_angles=90, max_shift_px=max_shift_px)
    snr = torch.full((10,), 20.0)
    found = find_common_lines(images, settings, snr)
    expected = searched_by_loops(images, settings, 10, snr)
    if max_shift_px:
        assert float(found.shift_px[0, 1]) == pytest.approx(expected["move"])
    step = 2 * math.pi / settings.n_angles
    line = (round(float(found.angle_rad[0, 1]) / step), round(float(found.angle_rad[1, 0]) / step))
    turned = [(line[0] - expected["first"]) % 90, (line[1] - expected["second"]) % 90]
    assert turned in ([0, 0], [45, 45]), "both rays of the line, or their opposites"


def test_lines_of_clean_projections_are_found(projections: tuple[Tensor, FloatArray]) -> None:
    images, rotations = projections
    found = find_common_lines(images, LineSettings(DIAMETER_PX))
    assert found_line_share(found.angle_rad.numpy(), rotations, within_deg=5) > 0.98
    assert float(found.confidence[~torch.eye(60, dtype=torch.bool)].mean()) > 0.9
    assert (found.shift_px == 0).all()


@pytest.mark.parametrize("box", [32, 33])
def test_odd_boxes_and_few_images(box: int) -> None:
    rotations = random_rotations(5, seeded(4))
    found = find_common_lines(blob_projections(box, rotations), LineSettings(20.0))
    assert found_line_share(found.angle_rad.numpy(), rotations, within_deg=5) >= 0.9


def test_a_move_along_the_line_is_found(projections: tuple[Tensor, FloatArray]) -> None:
    """Content that lies 2 px along +x in one image lies 2 cos α further along a line of direction α."""
    images, rotations = projections
    images = images[:20].clone()
    images[0] = torch.roll(images[0], 2, dims=1)
    found = find_common_lines(images, LineSettings(DIAMETER_PX, max_shift_px=1.0))
    assert found_line_share(found.angle_rad.numpy(), rotations[:20], within_deg=5) > 0.9
    expected = 2 * found.angle_rad[0, 1:].cos()
    assert float((found.shift_px[0, 1:] - expected).abs().median()) < 0.3
    assert (found.shift_px == -found.shift_px.T).all()


def test_noise_is_weighed_by_what_is_known_of_it(projections: tuple[Tensor, FloatArray]) -> None:
    """With noise in the upper half of the spectrum, telling so finds more right lines than taking all for clean."""
    images, rotations = projections
    noise = torch.randn(images.shape, generator=seeded(2)) * 1.5 * images.std()
    noisy = images + noise
    clean, power = (Rays.sampled(each, 12, 30).mean_power() for each in (images, noise))
    settings = LineSettings(DIAMETER_PX, 12)
    told, untold = (
        found_line_share(find_common_lines(noisy, settings, snr).angle_rad.numpy(), rotations)
        for snr in (clean / power, 100.0)
    )
    assert told > untold + 0.05


def test_an_image_of_noise_has_lines_without_confidence(projections: tuple[Tensor, FloatArray]) -> None:
    images = projections[0][:30].clone()
    images[0] = torch.randn(images[0].shape, generator=seeded(3)) * images[1:].std()
    found = find_common_lines(images, LineSettings(DIAMETER_PX), 5.0)
    others = found.confidence[1:, 1:][~torch.eye(29, dtype=torch.bool)]
    assert float(found.confidence[0, 1:].mean()) < float(others.mean())


def test_few_images_and_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="two or more"):
        find_common_lines(torch.zeros((1, 16, 16)), LineSettings(10.0))
    with pytest.raises(ValueError, match="even"):
        LineSettings(10.0, n_angles=91)
    with pytest.raises(ValueError, match="above 0"):
        LineSettings(0.0)


def test_constant_images_have_no_line_and_do_no_harm() -> None:
    found = find_common_lines(torch.zeros((4, 16, 16)), LineSettings(10.0))
    assert all(torch.isfinite(values).all() for values in vars(found).values())
    assert isinstance(found, CommonLines)


def test_progress_reaches_all_pairs(projections: tuple[Tensor, FloatArray]) -> None:
    told: list[tuple[str, int, int]] = []
    find_common_lines(projections[0][:10], LineSettings(DIAMETER_PX), progress=lambda *each: told.append(each))
    assert told[-1][1:] == (45, 45)
    assert np.all(np.diff([done for _, done, _ in told]) > 0)
