"""The card of weights as a page: what was trained, on what, for how long, and how well it does."""

from __future__ import annotations

import json
from typing import Any

from clarice.denoise.networks import box_of
from clarice.training.set_draws import with_defaults
from clarice.training.simulated_sets import OUTPUT_OF
from clarice.training.structures import MOLECULES_ALONE

# What training of each kind is judged by.
FIGURES = {
    "denoiser": "relative MSE",
    "diffusion": "error of what is said of the noise, over that of saying nothing (mse: relative MSE of the mean)",
    "refiner": "relative MSE",
    "structures": "squared error over the structure's own square",
}
# The task that knows structures rather than images.
STRUCTURES = "structures"


def card_page(name: str, card: dict[str, Any], parameters: int) -> str:
    """The card as a page of Markdown."""
    recipe = card["recipe"]
    gain = card["last_quarter_gain"]
    lines = [
        f"# {name}",
        "",
        card["note"],
        "",
        f"- network: {json.dumps(recipe['network'])}, {parameters:,} parameters, stored as float16",
        f"- trained on {card['images']:,} images in {card['seconds']:,.0f} s, {json.dumps(card['machine'])}",
        f"- structures: {_on_structures(card.get('source'))}",
        *(_on_known(recipe) if recipe["task"] == STRUCTURES else _on_sets(recipe)),
        "- the last quarter of the images changed the validation error by "
        + ("an unknown share" if gain is None else f"{-100 * gain:+.2f} %")
        + ("; it counts as trained" if card["trained"] else "; it does not count as fully trained"),
        "- validation error by images seen: "
        + ", ".join(f"{images:,} {error:.4f}" for images, error in card["validations"]),
        *_on_calibration(card.get("calibration")),
        f"- version {card['version']}",
        "",
        f"| validation set | {FIGURES[recipe['task']]} after {card['validation_images']:,} images |",
        "|---|---|",
        *(f"| {kind} | {error:.4f} |" for kind, error in card["validation"].items()),
        "",
        "Sets are named by how well correlations are known, and by the level of noise on the structures."
        if recipe["task"] == STRUCTURES
        else "For empty sets the figure is the power put out, over what a particle would have had.",
        "",
    ]
    return "\n".join(lines)


def _on_sets(recipe: dict[str, Any]) -> list[str]:
    sets = with_defaults(recipe["sets"])
    return [
        f"- SNR {sets['least_snr']:g} to {sets['largest_snr']:g}; with a CTF {sets['ctf_share']:.0%}, "
        f"Poisson noise {sets['poisson_share']:.0%} of sets; box {box_of(recipe['network'])} px"
    ]


def _on_known(recipe: dict[str, Any]) -> list[str]:
    known = recipe["known"]
    return [
        f"- correlations exact in {known['exact_share']:.0%} of structures, unknown in {known['unknown_share']:.0%}, "
        f"else with errors from {known['least_error']:g} to {known['largest_error']:g}; noise of levels "
        f"{recipe['least_level']:g} to {recipe['largest_level']:g}"
    ]


def _on_structures(source: str | None) -> str:
    if source is None:
        return "not recorded by the version that began the training"
    structures, _, networks = source.partition(OUTPUT_OF)
    if structures != MOLECULES_ALONE:
        structures += " drawn by cluster, complexes of their chains, and procedural molecules"
    return f"{structures}; on the output of {networks}" if networks else structures


def _on_calibration(calibration: dict[str, Any] | None) -> list[str]:
    if calibration is None:
        return []
    if "unsaid" in calibration:
        return [
            f"- of the variance of v, {calibration['unsaid']:.2f} is left unsaid on average over levels of noise, by "
            f"{calibration['images']:,} fresh images of {calibration['structures']}"
        ]
    held = ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in calibration["validation"].items())
    return [
        f"- error foretold over actual: {calibration['before']:.2f}, and {calibration['after']:.2f} once calibrated on "
        f"{calibration['images']:,} fresh images of {calibration['structures']}; on validation structures: {held}"
    ]
