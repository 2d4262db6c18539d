"""`clarice denoise`: every particle of a stack, denoised, in the input's order, box and sign."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from clarice.cli.console import console, showing_progress
from clarice.core.errors import InputError, UsageError
from clarice.core.particles import ParticleSet
from clarice.core.progress import Progress
from clarice.denoise.registry import Denoiser, denoiser_names, get_denoiser
from clarice.io.atomic import writing
from clarice.io.mrc import MrcStackWriter
from clarice.io.relion import OPTIONAL_CTF_COLUMNS
from clarice.io.stack import open_particles, write_particles
from clarice.pipeline.preflight import Verdict, check
from clarice.pipeline.prepare import prepare

# Boxes above this are reduced to it while denoising: a single particle shows nothing finer.
LARGEST_DEFAULT_BOX = 128
# The denoised images are free of the CTF: a program that corrected them again would spoil them.
CTF_COLUMNS_TO_DROP = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", *OPTIONAL_CTF_COLUMNS.values())
_RESTORED_PIXELS = 2**22
_IN_MEMORY_BYTES = 1 << 30

_O = typer.Option
StackArgument = Annotated[Path, typer.Argument(help="Particles: .star, .star.gz, .cs or .mrcs.")]
OutputOption = Annotated[Path, _O("-o", "--output", help="Folder to write denoised.mrcs and .star to.")]
MethodOption = Annotated[str, _O(help="Denoising method; `--list-methods` tells which there are.")]
RootOption = Annotated[Path | None, _O(help="Folder below which the image files lie.")]
PassthroughOption = Annotated[
    list[Path] | None, _O(help="Passthrough file of a .cs dataset; may be given more than once.")
]
PixelSizeOption = Annotated[float | None, _O(help="Pixel size in Å, in place of the file's.")]
OpticsGroupOption = Annotated[int | None, _O(help="Take the particles of this optics group only.")]
ContrastOption = Annotated[
    Literal["bright", "dark"] | None, _O(help="Protein in the images; found from them if absent.")
]
CtfStateOption = Annotated[
    Literal["raw", "flipped", "multiplied"] | None, _O(help="CTF in the images; found from them if absent.")
]
WorkingBoxOption = Annotated[int | None, _O(help="Box to work in, pixels; the stack's, at most 128, if absent.")]
RadiusOption = Annotated[
    float | None, _O(help="Radius, pixels, beyond which an image is background; 3/8 of the box if absent.")
]
HalvesOption = Annotated[bool, _O("--halves-apart", help="Denoise each half set as if it were alone.")]


def _list_methods(wanted: bool) -> None:
    if wanted:
        for name in denoiser_names():
            console.print(f"{name}: {get_denoiser(name).summary}", markup=False)
        raise typer.Exit


ListOption = Annotated[
    bool, _O("--list-methods", callback=_list_methods, is_eager=True, help="List the methods and exit.")
]


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("denoise")(denoise)


def denoise(
    stack: StackArgument,
    output: OutputOption,
    method: MethodOption = "covariance-wiener",
    root: RootOption = None,
    passthrough: PassthroughOption = None,
    pixel_size: PixelSizeOption = None,
    optics_group: OpticsGroupOption = None,
    contrast: ContrastOption = None,
    ctf_state: CtfStateOption = None,
    working_box: WorkingBoxOption = None,
    background_radius_px: RadiusOption = None,
    halves_apart: HalvesOption = False,
    list_methods: ListOption = False,  # noqa: ARG001 (its callback answers and exits)
) -> None:
    """Denoise every particle of a stack.

    Writes denoised.mrcs (CTF-free projections in units of the input's noise standard deviation; order, box
    and sign as in the input) and denoised.star, its table without the defocus that no longer applies.
    """
    chosen = get_denoiser(method)
    particles = open_particles(stack, root, passthrough, pixel_size, optics_group)
    with showing_progress() as progress:
        verdict = check(particles, stack, contrast, ctf_state, progress)
        sign = _sign(verdict)
        assert verdict.ctf is not None
        for warning in verdict.warnings:
            console.print(f"warning: {warning}", markup=False)
        options = {
            "sign": sign,
            "ctf_state": verdict.ctf.state,
            "working_box": working_box or min(particles.box, LARGEST_DEFAULT_BOX),
            "background_radius_px": background_radius_px,
        }
        seconds = write_denoised(particles, chosen, output, options, halves_apart, progress)
    console.print(
        f"{len(particles)} particles denoised by {method} in {seconds:.1f} s: {output / 'denoised.star'}",
        markup=False,
    )


def _sign(verdict: Verdict) -> int:
    """+1 for bright protein, −1 for dark. Raises the error that a stack unfit for work deserves."""
    if not verdict.usable or verdict.contrast is None:
        raise (UsageError if verdict.kind == "needs an option" else InputError)(verdict.summary)
    return 1 if verdict.contrast.sign == "bright" else -1


def write_denoised(
    particles: ParticleSet,
    method: Denoiser,
    output: Path,
    options: dict[str, Any],
    halves_apart: bool,
    progress: Progress,
) -> float:
    """Prepares with `options` (of `prepare`), denoises, writes OUT/denoised.*: the seconds it took."""
    started = time.monotonic()
    stack = output / "denoised.mrcs"
    with (
        MrcStackWriter(stack, particles.box, particles.pixel_size_angstrom) as writer,
        tempfile.TemporaryDirectory(prefix=".prepared.", dir=output) as folder,
    ):
        large = len(particles) * options["working_box"] ** 2 * 4 > _IN_MEMORY_BYTES
        path = Path(folder) / "prepared.mrcs" if large else None
        prepared = prepare(particles, **options, images_path=path, progress=progress)
        step = max(1, _RESTORED_PIXELS // particles.box**2)
        for _, images in method(prepared.noisy_set, halves_apart=halves_apart, progress=progress):
            for start in range(0, len(images), step):
                writer.append(prepared.preparation.restore(images[start : start + step]))
    write_particles(particles, output / "denoised.star", images_path=stack, drop_columns=CTF_COLUMNS_TO_DROP)
    seconds = time.monotonic() - started
    record = {"method": method.name, "seconds": seconds, "halves_apart": halves_apart}
    record["preparation"] = prepared.preparation.as_record()
    with writing(output / "denoised.json") as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return seconds
