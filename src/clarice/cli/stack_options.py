"""The options every command that reads a particle stack shares, and the stack they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from clarice.cli.console import console
from clarice.cli.seed_option import seed_option
from clarice.core.errors import UsageError
from clarice.core.particles import ParticleSet
from clarice.core.progress import Progress
from clarice.pipeline.first_map_settings import Method
from clarice.pipeline.preflight import Verdict, check
from clarice.pipeline.prepare import Prepared, prepare


def _one_of(option: str, *words: str) -> dict[str, Any]:
    """What makes an option take one of `words`, and refuse others in our own words."""

    def parse(word: str) -> str:
        if word not in words:
            raise UsageError(f"{option} {word} is not known: use {', '.join(words[:-1])} or {words[-1]}")
        return word

    return {"parser": parse, "metavar": f"[{'|'.join(words)}]"}


_O = typer.Option
StackArgument = Annotated[Path, typer.Argument(help="Particles: .star, .star.gz, .cs or .mrcs.")]
RootOption = Annotated[Path | None, _O(help="Folder below which the image files lie.")]
PassthroughOption = Annotated[
    list[Path] | None, _O(help="Passthrough file of a .cs dataset; may be given more than once.")
]
PixelSizeOption = Annotated[float | None, _O(help="Pixel size in Å, in place of the file's.")]
OpticsGroupOption = Annotated[int | None, _O(help="Take the particles of this optics group only.")]
Contrast = Literal["bright", "dark"]
ContrastOption = Annotated[
    Contrast | None,
    _O(**_one_of("--contrast", "bright", "dark"), help="Protein in the images; found from them if absent."),
]
CtfState = Literal["raw", "flipped", "multiplied"]
CtfStateOption = Annotated[
    CtfState | None,
    _O(
        **_one_of("--ctf-state", "raw", "flipped", "multiplied"),
        help="CTF in the images; found from them if absent.",
    ),
]
WorkingBoxOption = Annotated[int | None, _O(help="Box to work in, pixels; the stack's, at most 64, if absent.")]
DiameterOption = Annotated[float | None, _O(help="Particle diameter, Å; 0.7 of the box if absent.")]
FirstMapOption = Annotated[
    Method,
    _O(
        help="projection-matching: of raw particles; common-lines: of denoised ones; moments: of their statistics; "
        "learned: of these and a network that knows molecules; both: the likelier of the first two."
    ),
]
SymmetryOption = Annotated[str, _O(help="Point group: C1, Cn, Dn, T, O or I.")]
MaxShiftOption = Annotated[float | None, _O(help="Largest off-centre shift, Å; 1/16 of the box if absent.")]
SeedOption = Annotated[int, seed_option("Seed of everything random: the same seed gives the same result.")]


def check_stack(
    particles: ParticleSet, stack: Path, contrast: Contrast | None, ctf_state: CtfState | None, progress: Progress
) -> Verdict:
    """Checks the particles of `stack`, telling warnings. Raises what an unfit stack deserves."""
    verdict = check(particles, stack, contrast, ctf_state, progress)
    verdict.insist()
    for warning in verdict.warnings:
        console.print(f"warning: {warning}", markup=False)
    return verdict


def prepare_stack(
    particles: ParticleSet,
    stack: Path,
    contrast: Contrast | None,
    ctf_state: CtfState | None,
    working_box: int | None,
    progress: Progress,
    **options: Any,
) -> Prepared:
    """Checks and prepares the particles of `stack`; `options` are further ones of `pipeline.prepare.prepare`."""
    verdict = check_stack(particles, stack, contrast, ctf_state, progress)
    assert verdict.ctf is not None  # no usable stack is without
    return prepare(
        particles,
        sign=verdict.sign,
        ctf_state=verdict.ctf.state,
        working_box=working_box,
        progress=progress,
        **options,
    )
