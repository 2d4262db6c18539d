"""Endless sets: the same by number, shared out, imaged as the simulation does, with the power they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.training.small_sets import BOX, small_pool, small_sets
from torch import Tensor

from clarice.core.errors import UsageError
from clarice.core.particles import Optics, Poses
from clarice.geometry.fourier import resize_centred
from clarice.geometry.interpolated_slices import oversampled_spectrum
from clarice.geometry.slices import project
from clarice.geometry.so3 import angle_between_deg, in_plane, random_rotations
from clarice.physics.image_formation import form_images
from clarice.training.batches import SetBatch, form_sets
from clarice.training.set_draws import SetDraws
from clarice.training.specimens import SpecimenSettings, make_specimen


def assert_same(one: SetBatch, other: SetBatch) -> None:
    assert one.tensors().keys() == other.tensors().keys()
    for name, tensor in one.tensors().items():
        assert torch.equal(tensor, other.tensors()[name]), name


def test_a_batch_is_the_same_whatever_was_made_before() -> None:
    went_through = small_sets(small_pool())
    for position in range(7):
        went_through.batch(position)
    gone_back = small_sets(small_pool())
    gone_back.batch(30)
    batch = small_sets(small_pool()).batch(7)
    assert_same(went_through.batch(7), batch)
    assert_same(gone_back.batch(7), batch)


def test_batches_differ_from_one_another_and_between_seeds() -> None:
    sets = small_sets(sizes=(4,), size_weights=(1.0,), ctf_share=0.0)
    first, second = sets.batch(0), sets.batch(1)
    other = small_sets(sizes=(4,), size_weights=(1.0,), ctf_share=0.0, seed=2).batch(0)
    assert not torch.equal(first.noisy, second.noisy)
    assert not torch.equal(first.noisy, other.noisy)
    noise = (first.noisy - first.clean).flatten(1)
    assert float(torch.corrcoef(noise).fill_diagonal_(0).abs().max()) < 0.15  # sets do not share their noise


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_out_the_same_batch(world: int) -> None:
    whole_sets, shares = (small_sets(small_pool(), images_per_batch=32) for _ in range(2))
    for position in range(4):
        whole = whole_sets.batch(position)
        parts = [shares.batch(position, rank, world) for rank in range(world)]
        for name, tensor in whole.tensors().items():
            for rank, part in enumerate(parts):
                assert torch.equal(tensor[rank::world], part.tensors()[name])


def test_batches_that_cannot_be_shared_out_evenly_are_refused() -> None:
    with pytest.raises(UsageError, match=r"3 equal parts of whole sets.* times training\.accumulate.*multiple of 24"):
        small_sets().batch(0, 0, 3)


@pytest.mark.parametrize("ctf_share", [0.0, 1.0])
def test_shapes_are_those_promised(ctf_share: float) -> None:
    batch = small_sets(ctf_share=ctf_share, sizes=(4,), size_weights=(1.0,)).batch(0)
    assert batch.noisy.shape == batch.clean.shape == (4, 4, BOX, BOX)
    assert batch.view.shape == batch.angle_rad.shape == (4, 4)
    assert batch.snr.shape == batch.power.shape == (4,)
    assert (batch.transfer is None) == (ctf_share == 0)
    if batch.transfer is not None:
        assert batch.transfer.shape == (4, 4, BOX, BOX // 2 + 1)


def seen(batch: SetBatch) -> Tensor:
    """What stands in the images besides noise, where nothing runs over the box's edge."""
    if batch.transfer is None:
        return batch.clean
    return torch.fft.irfft2(torch.fft.rfft2(batch.clean) * batch.transfer, s=(BOX, BOX))


@pytest.mark.parametrize("poisson_share", [0.0, 1.0])
def test_snr_and_power_are_as_defined_without_ctf(poisson_share: float) -> None:
    options = {"ctf_share": 0.0, "empty_set_share": 0.0, "some_empty_share": 0.3, "poisson_share": poisson_share}
    batch = small_sets(images_per_batch=64, sizes=(8,), size_weights=(1.0,), **options).batch(3)
    present = batch.view >= 0
    for row in range(8):
        if present[row].any():
            particles = batch.clean[row][present[row]]
            assert float(particles.square().mean()) == pytest.approx(float(batch.snr[row]), rel=1e-3)
            assert float(particles.square().sum(dim=(1, 2)).mean()) == pytest.approx(float(batch.power[row]), rel=1e-3)
    noise = batch.noisy - batch.clean
    assert float(noise.var()) == pytest.approx(1.0, abs=0.03)
    assert abs(float(noise.mean())) < 0.02


def test_ctf_noise_has_unit_variance_and_the_signal_its_snr() -> None:
    options = {"ctf_share": 1.0, "poisson_share": 0.0, "empty_set_share": 0.0, "some_empty_share": 0.0}
    snr = {"least_snr": 0.2, "largest_snr": 0.2}
    batch = small_sets(images_per_batch=64, sizes=(8,), size_weights=(1.0,), **options, **snr).batch(0)
    assert float(batch.noisy.square().mean()) == pytest.approx(1.2, abs=0.03)


def test_empty_images_are_noise_alone_and_say_so() -> None:
    none = small_sets(images_per_batch=64, empty_set_share=1.0, some_empty_share=0.0)
    batch = none.batch(0)
    assert torch.all(batch.view == -1)
    assert torch.all(batch.clean == 0)
    assert torch.all(batch.power > 0)
    assert float(batch.noisy.var()) == pytest.approx(1.0, abs=0.03)
    some = small_sets(empty_set_share=0.0, some_empty_share=1.0, images_per_batch=64).batch(0)
    empty = some.view < 0
    assert 0 < int(empty.sum()) < 64
    assert torch.all(some.clean[empty] == 0)
    assert torch.all(some.clean[~empty].square().sum(dim=(1, 2)) > 0)


def one_set(box: int, ctf: bool) -> tuple[SetDraws, Tensor, float, Poses, Optics | None]:
    """Draws of one set of six images with shifts, the molecule, and the same for the simulation."""
    generator = torch.Generator().manual_seed(4)
    specimen = make_specimen(SpecimenSettings(seed=9, box=box, least_fill=0.5, largest_fill=0.5), 1, None)
    rotations = random_rotations(6, generator)
    shifts = 4 * torch.rand((6, 2), generator=generator) - 2
    defocus = np.stack([np.linspace(4e3, 9e3, 6), np.linspace(3.8e3, 8e3, 6), np.linspace(0, 150, 6)], axis=1)
    microscope = np.array([[300.0, 2.7, 0.1]])
    draws = SetDraws(
        slot=np.zeros(1, dtype=np.int64),
        view=torch.arange(6)[None],
        rotations=torch.from_numpy(rotations).float()[None],
        angle_rad=torch.zeros((1, 6)),
        shifts_px=shifts[None],
        snr=torch.tensor([1e6]),
        poisson=np.zeros(1, dtype=bool),
        noise_seed=np.ones(1, dtype=np.uint64),
        defocus_rows=defocus[None] if ctf else None,
        microscope=microscope if ctf else None,
    )
    whole = [np.full(6, value) for value in microscope[0]]
    optics = Optics(*whole, *defocus.T, np.zeros(6), np.zeros(6)) if ctf else None
    return draws, specimen.volume, 3.0, Poses(rotations, shifts.double().numpy()), optics


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Up to a common scale."""
    found, exact = found / found.norm(), exact / exact.norm()
    return float((found - exact).norm())


@pytest.mark.parametrize("box", [24, 25])
def test_images_are_those_of_the_simulation(box: int) -> None:
    """Rotation, shift and CTF mean the same as in `simulate`, odd boxes included."""
    draws, volume, pixel_size, poses, optics = one_set(box, ctf=True)
    assert optics is not None
    batch = form_sets(draws, oversampled_spectrum(volume)[None], np.array([pixel_size]))
    projections = project(resize_centred(volume, 2 * box, 3), poses.rotations)
    clean, signal = form_images(projections, poses, optics, box, pixel_size)
    assert relative_error(batch.clean[0], clean) < 0.02
    assert relative_error(batch.noisy[0], signal) < 0.03


@pytest.mark.parametrize("box", [24, 25])
def test_the_transfer_is_what_the_images_were_multiplied_by(box: int) -> None:
    draws, volume, pixel_size, _, _ = one_set(box, ctf=True)
    batch = form_sets(draws, oversampled_spectrum(volume)[None], np.array([pixel_size]))
    assert batch.transfer is not None
    passed = torch.fft.irfft2(torch.fft.rfft2(batch.clean) * batch.transfer, s=(box, box))
    assert relative_error(batch.noisy, passed) < 0.1  # what the CTF spreads beyond the box is cut off


def test_small_pixels_take_the_ctf_of_the_least() -> None:
    draws, volume, _, _, _ = one_set(24, ctf=True)
    spectra = oversampled_spectrum(volume)[None]
    small = form_sets(draws, spectra, np.array([1.1]), 2.5)
    assert torch.equal(small.noisy, form_sets(draws, spectra, np.array([2.5])).noisy)


def test_views_are_turned_by_the_angles_that_are_said() -> None:
    draws = small_sets(sizes=(8,), size_weights=(1.0,), empty_set_share=0.0, some_empty_share=0.0).draws(1)
    turned_back = in_plane(-np.rad2deg(draws.angle_rad.double().numpy())) @ draws.rotations.double().numpy()
    for view, rotations in zip(draws.view.numpy(), turned_back, strict=True):
        for name in np.unique(view):
            same = rotations[view == name]
            assert np.max(angle_between_deg(same, same[:1])) < 0.05
    angle = draws.angle_rad
    assert float(angle.min()) >= 0
    assert float(angle.max()) < 2 * torch.pi


def test_some_sets_and_another_device() -> None:
    batch = small_sets(sizes=(4,), size_weights=(1.0,)).batch(2)
    assert_same(SetBatch.of(batch.to(torch.device("cpu")).tensors()), batch)
    assert torch.equal(batch.sets(slice(1, 3)).noisy, batch.noisy[1:3])
