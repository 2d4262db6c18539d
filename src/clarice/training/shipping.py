"""From a training run to weights that can be shipped: half the size, a card, and an example to check them by."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from clarice.abinitio import trained_moment_network
from clarice.abinitio.moment_network import MomentNetwork
from clarice.abinitio.trained_moment_network import load_moment_network
from clarice.core.errors import InputError, UsageError
from clarice.core.progress import Progress, silent
from clarice.denoise.diffusion_network import DiffusionNetwork
from clarice.denoise.example import with_example
from clarice.denoise.polar_transformer import PolarTransformer
from clarice.denoise.trained import load_trained
from clarice.io.atomic import writing
from clarice.io.weights import read_weights, write_weights
from clarice.training.calibration import calibrate, endless, equal_sizes, foretold_over_actual
from clarice.training.denoising_task import DenoisingTask
from clarice.training.diffusion_task import DiffusionTask
from clarice.training.joint_parts import part_folder
from clarice.training.joint_task import JOINT
from clarice.training.logs import last_validation
from clarice.training.recipe import recipe_of
from clarice.training.refiner_task import RefinerTask
from clarice.training.sampling_calibration import measure_unsaid
from clarice.training.simulated_sets import SimulatedSets
from clarice.training.summary import LAST_WEIGHTS, SUMMARY_NAME
from clarice.training.task import Task
from clarice.training.weights_card import FIGURES, STRUCTURES, card_page

# Images of sets that foretold errors are calibrated on.
CALIBRATION_IMAGES = 20_000
# Tasks that train on the output of other networks.
_ON_OTHERS = (DiffusionTask, RefinerTask)


def ship_weights(
    run_folder: Path,
    output: Path,
    note: str = "",
    *,
    part: str | None = None,
    calibration_images: int = CALIBRATION_IMAGES,
    data: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Writes the averaged weights of a network's training to `output` (.safetensors, float16) with card and example.

    A network that foretells its error, or samples, is calibrated first, on `calibration_images` images as its recipe
    draws them (0: left as it is) of the structures in `data`, or those that the recipe names or the environment does.
    Of joint training, `part` says which network. Beside the weights goes their card as a page, with the ending .md.
    Returns the card. Raises InputError when the folder is no training run, or what it was trained on is missing, and
    UsageError for a part where there are none, or the other way round.
    """
    run_folder = _of_one_network(run_folder, part)
    summary = _summary(run_folder)
    stored = read_weights(run_folder / LAST_WEIGHTS)
    tensors = {name: t.half().float() if t.is_floating_point() else t for name, t in stored.tensors.items()}
    calibration: dict[str, Any] | None = None
    structures = summary["recipe"]["task"] == STRUCTURES
    trained = None if structures else load_trained(run_folder / LAST_WEIGHTS)
    network = load_moment_network(run_folder / LAST_WEIGHTS) if trained is None else trained.network
    network.load_state_dict(tensors)
    if calibration_images > 0 and isinstance(network, (PolarTransformer, DiffusionNetwork)):
        sets = equal_sizes(stored.card["recipe"]["sets"])  # equal odds for all sizes of sets
        task = _task(run_folder / LAST_WEIGHTS, stored.card, data, sets=sets)
        calibration = _calibrated(network, task, int(stored.card["images"]), calibration_images, progress)
        tensors = {name: t.half().float() for name, t in network.state_dict().items()}
    trained_on: dict[str, str] = {}
    if summary["recipe"]["task"] in ("diffusion", "refiner"):
        before = _task(run_folder / LAST_WEIGHTS, stored.card, data)
        trained_on = before.trained_on if isinstance(before, _ON_OTHERS) else {}
    validated, figures = last_validation(run_folder)
    card = {
        **stored.card,
        "recipe": _without_folders(stored.card["recipe"]),
        "trained_on": trained_on,
        "machine": summary["machine"],
        "last_quarter_gain": summary["last_quarter_gain"],
        "trained": summary["trained"],
        "validation": figures,
        "validation_images": validated,
        "validations": summary["validations"],
        "calibration": calibration,
        "note": note,
    }
    if trained is not None:
        tensors = with_example(tensors, replace(trained, card=card))
    elif isinstance(network, MomentNetwork):
        tensors = trained_moment_network.with_example(network)
    write_weights(output, tensors, card, torch.float16)
    with writing(output.with_suffix(".md")) as temporary:
        parameters = sum(parameter.numel() for parameter in network.parameters())
        temporary.write_text(card_page(output.stem, card, parameters), encoding="utf-8")
    return card


def _of_one_network(run_folder: Path, part: str | None) -> Path:
    """The folder as it is, or, of joint training, that of a part."""
    if _summary(run_folder)["recipe"]["task"] == JOINT:
        return part_folder(run_folder, part)
    if part is not None:
        raise UsageError(f"--part {part} is for joint training, and {run_folder} trained one network: drop it")
    return run_folder


def _task(path: Path, card: dict[str, Any], data: Path | None, **changes: Any) -> Task:
    """The task of the weights' recipe, with `changes`, less where training started and kept its sets.

    Raises InputError when what it was trained on is no longer there.
    """
    content = {**card["recipe"], **changes}
    content |= {name: None for name in ("start", "start_blocks", "cache") if name in content}
    if data is not None:
        content["data"] = str(data)
    task = recipe_of(content, path).task()
    if card.get("source") is not None and isinstance(task, _ON_OTHERS) and task.source != card["source"]:
        raise InputError(f"{path} was trained on {card['source']}, and there is {task.source} now: restore that")
    return task


def _calibrated(
    network: PolarTransformer | DiffusionNetwork, task: Task, trained: int, images: int, progress: Progress
) -> dict[str, Any]:
    """Calibrates on batches from beyond those that training saw, and says how well that holds for other molecules."""
    first, cpu = -(-trained // task.images_per_batch), torch.device("cpu")
    if isinstance(task, DiffusionTask) and isinstance(network, DiffusionNetwork):
        step = task.settings.repeats
        # A batch's images are drawn from so many simulated ones: all of them must be beyond what training saw.
        begin = -(-first // step) + task.settings.mixed - 1
        fresh = endless(lambda number: task.batch(number * step, 0, 1, cpu), begin)
        done = measure_unsaid(network, fresh, images, progress)
        return {"images": done, "unsaid": float(network.unsaid.mean()), "structures": _structures(task)}
    if isinstance(task, DenoisingTask) and isinstance(network, PolarTransformer):
        batches = endless(lambda number: task.batch(number, 0, 1, cpu), first)
        found = calibrate(network, batches, images, progress)
        held = {name: round(foretold_over_actual(network, sets), 3) for name, sets in task.fixed_sets.items()}
        return {**asdict(found), "structures": _structures(task), "validation": held}
    raise TypeError("a network and a task that do not belong together")


def _structures(task: SimulatedSets) -> str:
    return "procedural molecules" if task.data is None else "training structures and procedural molecules"


def _summary(run_folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((run_folder / SUMMARY_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{run_folder} is no folder of a training that ended: it has no {SUMMARY_NAME}") from error
    if content["recipe"]["task"] not in (*FIGURES, JOINT):
        shipped = ", ".join([*FIGURES, JOINT])
        raise InputError(f"{run_folder} trained a {content['recipe']['task']}: only weights of {shipped} are shipped")
    return content


def _without_folders(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe less where things lay on the machine it ran on; of weights to start from, their name."""
    kept = {key: value for key, value in recipe.items() if key not in ("data", "cache")}
    for name in ("start", "first", "sampler"):
        if kept.get(name):
            kept[name] = Path(kept[name]).name
    return kept
