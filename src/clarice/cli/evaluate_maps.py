"""`clarice evaluate map` and `clarice evaluate halves`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from clarice.cli.evaluation import DiameterOption, MaskOption, SeedOption, TruthOption, listed, tell
from clarice.cli.output_folder import JsonOption, keep_files_apart, said_written, writable_file
from clarice.io.mrc import write_mrc
from clarice.metrics.half_maps import half_map_fsc, noise_null
from clarice.metrics.map_files import Cube, on_grid_of, read_cube, read_half_maps, soft_mask
from clarice.metrics.registration import register
from clarice.metrics.shells import fsc, resolution_at
from clarice.pipeline.fsc_files import resolution_text

_A = typer.Argument
_O = typer.Option


def _resolutions(curve: np.ndarray[Any, Any], cube: Cube) -> dict[str, float]:
    return {
        str(threshold): round(resolution_at(curve, threshold, cube.pixel_size_angstrom, cube.box), 4)
        for threshold in (0.5, 0.143)
    }


def _resolution_text(curve: np.ndarray[Any, Any], cube: Cube) -> str:
    at_half, at_0143 = (
        resolution_at(curve, threshold, cube.pixel_size_angstrom, cube.box) for threshold in (0.5, 0.143)
    )
    first, second = (resolution_text(value, cube.pixel_size_angstrom, digits=2) for value in (at_half, at_0143))
    return f"{first} at 0.5 ({at_half / cube.pixel_size_angstrom:.2f} px), {second} at 0.143"


def _null_text(curve: np.ndarray[Any, Any], null: np.ndarray[Any, Any], name: str, cube: Cube) -> str:
    """How far the half maps agree better than noise would."""
    above = resolution_at(curve - null, 0.0, cube.pixel_size_angstrom, cube.box)
    if curve[1] < null[1]:
        return f"the {name} curve does not rise above pure noise (95 % of trials) in the first shell: no agreement"
    nyquist = 2 * cube.pixel_size_angstrom
    end = f"down to {above:.2f} Å" if above > nyquist else f"up to Nyquist ({nyquist:.2f} Å)"
    return f"the {name} curve stays above pure noise (95 % of trials) {end}"


def _grid_text(cube: Cube) -> str:
    size = cube.pixel_size_angstrom
    return f"{cube.box} px at {size:.4g} Å (Nyquist {2 * size:.4g} Å)"


def evaluate_map(
    map_path: Annotated[Path, _A(metavar="MAP", help="The map to judge, MRC.")],
    truth: TruthOption,
    mask: MaskOption = None,
    diameter: DiameterOption = None,
    mirror: Annotated[bool, _O("--mirror/--no-mirror", help="Try both hands, or only the map's own.")] = True,
    registered: Annotated[
        Path | None,
        _O("--registered", callback=writable_file, help="Write the map in the truth's frame to this MRC file."),
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """FSC of a map against the truth, after the best rotation, shift and hand."""
    keep_files_apart({"--registered": registered, "--json": json_path}, (map_path, truth, mask))
    moving = read_cube(map_path)
    reference = on_grid_of(read_cube(truth), moving)
    weights = soft_mask(mask, diameter, moving)
    found = register(moving.values, reference.values, allow_mirror=mirror)
    curve = fsc(found.volume, reference.values)
    hand = "mirrored" if found.mirrored else "as it is"
    other = found.other_hand_correlation
    turn = np.rad2deg(np.arccos(np.clip((np.trace(found.rotation) - 1) / 2, -1, 1)))
    rows = [
        ("map", f"{map_path}, {_grid_text(moving)}"),
        ("FSC with the truth", _resolution_text(curve, moving)),
        (
            "hand",
            f"{hand}, correlation {found.correlation:.4f}" + ("" if other is None else f" (other hand {other:.4f})"),
        ),
        (
            "turned, shifted",
            f"{turn:.1f}°, " + ", ".join(f"{value:+.2f}" for value in found.shift_px) + " px (x, y, z)",
        ),
    ]
    figures: dict[str, Any] = {
        "box": moving.box,
        "pixel_size_angstrom": moving.pixel_size_angstrom,
        "nyquist_angstrom": 2 * moving.pixel_size_angstrom,
        "resolution_angstrom": _resolutions(curve, moving),
        "correlation": found.correlation,
        "other_hand_correlation": other,
        "mirrored": found.mirrored,
        "rotation": found.rotation.tolist(),
        "shift_px": found.shift_px.tolist(),
        "fsc": listed(curve),
    }
    if weights is not None:
        masked = fsc(found.volume, reference.values, weights)
        rows.insert(2, ("FSC under the mask", _resolution_text(masked, moving)))
        figures |= {"masked_resolution_angstrom": _resolutions(masked, moving), "masked_fsc": listed(masked)}
    if registered is not None:
        write_mrc(registered, found.volume, moving.pixel_size_angstrom, is_volume=True)
        said_written("registered map", registered)
    tell(rows, figures, json_path)


def evaluate_halves(
    half1: Annotated[Path, _A(help="First half map, MRC.")],
    half2: Annotated[Path, _A(help="Second half map, MRC, on the same grid.")],
    mask: MaskOption = None,
    diameter: DiameterOption = None,
    null: Annotated[
        bool, _O("--null", help="Tell how far the curve stays above what pure noise reaches; its curve goes to --json.")
    ] = False,
    seed: SeedOption = 1,
    json_path: JsonOption = None,
) -> None:
    """FSC of two independent half maps; with a mask also freed from the correlation the mask makes."""
    keep_files_apart({"--json": json_path}, (half1, half2, mask))
    first, second = read_half_maps(half1, half2)
    generator = torch.Generator().manual_seed(seed)
    weights = soft_mask(mask, diameter, first)
    curve = fsc(first.values, second.values)
    rows = [("half maps", _grid_text(first)), ("FSC unmasked", _resolution_text(curve, first))]
    curves = {"unmasked": curve}
    if weights is not None:
        found = half_map_fsc(first.values, second.values, weights, generator)
        curves |= {
            "masked": found.masked,
            "phase_randomised": found.phase_randomised,
            "corrected": found.corrected,
        }
        rows.append(("FSC masked", _resolution_text(found.masked, first)))
        rows.append(("FSC corrected", _resolution_text(found.corrected, first)))
    if null:
        judged = "unmasked" if weights is None else "masked"
        curves["noise_95"] = noise_null(first.box, generator, weights)
        rows.append(("noise", _null_text(curves[judged], curves["noise_95"], judged, first)))
    figures = {
        "box": first.box,
        "pixel_size_angstrom": first.pixel_size_angstrom,
        "nyquist_angstrom": 2 * first.pixel_size_angstrom,
        "resolution_angstrom": {
            name: _resolutions(curve, first)
            for name, curve in curves.items()
            if not name.startswith(("noise", "phase"))
        },
        "curves": {name: listed(curve) for name, curve in curves.items()},
    }
    tell(rows, figures, json_path)
