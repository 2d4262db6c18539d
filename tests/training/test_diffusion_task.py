"""The tasks that teach sampling and refining: what their batches hold, what their losses mean, and what they record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.denoise.sampling_weights import SIZES, write_random_weights
from tests.training.small_sets import BOX, small_pool

from clarice.core.errors import InputError, UsageError
from clarice.denoise.diffusion import FIRST
from clarice.denoise.diffusion_network import DiffusionNetwork
from clarice.denoise.gaussian_estimate import GaussianEstimate
from clarice.denoise.refiner import Refiner
from clarice.denoise.trained import weights_digest
from clarice.io.weights import read_weights, write_weights
from clarice.physics.noise import coloured_noise
from clarice.training.diffusion_loss import diffusion_loss
from clarice.training.diffusion_task import DiffusionSettings, DiffusionTask
from clarice.training.estimated_images import EstimatedImages, joined, known_images
from clarice.training.network_copies import NetworkCopies
from clarice.training.refiner_task import RefinerSettings, RefinerTask
from clarice.training.simulated_sets import JudgedOn, NetworkSettings
from clarice.training.validation import SetKind

CPU = torch.device("cpu")
SETS = {"images_per_batch": 8, "sizes": [4], "size_weights": [1]}
JUDGED = JudgedOn(structures=1, kinds=[SetKind("four", images=4, views=2, snr=0.2)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLARICE_WEIGHTS", str(tmp_path))
    write_random_weights(tmp_path)
    return tmp_path


def settings(name: str, **more: Any) -> dict[str, Any]:
    network = NetworkSettings(name=name, **{**SIZES[name], **more.pop("size", {})})
    return {"network": network, "sets": SETS, "molecules": True, "validation": JUDGED, **more}


def diffusion(**more: Any) -> DiffusionTask:
    made = DiffusionTask(DiffusionSettings(**settings("diffusion", **more)), seed=1)
    made.__dict__["specimens"] = small_pool()
    return made


def refiner(**more: Any) -> RefinerTask:
    made = RefinerTask(RefinerSettings(**settings("refiner", **more)), seed=1)
    made.__dict__["specimens"] = small_pool()
    return made


def model(task: DiffusionTask) -> DiffusionNetwork:
    made = task.model()
    assert isinstance(made, DiffusionNetwork)
    return made


@pytest.mark.usefixtures("folder")
def test_images_of_a_step_come_from_the_last_batches_and_are_the_same_whenever() -> None:
    task = diffusion(repeats=2, mixed=3)
    batches = [task.batch(position, 0, 1, CPU) for position in range(9)]
    assert all(len(batch.noisy) == 8 for batch in batches)
    simulated = [task.simulated(number, 0, 1, CPU).clean.flatten(0, 1) for number in range(5)]
    for image in batches[8].clean:  # of batches 2, 3 and 4
        assert any((image == one).all(dim=(1, 2)).any() for one in simulated[2:])
    assert not torch.equal(batches[7].clean, batches[8].clean)
    again = diffusion(repeats=2, mixed=3).batch(8, 0, 1, CPU)  # as after a stop
    assert torch.equal(again.clean, batches[8].clean)
    assert torch.allclose(again.mean, batches[8].mean, atol=1e-6)
    assert len(task.batch(8, 1, 2, CPU).noisy) == 4


def test_images_with_and_without_a_transfer_join() -> None:
    images = torch.randn((2, 8, 8))
    plain = EstimatedImages(images, images, None, images, torch.ones((2, 5)))
    filtered = EstimatedImages(images, images, torch.zeros((2, 8, 5)), images, torch.ones((2, 5)))
    both = joined([plain, filtered])
    assert both.transfer is not None
    assert both.transfer.mean(dim=(1, 2)).tolist() == [1, 1, 0, 0]
    assert joined([plain, plain]).transfer is None
    assert torch.equal(both.rows(torch.tensor([3, 0])).clean, images[[1, 0]])


@pytest.mark.usefixtures("folder")
def test_what_is_known_is_what_the_joint_denoiser_says() -> None:
    task = diffusion()
    assert task.first is not None
    sets = task.simulated(5, 0, 1, CPU)
    found = task.first.known(sets)
    estimate = task.first.copies.network(sets.noisy, sets.transfer)
    assert torch.allclose(found.mean.view(sets.clean.shape), estimate.images, atol=0.02)
    assert found.squared_error.shape == (8, BOX // 2 + 1)


def test_without_it_what_is_known_is_the_power_of_the_set() -> None:
    task = diffusion(size={"estimate": "spectrum"})
    assert task.first is None
    sets = task.simulated(0, 0, 1, CPU)
    found = known_images(sets, None)
    assert not found.mean.any()
    power = torch.fft.fft2(sets.clean, norm="ortho")[:, :, 0, 0].abs().square().mean(dim=1)
    assert torch.allclose(found.squared_error.view(2, 4, -1)[:, 0, 0], power, rtol=1e-4)


def test_saying_nothing_costs_1_where_the_error_is_as_foretold() -> None:
    count, box = 300, 16
    spectrum = 2 / (1 + torch.arange(box // 2 + 1.0)) ** 1.5
    known = GaussianEstimate(torch.randn((count, box, box)), spectrum.expand(count, -1))
    generator = torch.Generator().manual_seed(1)
    clean = known.mean + coloured_noise(count, box, spectrum, generator)
    images = EstimatedImages(clean, clean, None, known.mean, known.squared_error)
    task = diffusion(size={"box": box, "attention": [], "estimate": "spectrum"})
    remaining = torch.rand(count, generator=generator)
    with torch.no_grad():
        by_coefficient, in_images = diffusion_loss(model(task), images, remaining, torch.randn((count, box, box)))
    assert float(by_coefficient.mean()) == pytest.approx(1, abs=0.05)
    assert float(in_images.mean()) == pytest.approx(1, abs=0.25)  # a few coefficients of each image count most


def test_no_image_outweighs_all_others() -> None:
    """However much too sure an estimate was, saying nothing costs at most twice what it costs for an honest one."""
    generator = torch.Generator().manual_seed(2)
    known = GaussianEstimate(torch.zeros((50, 16, 16)), torch.full((50, 9), 1e-3))
    clean = torch.randn((50, 16, 16), generator=generator)  # a thousand times the power foretold
    images = EstimatedImages(clean, clean, None, known.mean, known.squared_error)
    task = diffusion(size={"box": 16, "attention": [], "estimate": "spectrum"})
    noise = torch.randn((50, 16, 16), generator=generator)
    with torch.no_grad():
        losses = diffusion_loss(model(task), images, torch.full((50,), 0.1), noise)
    for loss in losses:
        assert float(loss.max()) <= 2
        assert float(loss.min()) > 1.9


@pytest.mark.usefixtures("folder")
def test_both_parts_make_the_loss_and_validation_reports_images() -> None:
    task = diffusion()
    made = model(task)
    with torch.no_grad():
        loss, parts = task.loss(made, task.batch(0, 0, 1, CPU))
    assert float(loss) == pytest.approx(float(parts["by_coefficient"] + parts["in_images"]) / 2)
    figures = task.validate(made.eval(), CPU)
    assert figures["error"] == figures["four"]
    # A network that says nothing expects what is known already.
    assert figures["mse-four"] == pytest.approx(figures["mse-before-four"], rel=1e-4)
    assert figures == task.validate(made, CPU)


@pytest.mark.usefixtures("folder")
def test_networks_of_other_uses_and_boxes_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="unet does not sample"):
        DiffusionTask(DiffusionSettings(network=NetworkSettings(name="unet"), molecules=True), 1)
    with pytest.raises(UsageError, match="diffusion does not refine"):
        RefinerTask(RefinerSettings(network=NetworkSettings(name="diffusion"), molecules=True), 1)
    with pytest.raises(InputError, match="give a polar-transformer for 24 px as first"):
        diffusion(first=folder / "refiner.safetensors").batch(0, 0, 1, CPU)
    with pytest.raises(InputError, match="give a diffusion for 24 px as sampler"):
        refiner(sampler=folder / "refiner.safetensors").batch(0, 0, 1, CPU)
    with pytest.raises(InputError, match="cannot be read"):
        _ = diffusion(first=folder / "nothing.safetensors").source
    with pytest.raises(UsageError, match="steps 0"):
        refiner(steps=[0])
    few = {"images_per_batch": 8, "sizes": [8, 2], "size_weights": [1, 1]}
    assert diffusion(sets=few).first is not None
    with pytest.raises(UsageError, match=r"sets.sizes has 2: images of which the power is known"):
        diffusion(sets=few, size={"estimate": "spectrum"})
    with pytest.raises(UsageError, match="kind alone has 1"):
        diffusion(size={"estimate": "spectrum"}, validation=JudgedOn(kinds=[SetKind("alone", 1, 0, 0.1)]))


def test_a_sampler_and_a_refiner_take_the_images_of_one_joint_denoiser(folder: Path) -> None:
    path = folder / "diffusion.safetensors"
    stored = read_weights(path)
    digest = weights_digest(folder / "polar-transformer.safetensors")
    write_weights(path, stored.tensors, {**stored.card, "source": f"x, the output of {FIRST} {digest}"})
    assert refiner().first is not None
    write_weights(path, stored.tensors, {**stored.card, "source": f"x, the output of {FIRST} 123"})
    with pytest.raises(InputError, match="123, but first is"):
        _ = refiner().first


def test_a_network_stays_where_it_is_when_it_is_wanted_elsewhere() -> None:
    """A thread that makes batches on one device uses it while validation takes a copy to another."""
    copies = NetworkCopies(torch.nn.Linear(2, 2))
    here = copies.on(CPU)
    elsewhere = copies.on(torch.device("meta"))
    assert elsewhere.weight.device.type == "meta"
    assert here.weight.device.type == "cpu"
    assert copies.on(CPU) is here


@pytest.mark.usefixtures("folder")
def test_a_refiner_is_shown_means_of_samples_and_starts_by_leaving_them() -> None:
    task = refiner(steps=[2], samples=[1, 3])
    batches = [task.batch(position, 0, 1, CPU) for position in range(2)]
    assert torch.equal(batches[1].residual, refiner(steps=[2], samples=[1, 3]).batch(1, 0, 1, CPU).residual)
    made = task.model()
    assert isinstance(made, Refiner)
    with torch.no_grad():
        loss, parts = task.loss(made, batches[0])
    assert float(loss) == pytest.approx(1)
    assert set(parts) == {"by_coefficient", "in_images"}
    figures = task.validate(made, CPU)
    assert figures["four"] == pytest.approx(figures["before-four"], rel=1e-4)


def test_what_was_trained_on_is_recorded(folder: Path) -> None:
    digests = {name: weights_digest(folder / f"{name}.safetensors") for name in ("polar-transformer", "diffusion")}
    assert diffusion().trained_on == {"polar-transformer": digests["polar-transformer"]}
    assert digests["polar-transformer"] in diffusion().source
    assert refiner().trained_on == digests
    assert diffusion(size={"estimate": "spectrum"}).trained_on == {}
