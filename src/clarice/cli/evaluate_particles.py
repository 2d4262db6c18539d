"""`clarice evaluate images`, `poses` and `classes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from clarice.cli.console import showing_progress
from clarice.cli.evaluation import (
    PixelSizeOption,
    RootOption,
    Rows,
    SeedOption,
    SymmetryOption,
    TruthOption,
    listed,
    tell,
)
from clarice.cli.matched_tables import matching_rows, read_pose_table
from clarice.cli.output_folder import JsonOption, keep_files_apart
from clarice.cli.stack_options import OpticsGroupOption
from clarice.core.counting import counted
from clarice.core.errors import InputError, UsageError
from clarice.io.stack import open_particles
from clarice.metrics.clusters import adjusted_rand_index, purity, view_spread
from clarice.metrics.image import Fit, ImageScores, image_scores
from clarice.metrics.orientation import common_line_share, orientation_errors
from clarice.metrics.shells import frc, resolution_at
from clarice.metrics.shift_error import shift_errors
from clarice.pipeline.fsc_files import resolution_text

_A = typer.Argument
_O = typer.Option


def evaluate_images(
    stack: Annotated[Path, _A(help="Images to judge: .star, .cs or .mrcs.")],
    truth: TruthOption,
    fit: Annotated[str, _O("--fit", help="Adjust each image first: none, scale or scale_offset.")] = "none",
    root: RootOption = None,
    pixel_size: PixelSizeOption = None,
    optics_group: OpticsGroupOption = None,
    json_path: JsonOption = None,
) -> None:
    """Relative MSE, PSNR, SSIM, correlation and FRC of images against clean ones, row by row."""
    fits: dict[str, Fit] = {"none": "none", "scale": "scale", "scale_offset": "scale_offset"}
    if fit not in fits:
        raise UsageError(f"--fit {fit} is not known: use none, scale or scale_offset")
    keep_files_apart({"--json": json_path}, (stack, truth))
    images = open_particles(stack, root, None, pixel_size, optics_group)
    targets = open_particles(truth, root, None, pixel_size, optics_group)
    if len(images) != len(targets) or images.box != targets.box:
        raise InputError(
            f"{stack} holds {counted(len(images), 'image')} of {images.box} px and {truth} {len(targets)} of "
            f"{targets.box} px: they must agree row by row"
        )
    size = max(1, 8_000_000 // images.box**2)
    parts: list[ImageScores] = []
    curve_sum = np.zeros(images.box // 2 + 1)
    with showing_progress() as progress:
        for numbers, chunk in images.chunks(size):
            clean = targets.read(numbers)
            parts.append(image_scores(chunk, clean, fits[fit]))
            curve_sum += frc(chunk, clean).sum(axis=0)
            progress("comparing images", int(numbers[-1]) + 1, len(images))
    scores, curve = ImageScores.joined(parts), curve_sum / len(images)
    if not scores.truth_power.any():
        raise InputError(f"{truth} holds nothing but zeros: give the clean images")
    _tell_images(stack, fit, images.pixel_size_angstrom, images.box, scores, curve, json_path)


def _tell_images(
    stack: Path,
    fit: str,
    pixel_size: float,
    box: int,
    scores: ImageScores,
    curve: np.ndarray[Any, Any],
    json_path: Path | None,
) -> None:
    at_half = resolution_at(curve, 0.5, pixel_size, box)
    nyquist = 2 * pixel_size
    figures = {
        "images": len(scores.ssim),
        "fit": fit,
        "relative_mse": scores.relative_mse,
        "psnr_db": float(scores.psnr_db.mean()),
        "ssim": float(scores.ssim.mean()),
        "correlation": float(scores.correlation.mean()),
        "frc_0.5_angstrom": at_half,
        "nyquist_angstrom": nyquist,
        "frc": listed(curve),
    }
    rows = [
        ("images", f"{len(scores.ssim)} of {stack}, {box} px at {pixel_size:.4g} Å, fit {fit}"),
        ("relative MSE", f"{scores.relative_mse:.4f}"),
        ("PSNR", f"{figures['psnr_db']:.2f} dB"),
        ("SSIM", f"{figures['ssim']:.4f}"),
        ("correlation", f"{figures['correlation']:.4f}"),
        ("FRC", f"{resolution_text(at_half, pixel_size, digits=2)} at 0.5, mean curve (Nyquist {nyquist:.4g} Å)"),
    ]
    tell(rows, figures, json_path)


def evaluate_poses(
    particles: Annotated[Path, _A(help="Particles with the poses found: .star or .cs.")],
    truth: TruthOption,
    symmetry: SymmetryOption = "C1",
    mirror: Annotated[bool, _O("--mirror/--no-mirror", help="Try both hands, or only the poses' own.")] = True,
    seed: SeedOption = 1,
    json_path: JsonOption = None,
) -> None:
    """Errors of orientations after the best global rotation and hand, modulo symmetry, and of shifts; common lines
    within 10°.
    """
    keep_files_apart({"--json": json_path}, (particles, truth))
    found_table, true_table = read_pose_table(particles), read_pose_table(truth)
    matched, how = matching_rows(found_table, true_table)
    found_poses, true_poses = found_table.needed_poses(), true_table.needed_poses().subset(matched)
    found, true = found_poses.rotations, true_poses.rotations
    errors = orientation_errors(found, true, symmetry=symmetry, both_hands=mirror)
    angles = {"angle": errors.angle_deg, "view": errors.view_deg, "in_plane": errors.in_plane_deg}
    figures: dict[str, Any] = {
        "particles": len(found),
        "matched": how,
        "symmetry": symmetry,
        "median_deg": {name: float(np.median(values)) for name, values in angles.items()},
        "mean_deg": {name: float(values.mean()) for name, values in angles.items()},
        "share_within_10_deg": float((errors.angle_deg <= 10).mean()),
        "mirrored": errors.mirrored,
        "other_hand_median_deg": errors.other_hand_median_deg,
        "gauge": errors.gauge.tolist(),
    }
    rows = [("particles", f"{len(found)}, matched {how}; symmetry {symmetry}")]
    for name, label in (
        ("angle", "orientation error"),
        ("view", "of the view"),
        ("in_plane", "in the plane"),
    ):
        rows.append((label, f"median {figures['median_deg'][name]:.2f}°, mean {figures['mean_deg'][name]:.2f}°"))
    shifts = shift_errors(found_poses, true_poses)  # in Å, as the tables state them
    figures["median_shift_angstrom"], figures["mean_shift_angstrom"] = float(np.median(shifts)), float(shifts.mean())
    rows.append(("of the shift", f"median {np.median(shifts):.2f} Å, mean {shifts.mean():.2f} Å"))
    rows.append(("within 10°", f"{100 * figures['share_within_10_deg']:.1f} % of the particles"))
    hand = "mirrored" if errors.mirrored else "as it is"
    other = errors.other_hand_median_deg
    rows.append(("hand", hand + ("" if other is None else f" (other hand: median {other:.2f}°)")))
    if len(found) > 1:
        figures["common_line_share"] = common_line_share(found, true, symmetry=symmetry, seed=seed)
        rows.append(("common lines", f"{100 * figures['common_line_share']:.1f} % right within 10°"))
    tell(rows, figures, json_path)


def evaluate_classes(
    members: Annotated[Path, _A(help="Particles with their class: a .star with _rlnClassNumber, or .cs.")],
    truth: TruthOption,
    symmetry: SymmetryOption = "C1",
    mirror: Annotated[
        bool, _O("--mirror/--no-mirror", help="Count opposite views, whose images are mirrored, as one.")
    ] = False,
    json_path: JsonOption = None,
) -> None:
    """Spread of the true views inside each class; purity and Rand index where the truth has classes too."""
    keep_files_apart({"--json": json_path}, (members, truth))
    found_table, true_table = read_pose_table(members), read_pose_table(truth)
    matched, how = matching_rows(found_table, true_table)
    labels = found_table.needed_classes()
    rows: Rows = [
        ("particles", f"{len(labels)} in {counted(len(np.unique(labels)), 'class', 'classes')}, matched {how}")
    ]
    figures: dict[str, Any] = {"particles": len(labels), "classes": len(np.unique(labels)), "matched": how}
    if true_table.poses is None and true_table.class_number is None:
        raise InputError(f"{truth} has neither angles nor classes, so there is nothing to compare with")
    if true_table.poses is not None:
        rotations = true_table.poses.rotations[matched]
        spread = view_spread(rotations, labels, mirror_equivalent=mirror, symmetry=symmetry)
        alone = view_spread(rotations, np.zeros(len(labels)), mirror_equivalent=mirror, symmetry=symmetry)
        rows.append(
            (
                "spread of views",
                f"median {spread.overall_deg:.2f}° (all in one class {alone.overall_deg:.2f}°)",
            )
        )
        figures["view_spread_deg"] = spread.overall_deg
        figures["view_spread_of_one_class_deg"] = alone.overall_deg
        figures["by_class"] = [
            {"class": int(label), "size": int(size), "median_deg": float(median)}
            for label, size, median in zip(spread.classes, spread.sizes, spread.median_deg, strict=True)
        ]
    if true_table.class_number is not None:
        true_labels = true_table.class_number[matched]
        figures |= {
            "purity": purity(labels, true_labels),
            "adjusted_rand_index": adjusted_rand_index(labels, true_labels),
        }
        rows.append(("purity", f"{figures['purity']:.4f}"))
        rows.append(("adjusted Rand index", f"{figures['adjusted_rand_index']:.4f}"))
    tell(rows, figures, json_path)
