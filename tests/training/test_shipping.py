"""Weights are shipped with a card and an example that another machine can replay."""

from __future__ import annotations

import json
from math import log
from pathlib import Path

import pytest
import torch

from clarice.abinitio.moment_network import MomentNetwork, MomentNetworkSize
from clarice.abinitio.trained_moment_network import example_replayed
from clarice.core.errors import InputError
from clarice.denoise.networks import network_kind
from clarice.denoise.trained import EXAMPLE_IMAGES, EXAMPLE_NOISY, load_trained
from clarice.io.weights import read_weights, write_weights
from clarice.training.shipping import ship_weights
from clarice.training.structure_task import StructureTaskSettings

SIZE = {"layers": 4, "channels": 8}


def run_folder(folder: Path, task: str = "denoiser") -> Path:
    """A folder as a training of a small random network leaves it."""
    folder.mkdir()
    torch.manual_seed(1)
    network = network_kind("dncnn").build(dict(SIZE))
    recipe = {"task": task, "network": {"name": "dncnn", **SIZE}, "sets": {"largest_snr": 0.1}}
    recipe |= {"data": "/somewhere/data", "cache": "/somewhere/cache", "start": "/somewhere/first.safetensors"}
    card = {"recipe": recipe, "images": 13000, "seconds": 60.0, "version": "0.1.0"}
    write_weights(folder / "last.safetensors", network.state_dict(), card)
    summary = {"recipe": recipe, "machine": {"device": "x86_64"}, "last_quarter_gain": 0.02, "trained": False}
    summary["validations"] = [[0, 1.0], [6400, 0.5], [12800, 0.25]]
    (folder / "training.json").write_text(json.dumps(summary))
    rows = [
        "images,loss,validation_error,validation_single",
        "0,,1,1",
        "6400,0.5,,",
        "12800,0.4,0.25,0.3",
        "13000,0.4,,",
    ]
    (folder / "log.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_the_example_replays_and_the_card_says_what_was_trained(tmp_path: Path) -> None:
    output = tmp_path / "dncnn.safetensors"
    ship_weights(run_folder(tmp_path / "run"), output, "A note.")
    stored, trained = read_weights(output), load_trained(output)
    floats = sum(t.numel() for t in stored.tensors.values() if t.is_floating_point())
    assert output.stat().st_size < 2 * floats + 4000
    again = trained.network(stored.tensors[EXAMPLE_NOISY]).images
    expected = stored.tensors[EXAMPLE_IMAGES]
    assert expected.std() > 0
    assert torch.allclose(again, expected, atol=2e-3 * float(expected.abs().max()))
    assert trained.card["validation"] == {"error": 0.25, "single": 0.3}
    assert trained.card["validation_images"] == 12_800  # the run was stopped after that
    assert "somewhere" not in json.dumps(trained.card)
    assert trained.card["recipe"]["start"] == "first.safetensors"
    page = output.with_suffix(".md").read_text()
    for text in (
        "# dncnn",
        "A note.",
        "trained on 13,000 images",
        "| validation set | relative MSE after 12,800 images |",
        "- structures: not recorded",
        "SNR 0.005 to 0.1; with a CTF 50%, Poisson noise 15% of sets",
        "| single | 0.3000 |",
        "does not count as fully trained",
        "-2.00 %",
        "0 1.0000, 6,400 0.5000, 12,800 0.2500",
    ):
        assert text in page


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("procedural molecules alone", "- structures: procedural molecules alone\n"),
        ("725 structures (SHA-256 0a1b)", "- structures: 725 structures (SHA-256 0a1b) drawn by cluster, complexes of"),
    ],
)
def test_the_card_says_what_was_trained_on(tmp_path: Path, source: str, told: str) -> None:
    run = run_folder(tmp_path / "run")
    stored = read_weights(run / "last.safetensors")
    write_weights(run / "last.safetensors", stored.tensors, {**stored.card, "source": source})
    card = ship_weights(run, tmp_path / "dncnn.safetensors")
    assert card["source"] == source
    assert told in (tmp_path / "dncnn.md").read_text()


def test_a_network_that_foretells_its_error_is_calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLARICE_DATA", raising=False)
    run = run_folder(tmp_path / "run")
    size = {"box": 32, "n_angles": 16, "real_rings": 8, "fourier_rings": 5, "channels": 16, "heads": 2}
    size |= {"attention_blocks": 1, "blocks_before": 0, "blocks_after": 0}
    network = network_kind("polar-transformer").build(size)
    one = {"name": "one", "images": 1, "views": 0, "snr": 0.1}
    summary = json.loads((run / "training.json").read_text())
    recipe = {
        "task": "denoiser",
        "network": {"name": "polar-transformer", **size},
        "sets": {"images_per_batch": 16, "sizes": [1, 8], "size_weights": [1, 1], "ctf_share": 0.0},
        "specimens": {"slots": 2},
        "validation": {"structures": 1, "kinds": [one, {**one, "name": "some", "images": 8}]},
        "start": "/somewhere/first.safetensors",
        "start_blocks": [0],
    }
    card = {"recipe": recipe, "images": 100, "seconds": 60.0, "version": "0.1.0"}
    write_weights(run / "last.safetensors", network.state_dict(), card)
    (run / "training.json").write_text(json.dumps({**summary, "recipe": recipe}))
    output = tmp_path / "polar-transformer.safetensors"
    card = ship_weights(run, output, calibration_images=960)
    assert card["calibration"]["images"] == 960
    before, after = (abs(log(card["calibration"][name])) for name in ("before", "after"))
    assert after < 0.5 * before
    assert set(card["calibration"]["validation"]) == {"one", "some"}
    assert card["calibration"]["structures"] == "procedural molecules"
    shipped = load_trained(output).network.state_dict()
    for name, tensor in network.state_dict().items():
        if not name.startswith("foretell."):
            assert torch.equal(shipped[name], tensor.half().float()), name
    assert (shipped["foretell.spread"] != 1).all()
    assert (
        f"{card['calibration']['after']:.2f} once calibrated on 960 fresh images of procedural"
        in output.with_suffix(".md").read_text()
    )
    assert ship_weights(run, output, calibration_images=0)["calibration"] is None
    assert torch.equal(
        load_trained(output).network.state_dict()["foretell.spread"], torch.ones_like(network.foretell.spread)
    )


def test_a_network_that_knows_structures_is_shipped_with_an_example_of_its_own(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", "structures")
    size = MomentNetworkSize(channels=4, products=2, blocks=1, context=8)
    network = MomentNetwork(size)
    network.spread.fill_(0.1)
    recipe = StructureTaskSettings(network=size).model_dump(mode="json")
    recipe |= {"task": "structures", "network": vars(size), "cache": "/somewhere/cache"}
    card = {"recipe": recipe, "images": 13000, "seconds": 60.0, "version": "0.1.0"}
    write_weights(run / "last.safetensors", network.state_dict(), card)
    output = tmp_path / "structures.safetensors"
    assert "somewhere" not in json.dumps(ship_weights(run, output, "A note."))
    found, made = example_replayed(output)
    assert made.std() > 0
    assert torch.allclose(found, made, atol=2e-3 * float(made.abs().max()))
    page = output.with_suffix(".md").read_text()
    assert "correlations exact in 30% of structures, unknown in 15%, else with errors from 1e-08 to 0.01" in page
    assert "SNR" not in page


def test_what_is_no_training_of_a_denoiser_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"training\.json"):
        ship_weights(tmp_path, tmp_path / "dncnn.safetensors")
    with pytest.raises(InputError, match="trained a regression"):
        ship_weights(run_folder(tmp_path / "run", "regression"), tmp_path / "dncnn.safetensors")
    assert not list(tmp_path.glob("*.safetensors"))
