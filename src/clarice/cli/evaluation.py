"""What the parts of `clarice evaluate` share: their options, and how figures are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from clarice.cli.console import console
from clarice.cli.output_folder import said_written
from clarice.cli.seed_option import seed_option
from clarice.io.atomic import writing

Rows = list[tuple[str, str]]

_O = typer.Option
TruthOption = Annotated[Path, _O("--truth", help="The truth to compare with.")]
MaskOption = Annotated[Path | None, _O("--mask", help="MRC mask, 0 to 1, in the frame of the truth or half maps.")]
DiameterOption = Annotated[float | None, _O("--diameter", help="Diameter in Å of a soft spherical mask.")]
PixelSizeOption = Annotated[float | None, _O("--pixel-size", help="Pixel size in Å, in place of the files'.")]
SymmetryOption = Annotated[str, _O("--symmetry", help="Point group of the structure: Cn, Dn, T, O or I.")]
RootOption = Annotated[Path | None, _O("--root", help="Folder below which the image files lie.")]
SeedOption = Annotated[int, seed_option("Seed of random phases, noise and drawn pairs.")]


def tell(rows: Rows, figures: dict[str, Any], json_path: Path | None) -> None:
    """Prints `rows` as a table and writes `figures` to the JSON file, if one is asked for."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, escape(value))
    console.print(table)
    if json_path is not None:
        with writing(json_path) as temporary:
            temporary.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", "utf-8")
        said_written("figures", json_path)


def listed(values: np.ndarray[Any, Any]) -> list[Any]:
    """Values for a JSON file, rounded to six places."""
    return [round(float(value), 6) for value in values.ravel()]
