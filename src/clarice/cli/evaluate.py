"""`clarice evaluate`: maps, images, poses and classes against the truth, half maps against each other."""

from __future__ import annotations

import typer

from clarice.cli.evaluate_maps import evaluate_halves, evaluate_map
from clarice.cli.evaluate_particles import evaluate_classes, evaluate_images, evaluate_poses
from clarice.cli.groups import command_group


def register(app: typer.Typer) -> None:
    """Adds the command and its parts to `app`."""
    parts = command_group("Compare maps, images, poses or classes with the truth, or half maps with each other.")
    parts.command("map")(evaluate_map)
    parts.command("halves")(evaluate_halves)
    parts.command("images")(evaluate_images)
    parts.command("poses")(evaluate_poses)
    parts.command("classes")(evaluate_classes)
    app.add_typer(parts, name="evaluate")
