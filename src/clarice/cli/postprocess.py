"""`clarice postprocess`: two half maps sharpened, with their resolution as a whole, by place and by direction."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from clarice.cli.console import console, told
from clarice.cli.evaluation import DiameterOption, MaskOption
from clarice.cli.map_files import write_maps
from clarice.cli.output_folder import insist_on_place, keep_apart, make_folder
from clarice.cli.stack_options import SeedOption
from clarice.core.errors import UsageError
from clarice.metrics.half_maps import last_filled_shell
from clarice.metrics.map_files import read_half_maps, soft_mask
from clarice.metrics.masks import mask_from_map
from clarice.pipeline.durable import write_json
from clarice.pipeline.foretelling import foretell
from clarice.pipeline.fsc_files import write_fsc
from clarice.pipeline.memory import postprocessing
from clarice.pipeline.postprocess import postprocessed

RECORD = "postprocess.json"
WRITES = ("map_sharpened.mrc", "local_resolution.mrc", "mask.mrc", "fsc.star", "fsc.json", RECORD)
_A = typer.Argument
_O = typer.Option
# Amplitudes at Nyquist are never raised nor lowered by more than e to this power: nothing would be left but them.
LARGEST_EXPONENT = 30.0


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("postprocess")(postprocess)


def postprocess(
    half1: Annotated[Path, _A(help="First half map, MRC.")],
    half2: Annotated[Path, _A(help="Second half map, MRC, on the same grid.")],
    output: Annotated[Path, _O("-o", "--output", help="Folder to write map_sharpened.mrc and the curves to.")],
    mask: MaskOption = None,
    diameter: DiameterOption = None,
    b_factor: Annotated[
        float | None, _O(help="Blur to undo, Å², above 0 to sharpen; fitted beyond 10 Å, or none, if absent.")
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Sharpen the mean of two half maps, and tell how far they agree as a whole, by place and by direction.

    Writes map_sharpened.mrc, local_resolution.mrc (Å at every voxel), mask.mrc, fsc.star, fsc.json and
    postprocess.json. Without a mask one is made from the map.
    """
    first, second = read_half_maps(half1, half2)
    pixel = first.pixel_size_angstrom
    _insist_on_b_factor(b_factor, pixel)
    mean = np.asarray((first.values + second.values) / 2, dtype=np.float32)
    weights = soft_mask(mask, diameter, first)
    weights = np.asarray(mask_from_map(mean) if weights is None else weights, dtype=np.float32)
    keep_apart(output, WRITES, (half1, half2, mask))
    insist_on_place(output)
    foretell("the maps", postprocessing(first.box), output, told)
    make_folder(output)
    halves = first.values, second.values
    last_shell = last_filled_shell(*halves)
    stated = write_fsc(output, halves, weights, pixel, seed, last_shell)
    made = postprocessed(halves, weights, pixel, stated.curves.corrected, last_shell, b_factor)
    maps = {"map_sharpened": made.sharpened, "local_resolution": made.local_resolution_angstrom, "mask": weights}
    write_maps(output, pixel, maps)
    write_json(output / RECORD, made.record)
    if made.warning is not None:
        console.print(f"warning: {made.warning}", markup=False)
    _tell(made.record, stated.words, output)


def _insist_on_b_factor(b_factor: float | None, pixel_size_angstrom: float) -> None:
    """Raises UsageError for one under which nothing but the finest, or the coarsest, waves would be left."""
    largest = LARGEST_EXPONENT * 4 * (2 * pixel_size_angstrom) ** 2
    if b_factor is not None and not abs(b_factor) <= largest:
        raise UsageError(
            f"--b-factor {b_factor:g} must lie between -{largest:.0f} and {largest:.0f} Å² for pixels of "
            f"{pixel_size_angstrom:.4g} Å"
        )


def _tell(record: dict[str, object], words: str, output: Path) -> None:
    local, direction = record["local_resolution"], record["by_direction"]
    assert isinstance(local, dict)
    assert isinstance(direction, dict)
    lines = (
        f"{words} at FSC 0.143",
        f"by place: median {local['median_angstrom']:.1f} Å, {local['best_5_percent_angstrom']:.1f} to "
        f"{local['worst_5_percent_angstrom']:.1f} Å for nine tenths of the particle (FSC {local['threshold']})",
        f"by direction: {direction['best_angstrom']:.1f} to {direction['worst_angstrom']:.1f} Å "
        f"(FSC {direction['threshold']})",
        f"B-factor {record['b_factor_angstrom2']:.0f} Å², {record['b_factor_is']}: {output / 'map_sharpened.mrc'}",
    )
    for line in lines:
        console.print(line, markup=False)
