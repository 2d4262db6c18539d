"""Joint training: images and structures of a batch belong together, and what structures lack reaches the denoiser."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.denoise.sampling_weights import SIZES, write_random_weights
from tests.training.runs import quick, trained
from torch import Tensor

from clarice.abinitio.kam import autocorrelations, autocorrelations_of
from clarice.abinitio.known_correlations import KnownCorrelations
from clarice.abinitio.moment_network import MomentNetwork, MomentNetworkSize
from clarice.abinitio.moments import Moments
from clarice.abinitio.structure_space import learned_rings, structure_space
from clarice.abinitio.trained_moment_network import load_moment_network
from clarice.core.errors import UsageError
from clarice.denoise.trained import load_trained
from clarice.io.weights import write_weights
from clarice.training import structure_store
from clarice.training.joint_network import JointNetwork
from clarice.training.joint_task import JointSettings, JointTask
from clarice.training.shipping import ship_weights
from clarice.training.structure_task import StructureTaskSettings

__all__ = ["quick"]  # a fixture
CPU = torch.device("cpu")
SMALL = MomentNetworkSize(channels=4, products=2, blocks=1, context=8)
FILL = structure_space().learning_fill


@pytest.fixture(autouse=True)
def few_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure_store, "BLOCK", 4)


def structure_recipe() -> dict[str, Any]:
    """As the card of weights of structures has it."""
    recipe = StructureTaskSettings(network=SMALL).model_dump(mode="json")
    return {"task": "structures", "seed": 1, **recipe, "network": asdict(SMALL)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small networks with random weights."""
    folder = tmp_path_factory.mktemp("weights")
    write_random_weights(folder)
    torch.manual_seed(1)
    network = MomentNetwork(SMALL)
    network.spread.copy_(0.5 + torch.rand(len(network.spread), generator=torch.Generator().manual_seed(1)))
    write_weights(folder / "structures.safetensors", network.state_dict(), {"recipe": structure_recipe()})
    return folder


def keys(weights: Path, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "network": {"name": "polar-transformer", **SIZES["polar-transformer"]},
        "sets": {"images_per_batch": 48, "sizes": [24], "size_weights": [1], "least_snr": 0.5, "largest_snr": 1.0},
        "specimens": {"slots": 3, "replace_every": 1, "least_fill": FILL, "largest_fill": FILL},
        "validation": {"structures": 1, "kinds": [{"name": "few", "images": 16, "views": 0, "snr": 0.5}]},
        "denoiser": str(weights / "polar-transformer.safetensors"),
        "structures": str(weights / "structures.safetensors"),
        "levels": 3,
        "molecules": True,
    }
    return {**given, **changes}


def task(weights: Path, **changes: Any) -> JointTask:
    return JointTask(JointSettings.model_validate(keys(weights, **changes)), seed=1)


def test_the_structures_of_a_batch_are_those_that_its_images_show(weights: Path) -> None:
    """Correlations of the noise-free images agree with those of the structure of their set, and of no other."""
    sets = {"images_per_batch": 1024, "sizes": [512], "size_weights": [1], "ctf_share": 0.0}
    made = task(weights, sets=sets).batch(4, 0, 1, CPU)
    space, box = structure_space(), made.sets.clean.shape[-1]
    rings = learned_rings(box, FILL * box)
    likeness = torch.zeros(2, 2)
    structures = made.clean * task(weights).model().structures.spread  # type: ignore[operator, union-attr]
    wanted = autocorrelations_of(space.spheres(structures.double()))
    for row, images in enumerate(made.sets.clean):
        moments = Moments.of(images, images.new_ones((len(images), len(rings.radii))), rings, noise_variance=0.0)
        found = autocorrelations(moments, FILL * box).values[: space.degree + 1]
        # Degree 0 is strong in all molecules alike, and the highest ones are hardly seen.
        for column in range(2):
            pairs = found[2:9].flatten(), wanted[column, 2:9].flatten()
            likeness[row, column] = torch.nn.functional.cosine_similarity(*pairs, dim=0)
    assert (likeness.diagonal() > 0.9).all()
    assert likeness.diagonal().min() > likeness.fliplr().diagonal().max()


def test_a_batch_is_the_same_whenever_it_is_asked_for(weights: Path) -> None:
    first, again = task(weights), task(weights)
    again.batch(6, 0, 1, CPU)
    here, there = first.batch(5, 0, 1, CPU), again.batch(5, 0, 1, CPU)
    for name in ("clean", "noisy", "level"):
        assert torch.equal(getattr(here, name), getattr(there, name)), name
    assert torch.equal(here.sets.noisy, there.sets.noisy)
    part = first.batch(5, 1, 2, CPU)
    assert torch.equal(part.clean, here.clean[1:])


def test_derivatives_of_the_structures_error_by_the_denoisers_weights_are_those_of_differences(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through images, moments, correlations, their factors and the network, with no loss of the images' own.

    By choice there is none through what moments are said to err by: so that is held.
    """
    first, calls = KnownCorrelations.of, itertools.count()
    held: dict[int, tuple[Tensor, Tensor | None]] = {}

    def of(a: Tensor, c: Tensor, error: Tensor, spread: Tensor, by_ring: Tensor | None = None) -> KnownCorrelations:
        return first(a, c, *(held.setdefault(next(calls) % 2, (error, by_ring))[:1]), spread, held[0][1])

    monkeypatch.setattr(KnownCorrelations, "of", of)
    made = task(weights, loss={"foretelling": 0, "sketches": 0, "guidance": 0}, structure_weight=1.0)
    network, batch = made.model().eval(), made.batch(0, 0, 1, CPU)
    assert isinstance(network, JointNetwork)

    def structures_error() -> Tensor:
        return made.loss(network, batch)[1]["structures"]

    weight = network.denoiser.leave.weight
    assert isinstance(weight, Tensor)
    length = float(weight.detach().norm())
    (found,) = torch.autograd.grad(structures_error(), weight)
    assert torch.isfinite(found).all()
    assert float(found.norm()) > 0
    for way in (found / found.norm(), torch.randn(found.shape, generator=torch.Generator().manual_seed(4))):
        step = 1e-3 * length / float(way.norm())
        with torch.no_grad():
            errors = []
            for sign in (1, -1):
                weight += sign * step * way
                errors.append(float(structures_error()))
                weight -= sign * step * way
        slope = (errors[0] - errors[1]) / (2 * step)
        assert float((found * way).sum()) == pytest.approx(slope, rel=0.03, abs=0.01 * float(found.norm() * way.norm()))


def test_a_denoiser_that_stays_learns_nothing(weights: Path) -> None:
    made = task(weights, trained="structures")
    network = made.model()
    loss, parts = made.loss(network, made.batch(0, 0, 1, CPU))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(parts["structures"].detach()))
    for name, parameter in network.named_parameters():
        moved = parameter.grad is not None and bool(parameter.grad.any())
        assert moved <= name.startswith("structures."), name
    assert any(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.usefixtures("quick")
def test_both_learn_from_a_recipe(weights: Path, tmp_path: Path) -> None:
    training = {"images": 1920, "warmup_images": 0, "learning_rate": 3e-3, "average_images": 200}
    training |= {"log_images": 480, "validate_images": 960}
    recipe = tmp_path / "joint.yaml"
    recipe.write_text(str({"task": "joint", "seed": 1, **keys(weights), "training": training}))
    outcome = trained(recipe, tmp_path / "run")
    errors = [error for _, error in outcome.validations]
    assert errors[-1] < errors[0]
    with pytest.raises(UsageError, match="name one with --part denoiser"):
        ship_weights(tmp_path / "run", tmp_path / "x.safetensors")
    for part, name, figure in (("denoiser", "polar-transformer", "few"), ("structures", "structures", "few-level1")):
        output = tmp_path / f"{name}.safetensors"
        card = ship_weights(tmp_path / "run", output, part=part, calibration_images=96)
        assert figure in card["validation"]
        assert set(card["validation"]) & {"few", "few-level1"} == {figure}
        assert card["validation"]["error"] == pytest.approx(card["validations"][-1][1])
    both = load_file(tmp_path / "run" / "last.safetensors")
    kept = load_trained(tmp_path / "polar-transformer.safetensors").network.state_dict()
    torch.testing.assert_close(kept["leave.weight"], both["denoiser.leave.weight"].half().float())
    structures = load_moment_network(tmp_path / "structures.safetensors").state_dict()
    torch.testing.assert_close(structures["out.weight"], both["structures.out.weight"].half().float())


def test_weights_of_another_size_than_the_recipes_are_refused(weights: Path) -> None:
    larger = {"name": "polar-transformer", **SIZES["polar-transformer"], "attention_blocks": 3}
    with pytest.raises(UsageError, match="of another size than the recipe's"):
        task(weights, network=larger).model()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"specimens": {"least_fill": 0.5}}, "least_fill and largest_fill must be 0.65"),
        ({"sets": {"shift_share": 0.5}}, "shift_share 0.5 must be 0"),
        ({"sets": {"own_views_share": 0.5}}, "own_views_share 0.5 must be 1"),
        ({"sets": {"images_per_batch": 4, "sizes": [1], "size_weights": [1]}}, "sizes of 1 have no moments"),
        ({"validation": {"kinds": [{"name": "few", "images": 8, "views": 2, "snr": 1}]}}, "every image its own view"),
        ({"validation": {"kinds": [{"name": "one", "images": 1, "views": 0, "snr": 1}]}}, "one image has no moments"),
        ({"least_level": 3, "largest_level": 2}, "exchange them"),
    ],
)
def test_what_gives_no_correlations_is_refused(weights: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        task(weights, **changes)
