"""A first map by common lines: what is known of denoised images' errors, and the map against the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clarice.core.errors import InputError, UsageError
from clarice.denoise.registry import get_denoiser
from clarice.geometry.fourier import centred_fft2, shell_mean
from clarice.metrics.orientation import orientation_errors
from clarice.metrics.registration import register
from clarice.metrics.shells import fsc
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate
from clarice.pipeline.denoised_files import DenoisedImages, denoise_some
from clarice.pipeline.first_map_settings import FirstMapSettings
from clarice.pipeline.line_map import LineMap, first_map_by_lines, signal_to_error

BOX, COUNT = 32, 240
DIAMETER_PX = 0.7 * BOX
SETTINGS = FirstMapSettings(DIAMETER_PX, images=60, starts=4, max_shift_px=2.0, denoiser="covariance-wiener")


@pytest.fixture(scope="module")
def simulated() -> SimulatedSet:
    """Shifted particles under 10 CTFs at SNR 0.5."""
    settings = SimulationSettings(particles=COUNT, box=BOX, seed=2, snr=0.5, max_shift_px=1.5, defocus_groups=10)
    return simulate(make_molecule(1, mass_kda=150), settings)


@pytest.fixture(scope="module")
def noisy(simulated: SimulatedSet) -> NoisySet:
    return white_set(simulated.particles)


@pytest.fixture(scope="module")
def found(noisy: NoisySet) -> LineMap:
    return first_map_by_lines(noisy, SETTINGS)


def power_by_shell(images: np.ndarray) -> torch.Tensor:
    return shell_mean(centred_fft2(torch.from_numpy(images)).abs().square().mean(dim=0), 2) / images.shape[-1] ** 2


def test_the_map_shows_the_structure(found: LineMap, simulated: SimulatedSet) -> None:
    """A quarter of the particles is laid by lines, the others on their map: right beyond four pixels, at FSC 0.5."""
    assert (len(found.laid_by_lines), len(found.rows)) == (60, COUNT)
    assert (np.diff(found.laid_by_lines) > 0).all()
    errors = orientation_errors(found.lines.poses.rotations, simulated.poses.rotations[found.laid_by_lines])
    assert np.median(errors.angle_deg) < 8
    curve = fsc(register(found.volume, simulated.volume).volume, simulated.volume)
    assert curve[1 : BOX // 4 + 1].min() > 0.5
    assert 4 <= found.radius_px < BOX / 2


def test_the_same_seed_gives_the_same_map(found: LineMap, noisy: NoisySet) -> None:
    again = first_map_by_lines(noisy, SETTINGS)
    np.testing.assert_array_equal(again.laid_by_lines, found.laid_by_lines)
    assert torch.equal(again.volume, found.volume)


def test_images_denoised_before_are_taken_as_they_are(found: LineMap, noisy: NoisySet) -> None:
    asked: list[np.ndarray] = []

    def denoised(rows: np.ndarray) -> DenoisedImages:
        asked.append(rows)
        return denoise_some(noisy.subset(rows), get_denoiser("covariance-wiener"))

    again = first_map_by_lines(noisy, SETTINGS, denoised=denoised)
    np.testing.assert_array_equal(asked, [found.rows])
    assert torch.equal(again.volume, found.volume)


def test_what_a_method_foretells_or_lacks_is_the_error(simulated: SimulatedSet, noisy: NoisySet) -> None:
    """The covariance Wiener filter foretells nothing: its missing power comes near its actual error."""
    made = denoise_some(noisy, get_denoiser("covariance-wiener"))
    assert made.error_by_shell is None
    images, ratio = made.images, signal_to_error(noisy, made)
    error = power_by_shell(images.numpy() - simulated.clean)
    actual = power_by_shell(images.numpy()) / error
    assert len(ratio) == BOX // 2 - 1
    shells = slice(0, 5)
    assert float((ratio[shells] / actual[1:6]).log().abs().max()) < np.log(3)
    drowned = actual[1 : BOX // 2] < 0.3
    assert drowned.any()
    assert float(ratio[drowned].max()) < 1, "shells without signal are not trusted"


def test_an_error_foretold_in_numbers_is_taken_for_it(noisy: NoisySet) -> None:
    images = torch.randn((30, BOX, BOX), generator=torch.Generator().manual_seed(1))
    error = torch.linspace(0.1, 20, BOX // 2 + 1)
    ratio = signal_to_error(noisy, DenoisedImages(images, error))
    np.testing.assert_allclose(ratio, 1 / error[1 : BOX // 2], rtol=0.1)  # the images have power 1


def test_too_few_particles_and_unknown_methods_are_refused(noisy: NoisySet) -> None:
    with pytest.raises(InputError, match="too few for common lines"):
        first_map_by_lines(noisy.subset(np.arange(10)), SETTINGS)
    with pytest.raises(UsageError, match="--images 3"):
        first_map_by_lines(noisy, FirstMapSettings(DIAMETER_PX, images=3))
    with pytest.raises(UsageError, match="no-such"):
        first_map_by_lines(noisy, FirstMapSettings(DIAMETER_PX, denoiser="no-such"))
