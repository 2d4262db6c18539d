"""`clarice export-weights`: the weights that a training made, with their card, to be shipped or passed on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clarice.cli.console import console, showing_progress
from clarice.core.errors import UsageError
from clarice.core.parallel import operations_shared

_O = typer.Option


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("export-weights")(export_weights)


def export_weights(
    run: Annotated[Path, typer.Argument(help="Folder of a network's training.")],
    output: Annotated[Path, _O("-o", "--output", help="File to write, NAME.safetensors; its card goes to NAME.md.")],
    note: Annotated[str, _O(help="A sentence for the card.")] = "",
    calibrate: Annotated[
        int, _O(help="Images on which errors that a network foretells are calibrated; 0 for none.", min=0)
    ] = 20_000,
    part: Annotated[str | None, _O(help="Of joint training: denoiser or structures.")] = None,
    data: Annotated[
        Path | None, _O(help="Folder of structures to calibrate on, where it is not the one of training.")
    ] = None,
) -> None:
    """Export a network's weights with their card and an example to check them by.

    A network that foretells its error is calibrated first: with everything else at rest, what foretells it is fitted
    once more, to sets that training never drew.

    The folder that CLARICE_WEIGHTS names is where denoising looks for weights, under the network's name:
    polar-transformer.safetensors, polar-cnn.safetensors, unet.safetensors, dncnn.safetensors, structures.safetensors.
    """
    if output.suffix != ".safetensors":
        raise UsageError(f"{output} must end in .safetensors: that is the format weights are kept in")
    from clarice.training.shipping import ship_weights  # seconds to import, for this command alone

    with showing_progress() as progress, operations_shared():
        card = ship_weights(run, output, note, part=part, calibration_images=calibrate, data=data, progress=progress)
    console.print(
        f"weights of {card['images']:,} images: {output}; their card: {output.with_suffix('.md')}", markup=False
    )
