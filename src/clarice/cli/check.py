"""`clarice check`: what a stack is, and whether it can be processed."""

from __future__ import annotations

import typer
from rich.markup import escape
from rich.table import Table

from clarice.cli.console import console, showing_progress
from clarice.cli.output_folder import JsonOption, keep_files_apart, said_written
from clarice.cli.stack_options import (
    ContrastOption,
    CtfStateOption,
    OpticsGroupOption,
    PassthroughOption,
    PixelSizeOption,
    RootOption,
    StackArgument,
)
from clarice.core.counting import counted
from clarice.pipeline.durable import write_json
from clarice.pipeline.preflight import Verdict, check_file


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("check")(check_stack)


def check_stack(
    stack: StackArgument,
    root: RootOption = None,
    passthrough: PassthroughOption = None,
    pixel_size: PixelSizeOption = None,
    optics_group: OpticsGroupOption = None,
    contrast: ContrastOption = None,
    ctf_state: CtfStateOption = None,
    json_path: JsonOption = None,
) -> None:
    """Report what a particle stack is and whether it can be processed.

    Exit status 0: it can. 2: it can, once an option is passed or mended. 3: it cannot.
    """
    keep_files_apart({"--json": json_path}, (stack, *(passthrough or ())))
    with showing_progress() as progress:
        verdict = check_file(stack, root, passthrough, pixel_size, optics_group, contrast, ctf_state, progress)
    show(verdict)
    if json_path is not None:
        write_json(json_path, verdict.as_json())
        said_written("everything found", json_path)
    verdict.insist()


def show(verdict: Verdict) -> None:
    """Prints the verdict as a table, what stands in the way besides the command's last sentence, and warnings."""
    if verdict.particles is not None:
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in _rows(verdict):
            table.add_row(name, escape(value))
        console.print(table)
    for open_point in verdict.besides_the_summary:
        console.print(f"also: {open_point}", markup=False)
    for warning in verdict.warnings:
        console.print(f"warning: {warning}", markup=False)
    console.print(f"verdict: {'usable' if verdict.usable else verdict.kind}", markup=False)


def _rows(verdict: Verdict) -> list[tuple[str, str]]:
    files = "images in memory" if verdict.image_files is None else counted(verdict.image_files, "image file")
    rows = [
        ("stack", f"{verdict.path} ({files})"),
        ("particles", f"{verdict.particles}"),
        ("box", f"{verdict.box} px"),
        (
            "pixel size",
            f"{verdict.pixel_size_angstrom:.4g} Å (Nyquist {2 * (verdict.pixel_size_angstrom or 0):.4g} Å)",
        ),
        ("micrographs", "not stated" if verdict.micrographs is None else str(verdict.micrographs)),
        ("optics groups", _listed(verdict.optics_groups)),
        ("half sets", "not stated" if verdict.half_sets is None else "{} and {}".format(*verdict.half_sets)),
        ("poses", "in the file" if verdict.has_poses else "none"),
    ]
    return rows + _evidence_rows(verdict)


def _listed(groups: tuple[int, ...] | None) -> str:
    if groups is None:
        return "not stated"
    shown = ", ".join(map(str, groups[:8]))
    return f"{len(groups)} ({shown}{', …' if len(groups) > 8 else ''})"


def _evidence_rows(verdict: Verdict) -> list[tuple[str, str]]:
    rows = []
    if verdict.contrast is not None:
        seen = verdict.contrast
        low = (
            "" if seen.low_frequency_z is None else f", lowest frequencies along the CTF z {seen.low_frequency_z:+.1f}"
        )
        rows.append(
            (
                "contrast",
                f"protein {seen.sign} (by the {seen.basis}): inside a disk of "
                f"{seen.disk_radius_px:.0f} px less outside "
                f"{seen.disk_difference_sigma:+.3f} σ, z {seen.disk_z:+.1f}, other sign z "
                f"{seen.opposite_z:.1f}{low}",
            )
        )
    if verdict.ctf is not None:
        ctf = verdict.ctf
        span = (
            ""
            if ctf.defocus_range_angstrom is None
            else ", defocus {:.0f} to {:.0f} Å".format(*ctf.defocus_range_angstrom)
        )
        ratio = "" if ctf.zero_to_peak_power is None else f", power at zeros / peaks {ctf.zero_to_peak_power:.2f}"
        flip = "" if ctf.flip_z is None else f", flipping gathers power z {ctf.flip_z:+.1f}"
        state = f"incomplete ({', '.join(ctf.missing)} missing)" if ctf.incomplete else f"{ctf.state} ({ctf.basis})"
        rows.append(("CTF", f"{state}{span}{ratio}{flip}"))
    if verdict.images is not None:
        found = verdict.images
        rows.append(
            (
                "background",
                f"mean {found.background_mean:.3g}, σ {found.background_sigma:.3g} "
                f"({'normalised' if found.normalised else 'not normalised'}; "
                f"{counted(found.sampled, 'image')})",
            )
        )
        rows.append(
            (
                "damage",
                f"{found.not_finite} not finite, {found.constant} constant, {found.duplicates} repeated "
                f"(of {found.scanned} looked at)",
            )
        )
    return rows
