"""From a training run to weights that can be shipped: half the size, a card, and an example to check them by."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from clarice.core.errors import InputError
from clarice.core.progress import Progress, silent
from clarice.denoise.networks import box_of
from clarice.denoise.polar_transformer import PolarTransformer
from clarice.denoise.trained import EXAMPLE_IMAGES, EXAMPLE_NOISY, load_trained
from clarice.geometry.fourier import radius_grid
from clarice.io.atomic import writing
from clarice.io.weights import read_weights, write_weights
from clarice.training.calibration import calibrate, endless, equal_sizes, foretold_over_actual
from clarice.training.denoising_task import DenoisingTask
from clarice.training.logs import last_validation
from clarice.training.recipe import recipe_of
from clarice.training.set_draws import with_defaults
from clarice.training.structures import MOLECULES_ALONE
from clarice.training.summary import LAST_WEIGHTS, SUMMARY_NAME

# Images of sets that foretold errors are calibrated on.
CALIBRATION_IMAGES = 20_000
# Images of the example, in one set.
_EXAMPLE_IMAGES = 4


def ship_weights(
    run_folder: Path,
    output: Path,
    note: str = "",
    *,
    calibration_images: int = CALIBRATION_IMAGES,
    data: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Writes the averaged weights of a denoiser's training to `output` (.safetensors, float16) with card and example.

    A network that foretells its error is calibrated first, on `calibration_images` images as its recipe draws them
    (0: left as it is) of the structures in `data`, or those that the recipe names or the environment does. Beside the
    weights goes their card as a page, with the ending .md. Returns the card. Raises InputError when the folder is no
    training run of a denoiser, or its structures are missing.
    """
    summary = _summary(run_folder)
    stored = read_weights(run_folder / LAST_WEIGHTS)
    tensors = {name: t.half().float() if t.is_floating_point() else t for name, t in stored.tensors.items()}
    network = load_trained(run_folder / LAST_WEIGHTS).network
    calibration: dict[str, Any] | None = None
    if calibration_images > 0 and isinstance(network, PolarTransformer):
        network.load_state_dict(tensors)
        task = _task(run_folder / LAST_WEIGHTS, stored.card, data)
        calibration = _calibrated(network, task, int(stored.card["images"]), calibration_images, progress)
        tensors = {name: t.half().float() for name, t in network.state_dict().items()}
    validated, figures = last_validation(run_folder)
    card = {
        **stored.card,
        "recipe": _without_folders(stored.card["recipe"]),
        "machine": summary["machine"],
        "last_quarter_gain": summary["last_quarter_gain"],
        "trained": summary["trained"],
        "validation": figures,
        "validation_images": validated,
        "validations": summary["validations"],
        "calibration": calibration,
        "note": note,
    }
    write_weights(output, tensors, card, torch.float16)
    box = box_of(card["recipe"]["network"])
    noisy = torch.randn((1, _EXAMPLE_IMAGES, box, box), generator=torch.Generator().manual_seed(1)).half().float()
    noisy += (radius_grid(box, 2) <= box / 6).float()  # something to see
    noisy = noisy.half().float()
    images = load_trained(output).network(noisy).images
    write_weights(output, {**tensors, EXAMPLE_NOISY: noisy, EXAMPLE_IMAGES: images}, card, torch.float16)
    with writing(output.with_suffix(".md")) as temporary:
        parameters = sum(parameter.numel() for parameter in network.parameters())
        temporary.write_text(card_page(output.stem, card, parameters), encoding="utf-8")
    return card


def _task(path: Path, card: dict[str, Any], data: Path | None) -> DenoisingTask:
    """The task of the weights' recipe, with equal odds for all sizes of sets."""
    beside = {"start": None, "start_blocks": None, "cache": None}  # where training started and kept its sets
    content = {**card["recipe"], **beside, "sets": equal_sizes(card["recipe"]["sets"])}
    if data is not None:
        content["data"] = str(data)
    task = recipe_of(content, path).task()
    if not isinstance(task, DenoisingTask):
        raise TypeError(f"{path} is of another task")
    return task


def _calibrated(
    network: PolarTransformer, task: DenoisingTask, trained: int, images: int, progress: Progress
) -> dict[str, Any]:
    """Calibrates on batches from beyond those that training saw, and says how well that holds for other molecules."""
    first = -(-trained // task.images_per_batch)
    batches = endless(lambda position: task.batch(position, 0, 1, torch.device("cpu")), first)
    found = calibrate(network, batches, images, progress)
    held = {name: round(foretold_over_actual(network, sets), 3) for name, sets in task.fixed_sets.items()}
    structures = "procedural molecules" if task.data is None else "training structures and procedural molecules"
    return {**asdict(found), "structures": structures, "validation": held}


def _summary(run_folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((run_folder / SUMMARY_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{run_folder} is no folder of a training that ended: it has no {SUMMARY_NAME}") from error
    if content["recipe"]["task"] != "denoiser":
        raise InputError(
            f"{run_folder} trained a {content['recipe']['task']}: only a denoiser's weights are shipped so"
        )
    return content


def _without_folders(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe less where things lay on the machine it ran on; of weights to start from, their name."""
    kept = {key: value for key, value in recipe.items() if key not in ("data", "cache")}
    if kept.get("start"):
        kept["start"] = Path(kept["start"]).name
    return kept


def card_page(name: str, card: dict[str, Any], parameters: int) -> str:
    """The card as a page of Markdown."""
    recipe = card["recipe"]
    sets = with_defaults(recipe["sets"])
    gain = card["last_quarter_gain"]
    lines = [
        f"# {name}",
        "",
        card["note"],
        "",
        f"- network: {json.dumps(recipe['network'])}, {parameters:,} parameters, stored as float16",
        f"- trained on {card['images']:,} images in {card['seconds']:,.0f} s, {json.dumps(card['machine'])}",
        f"- structures: {_on_structures(card.get('source'))}",
        f"- SNR {sets['least_snr']:g} to {sets['largest_snr']:g}; with a CTF {sets['ctf_share']:.0%}, "
        f"Poisson noise {sets['poisson_share']:.0%} of sets; box {box_of(recipe['network'])} px",
        "- the last quarter of the images changed the validation error by "
        + ("an unknown share" if gain is None else f"{-100 * gain:+.2f} %")
        + ("; it counts as trained" if card["trained"] else "; it does not count as fully trained"),
        "- validation error by images seen: "
        + ", ".join(f"{images:,} {error:.4f}" for images, error in card["validations"]),
        *_on_calibration(card.get("calibration")),
        f"- version {card['version']}",
        "",
        f"| validation set | relative MSE after {card['validation_images']:,} images |",
        "|---|---|",
        *(f"| {kind} | {error:.4f} |" for kind, error in card["validation"].items()),
        "",
        "For empty sets the figure is the power put out, over what a particle would have had.",
        "",
    ]
    return "\n".join(lines)


def _on_structures(source: str | None) -> str:
    if source is None:
        return "not recorded by the version that began the training"
    if source == MOLECULES_ALONE:
        return source
    return f"{source} drawn by cluster, complexes of their chains, and procedural molecules"


def _on_calibration(calibration: dict[str, Any] | None) -> list[str]:
    if calibration is None:
        return []
    held = ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in calibration["validation"].items())
    return [
        f"- error foretold over actual: {calibration['before']:.2f}, and {calibration['after']:.2f} once calibrated on "
        f"{calibration['images']:,} fresh images of {calibration['structures']}; on validation structures: {held}"
    ]
