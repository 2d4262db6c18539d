"""`clarice extract`: particles cut from micrographs at picks, with their CTF."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clarice.cli.console import showing_progress, told
from clarice.cli.output_folder import keep_apart, make_folder
from clarice.core.counting import counted
from clarice.core.errors import InputError, UsageError
from clarice.io.micrograph import SUFFIXES
from clarice.io.micrograph_ctf import MicrographCtfTable, read_micrograph_ctf
from clarice.physics.ctf_fit import FitRange, Microscope
from clarice.pipeline.extraction import IMAGES, TABLE, ExtractionSettings, extract
from clarice.pipeline.extraction_sources import find_sources, settled_pixel_size

_O = typer.Option
MicrographsArgument = Annotated[Path, typer.Argument(help="A micrograph (MRC, TIFF, PNG), or a folder of them.")]
PicksArgument = Annotated[
    Path,
    typer.Argument(
        help="Coordinates (STAR, .box, CSV of x, y): a file that names micrographs, or a folder with one for each."
    ),
]
OutputOption = Annotated[Path, _O("-o", "--output", help="Folder to write particles.mrcs and .star to.")]
BoxOption = Annotated[int, _O("--box", help="Edge of the box, pixels of the micrograph.")]
ScaleOption = Annotated[int | None, _O("--scale-to", help="Edge of the images written, pixels; the box if absent.")]
RadiusOption = Annotated[
    float | None, _O("--background-radius", help="Radius, pixels of the box, beyond which it is background; 3/8 of it.")
]
InvertOption = Annotated[bool, _O("--invert", help="Turn dark protein bright; it is left dark if absent.")]
PixelOption = Annotated[float | None, _O("--pixel-size", help="Pixel size of the micrographs, Å; theirs if absent.")]
CtfOption = Annotated[
    Path | None, _O("--ctf", help="STAR file with each micrograph's defocus (RELION, CTFFIND); fitted if absent.")
]
VoltageOption = Annotated[float | None, _O("--voltage-kv", help="Voltage, kV; that of --ctf if absent.")]
AberrationOption = Annotated[float | None, _O("--cs-mm", help="Spherical aberration, mm; that of --ctf if absent.")]
AmplitudeOption = Annotated[
    float | None, _O("--amplitude-contrast", help="Amplitude contrast; that of --ctf if absent.")
]
FinestOption = Annotated[float, _O("--fit-to", help="Finest resolution of Thon rings to fit, Å.")]


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("extract")(extract_particles)


def extract_particles(
    micrographs: MicrographsArgument,
    coordinates: PicksArgument,
    output: OutputOption,
    box: BoxOption,
    scale_to: ScaleOption = None,
    background_radius: RadiusOption = None,
    invert: InvertOption = False,
    pixel_size: PixelOption = None,
    ctf: CtfOption = None,
    voltage_kv: VoltageOption = None,
    cs_mm: AberrationOption = None,
    amplitude_contrast: AmplitudeOption = None,
    fit_to: FinestOption = 5.0,
) -> None:
    """Cut particles from micrographs, flatten and normalise their background, and write them with their CTF.

    The CTF comes from a STAR file, or is fitted to each micrograph's power spectrum; how well is told and written as
    rlnCtfFigureOfMerit. Picks without room for a whole box, or without their micrograph, are left out, and counted.
    """
    for path in (micrographs, coordinates):
        if not path.exists():
            raise InputError(f"{path} does not exist")
    table = None if ctf is None else read_micrograph_ctf(ctf)
    microscope = _microscope(table, voltage_kv, cs_mm, amplitude_contrast)
    radius = 3 / 8 * box if background_radius is None else background_radius
    settings = ExtractionSettings(box, box if scale_to is None else scale_to, radius, invert)
    for name, value in (("--pixel-size", pixel_size), ("--fit-to", fit_to)):
        if value is not None and not value > 0:
            raise UsageError(f"{name} {value:g} must be above 0 Å")
    sources = find_sources(_files(micrographs), micrographs, coordinates, table, told)
    size = settled_pixel_size(sources, table, pixel_size, told)
    read = [source.path for source in sources] + [source.picks.path for source in sources] + ([ctf] if ctf else [])
    keep_apart(output, (IMAGES, TABLE), read)
    make_folder(output)
    within = FitRange(highest_angstrom=fit_to)
    with showing_progress() as progress:
        done = extract(sources, output, settings, microscope, size, fit_within=within, tell=told, progress=progress)
    left_out = f"; {counted(done.left_out, 'pick')} too near to an edge left out" if done.left_out else ""
    doubtful = f"; {counted(done.doubtful_fits, 'CTF fit')} no better than to noise" if done.doubtful_fits else ""
    told(f"{counted(done.particles, 'particle')}{left_out}{doubtful}: {output / TABLE}")


def _microscope(
    table: MicrographCtfTable | None, voltage: float | None, aberration: float | None, contrast: float | None
) -> Microscope:
    stated = (None,) * 3 if table is None or table.microscope is None else table.microscope
    names = ("--voltage-kv", "--cs-mm", "--amplitude-contrast")
    given = (voltage, aberration, contrast)
    values = [own if own is not None else found for own, found in zip(given, stated, strict=True)]
    missing = [name for name, value in zip(names, values, strict=True) if value is None]
    if missing:
        raise UsageError(f"the CTF needs {' and '.join(missing)}: pass them, or a STAR file that states them as --ctf")
    kv, mm, amplitude = (float(value) for value in values if value is not None)
    if not (kv > 0 and mm >= 0 and 0 <= amplitude <= 1):
        raise UsageError(f"--voltage-kv {kv:g}, --cs-mm {mm:g} and --amplitude-contrast {amplitude:g} cannot be")
    return Microscope(kv, mm, amplitude)


def _files(micrographs: Path) -> list[Path]:
    if not micrographs.is_dir():
        return [micrographs]
    found = sorted(path for path in micrographs.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"{micrographs} holds no micrograph ({', '.join(SUFFIXES)})")
    return found
