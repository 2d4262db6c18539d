"""Denoising by diffusion: rows in order, samples that are each particle's own, and what is told of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.denoise.sampling_weights import BOX, write_random_weights

from clarice.core.errors import InputError, UsageError
from clarice.core.particles import ArraySource, ParticleSet
from clarice.core.progress import Progress, silent
from clarice.denoise import diffusion
from clarice.denoise.diffusion import Posterior, denoise_by_diffusion, sampled_posterior
from clarice.denoise.diffusion_sampling import SamplingSettings
from clarice.denoise.gaussian_estimate import GaussianEstimate
from clarice.denoise.learned import denoise_jointly
from clarice.denoise.notes import Notebook
from clarice.denoise.placed_network import PlacedNetwork
from clarice.denoise.registry import DenoisedRows, Denoiser, denoise_all
from clarice.denoise.trained import trained_network, weights_of
from clarice.geometry.fourier import centred_fft2, shells_to_nyquist
from clarice.physics.noisy_set import NoisySet, white_set

FEW = SamplingSettings(steps=2, samples=3)


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLARICE_WEIGHTS", str(tmp_path))
    write_random_weights(tmp_path)
    return tmp_path


def noisy_set(count: int, box: int = BOX, seed: int = 1) -> NoisySet:
    images = np.random.default_rng(seed).normal(size=(count, box, box)).astype(np.float32)
    return white_set(ParticleSet(ArraySource(images), 3.0))


def denoised(
    noisy: NoisySet, settings: SamplingSettings = FEW, notes: Notebook | None = None, refine: bool = False
) -> NDArray[np.float32]:
    refiner = trained_network("refiner") if refine else None
    stream = denoise_by_diffusion(noisy, trained_network("diffusion"), settings, notes=notes, refiner=refiner)
    return denoise_all(stream, len(noisy), noisy.box)


@pytest.mark.parametrize("box", [BOX, 31])
def test_rows_come_in_order_and_are_the_mean_of_their_samples(box: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion, "BATCH", 7)
    noisy = noisy_set(9, box)
    stream = denoise_by_diffusion(noisy, trained_network("diffusion"), FEW)
    rows = np.concatenate([part for part, _ in stream])
    assert np.array_equal(rows, np.arange(9))
    images = denoised(noisy)
    one = [denoised(noisy, replace(FEW, samples=1, seed=seed)) for seed in range(2)]
    assert images.shape == (9, box, box)
    assert np.abs(one[0] - one[1]).max() > 0.1  # single samples differ
    assert np.abs(images).std() < one[0].std()  # and their mean is smoother


def test_half_sets_apart_share_no_random_numbers() -> None:
    """The first particle of one half and that of the other are the first of what is denoised, each time."""
    images = np.repeat(np.random.default_rng(1).normal(size=(1, BOX, BOX)).astype(np.float32), 8, axis=0)
    halves = np.tile(np.array([1, 2], dtype=np.int8), 4)
    noisy = white_set(ParticleSet(ArraySource(images), 3.0, half_set=halves))
    one = replace(FEW, samples=1)

    def function(part: NoisySet, *, progress: Progress = silent) -> DenoisedRows:
        return denoise_by_diffusion(part, trained_network("diffusion"), one, progress)

    found = denoise_all(Denoiser("diffusion", "", function)(noisy, halves_apart=True), 8, BOX)
    between = [np.abs(found[row] - found[other]).max() for row in range(8) for other in range(row)]
    assert min(between) > 0.1 * np.abs(found).max()


def test_the_same_seed_gives_the_same_images_in_whatever_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = noisy_set(9)
    monkeypatch.setattr(diffusion, "BATCH", 64)
    whole = denoised(noisy)
    monkeypatch.setattr(diffusion, "BATCH", 4)
    assert np.abs(denoised(noisy) - whole).max() < 0.02 * np.abs(whole).max()  # perhaps in bfloat16
    assert np.abs(denoised(noisy, replace(FEW, seed=1)) - whole).max() > 0.02 * np.abs(whole).max()


def test_samples_lie_around_what_the_joint_denoiser_made_as_far_apart_as_it_foretold(weights: Path) -> None:
    """With a network that says nothing, so that sampling is all there is."""
    noisy, notes = noisy_set(40), Notebook(40)
    found = denoise_all(denoise_jointly(noisy, trained_network("polar-transformer"), notes=notes), 40, BOX)
    trained = trained_network("diffusion")
    for parameter in trained.network.parameters():
        parameter.zero_()
    told = Notebook(40)
    settings = SamplingSettings(steps=2, samples=64)
    images = denoise_all(denoise_by_diffusion(noisy, trained, settings, notes=told), 40, BOX)
    assert notes.error_by_shell is not None
    assert told.error_by_shell is not None
    ratio = told.error_by_shell / notes.error_by_shell
    assert np.median(ratio[:, 2:]) == pytest.approx(1 + 1 / 64, abs=0.03)
    spectra = centred_fft2(torch.from_numpy(images - found)).abs().square().flatten(1).mean(dim=0) / BOX**2
    shell, members = shells_to_nyquist(BOX)
    apart = torch.zeros(BOX // 2 + 1).index_add(0, shell, spectra) / members
    share = 64 * apart.numpy() / notes.error_by_shell.mean(axis=0)
    assert share[2:].mean() == pytest.approx(1, abs=0.1)


def test_notes_hear_sources_errors_and_deviations() -> None:
    noisy = noisy_set(9)
    notes = Notebook(9, 3, np.full((9, BOX, BOX), np.nan, dtype=np.float32))
    denoised(noisy, notes=notes)
    assert notes.has_sources
    assert notes.error_by_shell is not None
    assert (notes.error_by_shell > 0).all()
    assert notes.deviations is not None
    assert (notes.deviations > 0).all()


def test_the_error_of_a_mean_is_that_of_samples_with_a_share_for_their_number() -> None:
    generator = torch.Generator().manual_seed(1)
    samples = 3 * torch.randn((2000, 4, 16, 16), generator=generator)
    found = Posterior(samples, torch.ones((2000, 9)))
    assert torch.allclose(found.squared_error.mean(dim=0), torch.full((9,), 9 * 1.25), rtol=0.1)
    refined = replace(found, refined=found.mean)
    assert torch.allclose(refined.squared_error.mean(dim=0), torch.full((9,), 9.0), rtol=0.1)
    assert found.deviation is not None
    assert float(found.deviation.square().mean()) == pytest.approx(9, rel=0.05)


def test_one_sample_is_twice_as_wrong_and_shows_no_deviation() -> None:
    found = Posterior(torch.randn((2, 1, 16, 16)), torch.full((2, 9), 0.5))
    assert found.deviation is None
    assert torch.equal(found.squared_error, torch.full((2, 9), 1.0))


def test_the_refiner_changes_the_mean_and_not_the_samples() -> None:
    noisy = noisy_set(9)
    plain, refined = Notebook(9), Notebook(9)
    images, corrected = denoised(noisy, notes=plain), denoised(noisy, notes=refined, refine=True)
    assert np.abs(images - corrected).max() > 1e-3
    assert plain.error_by_shell is not None
    assert refined.error_by_shell is not None
    assert np.allclose(refined.error_by_shell * (1 + 1 / 3), plain.error_by_shell, rtol=0.05)


def test_without_a_joint_denoiser_it_goes_out_from_the_power_of_the_set(weights: Path) -> None:
    write_random_weights(weights, diffusion={"estimate": "spectrum"})
    (weights / "polar-transformer.safetensors").unlink()
    noisy = noisy_set(30)
    strong = white_set(ParticleSet(ArraySource(3 * np.asarray(noisy.particles.read())), 3.0))
    weak, powerful = denoised(noisy), denoised(strong)
    assert powerful.std() > 10 * weak.std()  # noise alone has no signal to sample


def test_samples_do_not_depend_on_what_is_sampled_beside() -> None:
    placed = PlacedNetwork(trained_network("diffusion"))
    noisy = torch.randn((5, BOX, BOX), generator=torch.Generator().manual_seed(4))
    known = GaussianEstimate(torch.zeros_like(noisy), torch.ones((5, BOX // 2 + 1)))
    whole = sampled_posterior(placed, noisy, None, known, FEW, [(row,) for row in range(5)]).samples
    part = GaussianEstimate(known.mean[3:], known.squared_error[3:])
    apart = sampled_posterior(placed, noisy[3:], None, part, FEW, [(3,), (4,)]).samples
    assert torch.allclose(whole[3:], apart, atol=0.02 * float(whole.abs().max()))


def test_networks_that_do_not_belong_together_are_refused(weights: Path) -> None:
    trained, refiner = trained_network("diffusion"), trained_network("refiner")
    (weights / "others").mkdir()
    write_random_weights(weights / "others", **{"polar-transformer": {"channels": 32}})
    shutil.copy(weights / "others" / "polar-transformer.safetensors", weights)
    with pytest.raises(InputError, match=r"is not the polar-transformer .* that diffusion was trained on"):
        list(denoise_by_diffusion(noisy_set(3), trained, FEW))
    write_random_weights(weights, diffusion={"channels": 16})
    with pytest.raises(InputError, match=r"is not the diffusion .* that refiner was trained on"):
        list(denoise_by_diffusion(noisy_set(3), trained_network("diffusion"), FEW, refiner=refiner))


def test_more_steps_than_there_are_are_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match="2001 steps: choose between 1 and 2000"):
        next(denoise_by_diffusion(noisy_set(3), trained_network("diffusion"), SamplingSettings(2001)))


def test_all_networks_of_a_method_are_known(weights: Path) -> None:
    assert [path.stem for path in weights_of("diffusion+refiner")] == ["polar-transformer", "diffusion", "refiner"]
    assert weights_of("dncnn") == (weights / "dncnn.safetensors",)
    assert weights_of("wiener") == ()
