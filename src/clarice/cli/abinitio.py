"""`clarice abinitio`: a first map, by projection matching from random starts or by common lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from torch import Tensor

from clarice.abinitio import pose_assignment, projection_matching, refinement
from clarice.abinitio.evidence import LEAST_OWN_GAIN, gain_by_start
from clarice.abinitio.grey_scale import compared_radius
from clarice.cli.console import console, showing_progress, told
from clarice.cli.map_files import write_maps
from clarice.cli.output_folder import insist_on_place, make_folder
from clarice.cli.ready_stack import ReadyStack
from clarice.cli.stack_options import (
    ContrastOption,
    CtfStateOption,
    DiameterOption,
    MaxShiftOption,
    OpticsGroupOption,
    PassthroughOption,
    PixelSizeOption,
    RootOption,
    SeedOption,
    StackArgument,
    SymmetryOption,
    WorkingBoxOption,
    prepare_stack,
)
from clarice.core.errors import UsageError
from clarice.core.progress import Progress
from clarice.denoise.registry import DEFAULT_METHOD, get_denoiser
from clarice.geometry.so3 import symmetry_rotations
from clarice.io.stack import open_particles
from clarice.pipeline import line_map
from clarice.pipeline.durable import write_json
from clarice.pipeline.foretelling import foretell
from clarice.pipeline.frame import Frame
from clarice.pipeline.map_stages import mirrored
from clarice.pipeline.memory import first_map, first_map_by_lines
from clarice.pipeline.stages import Estimate

_O = typer.Option
# A map is judged by particles that it was not made of, if there are so many.
FEWEST_HELD_OUT = 50
OWN_PARTICLES_NO_LIKELIER = (
    "the particles that the map was made of are hardly likelier under it than under pure noise: "
    "the map is not to be trusted"
)


class Method(StrEnum):
    """How a first map is found."""

    PROJECTION_MATCHING = "projection-matching"
    COMMON_LINES = "common-lines"
    BOTH = "both"


@dataclass(frozen=True)
class _Wanted:
    """What the user asked for; `images` and `denoiser` are None where nothing was said of them."""

    method: Method
    starts: int
    images: int | None
    denoiser: str | None
    symmetry: str
    seed: int

    def check(self) -> None:
        """Raises UsageError for what the method has no use for, or what does not exist."""
        symmetry_rotations(self.symmetry)
        if self.method is Method.PROJECTION_MATCHING:
            for option, given in (("--images", self.images), ("--denoiser", self.denoiser)):
                if given is not None:
                    raise UsageError(
                        f"{option} is for --method common-lines or both: leave it out, or choose one of them"
                    )
            return
        get_denoiser(self.denoiser or DEFAULT_METHOD)

    def line_settings(self, frame: Frame) -> line_map.LineMapSettings:
        """As common lines take them."""
        return line_map.LineMapSettings(
            frame.diameter_px,
            images=line_map.LineMapSettings.images if self.images is None else self.images,
            starts=self.starts,
            symmetry=self.symmetry,
            max_shift_px=frame.max_shift_px,
            denoiser=self.denoiser or DEFAULT_METHOD,
            seed=self.seed,
        )

    def estimate(self, count: int, box: int, frame: Frame) -> Estimate:
        """What the work takes for a stack of `count` particles in a box of `box` px."""
        by_matching = first_map(count, box, frame.working_box, self.starts)
        if self.method is Method.PROJECTION_MATCHING:
            return by_matching
        settings = self.line_settings(frame)
        by_lines = first_map_by_lines(
            count,
            box,
            frame.working_box,
            min(count, settings.images),
            min(count, settings.images * line_map.DENOISED_FOR_EACH),
            line_map.line_settings(settings).cells(frame.working_box),
            self.starts,
            len(symmetry_rotations(self.symmetry)),
        )
        if self.method is Method.COMMON_LINES:
            return by_lines
        memory_mb = max(by_lines.memory_mb, by_matching.memory_mb)
        return Estimate(by_lines.seconds + by_matching.seconds, memory_mb, by_lines.disk_mb)


@dataclass(frozen=True)
class _FirstMap:
    """The map (L, L, L), the finest ring it holds, what abinitio.json tells, a line for the user, and a warning."""

    volume: Tensor
    radius_px: float
    record: dict[str, Any]
    said: str
    warning: str | None


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("abinitio")(abinitio)


def abinitio(
    stack: StackArgument,
    output: Annotated[Path, _O("-o", "--output", help="Folder to write abinitio.mrc and particles.star to.")],
    method: Annotated[
        Method,
        _O(help="projection-matching: of raw particles; common-lines: of denoised ones; both: the likelier map."),
    ] = Method.PROJECTION_MATCHING,
    starts: Annotated[int, _O(min=1, help="Random starts; the most likely is kept.")] = 4,
    images: Annotated[
        int | None,
        _O(min=line_map.FEWEST_PARTICLES, help="common-lines: at most so many particles, drawn; 500 if absent."),
    ] = None,
    denoiser: Annotated[
        str | None, _O(help="common-lines: the denoiser, as `clarice denoise --list-methods` names it.")
    ] = None,
    diameter: DiameterOption = None,
    symmetry: SymmetryOption = "C1",
    max_shift: MaxShiftOption = None,
    seed: SeedOption = 0,
    root: RootOption = None,
    passthrough: PassthroughOption = None,
    pixel_size: PixelSizeOption = None,
    optics_group: OpticsGroupOption = None,
    contrast: ContrastOption = None,
    ctf_state: CtfStateOption = None,
    working_box: WorkingBoxOption = None,
) -> None:
    """Find a first map, by projection matching from random starts or by common lines.

    Writes abinitio.mrc and abinitio_mirror.mrc (the hand is not known), particles.star with poses, and
    abinitio.json with what speaks for the map.
    """
    wanted = _Wanted(method, starts, images, denoiser, symmetry, seed)
    wanted.check()
    particles = open_particles(stack, root, passthrough, pixel_size, optics_group)
    frame = Frame.of(particles, working_box, diameter, max_shift)
    insist_on_place(output)
    foretell("the first map", wanted.estimate(len(particles), particles.box, frame), output, told)
    make_folder(output)
    with showing_progress() as progress:
        prepared = prepare_stack(particles, stack, contrast, ctf_state, working_box, progress)
        ready = ReadyStack(particles, prepared, frame)
        found = _FINDERS[method](ready, wanted, progress)
        laid = pose_assignment.lay_on(ready.noisy, found.volume, _on_map(ready, wanted, found.radius_px))
    volume = found.volume.numpy()
    write_maps(output, ready.pixel_size_angstrom, {"abinitio": volume, "abinitio_mirror": mirrored(volume)})
    ready.write_poses(output / "particles.star", laid.poses, laid.confidence)
    write_json(output / "abinitio.json", {"method": method.value, **found.record, "radius_px": found.radius_px})
    if found.warning is not None:
        console.print(f"warning: {found.warning}", markup=False)
    console.print(f"{found.said}: {output / 'abinitio.mrc'}", markup=False)


def _on_map(ready: ReadyStack, wanted: _Wanted, radius_px: float) -> refinement.Settings:
    """How particles are laid on a map that holds rings up to `radius_px`: no finer than views are looked at."""
    return refinement.Settings(
        ready.frame.diameter_px,
        symmetry=wanted.symmetry,
        max_shift_px=ready.frame.max_shift_px,
        start_radius_px=min(radius_px, compared_radius(ready.noisy.box, ready.frame.diameter_px)),
        seed=wanted.seed,
    )


def _by_projection_matching(ready: ReadyStack, wanted: _Wanted, progress: Progress) -> _FirstMap:
    settings = projection_matching.Settings(
        ready.frame.diameter_px,
        starts=wanted.starts,
        symmetry=wanted.symmetry,
        max_shift_px=ready.frame.max_shift_px,
        seed=wanted.seed,
    )
    found = projection_matching.initial_map(ready.noisy, settings, progress)
    record = {"starts": [vars(start) for start in found.starts], "chosen": found.chosen}
    said = f"start {found.chosen + 1} of {wanted.starts}"
    return _FirstMap(found.volume, found.radius_px, record, said, _warning(found.is_likelier_than_noise))


def _by_common_lines(ready: ReadyStack, wanted: _Wanted, progress: Progress) -> _FirstMap:
    settings = wanted.line_settings(ready.frame)
    found = line_map.first_map_by_lines(ready.noisy, settings, progress)
    lines, count = found.lines, len(found.laid_by_lines)
    others = np.setdiff1d(np.arange(len(ready.noisy)), found.rows)
    held_out = len(others) >= FEWEST_HELD_OUT
    judges = ready.noisy.subset(others) if held_out else ready.noisy
    gain = gain_by_start(judges, found.volume, _on_map(ready, wanted, found.radius_px))
    record = {
        "denoiser": settings.denoiser,
        "laid_by_lines": found.laid_by_lines.tolist(),
        "particles_in_map": len(found.rows),
        "agreeing_lines": lines.found.share,
        "gain_a_pair": lines.gain / (count * (count - 1) / 2),
        "log_likelihood": gain,
        "judged_by": "particles held out" if held_out else "its own particles",
    }
    said = f"{count} particles denoised by {settings.denoiser}, {lines.found.share:.0%} of their lines agree"
    warning = _warning(gain > projection_matching.LEAST_HELD_OUT_GAIN) if held_out else None
    if not held_out and gain <= LEAST_OWN_GAIN:
        warning = OWN_PARTICLES_NO_LIKELIER
    return _FirstMap(found.volume, found.radius_px, record, said, warning)


def _warning(is_likelier_than_noise: bool) -> str | None:
    return None if is_likelier_than_noise else projection_matching.NO_LIKELIER_THAN_NOISE


def _by_both(ready: ReadyStack, wanted: _Wanted, progress: Progress) -> _FirstMap:
    """The map under which particles are likelier, both looked at up to the same radius."""
    tried = {
        Method.COMMON_LINES: _by_common_lines(ready, wanted, progress),
        Method.PROJECTION_MATCHING: _by_projection_matching(ready, wanted, progress),
    }
    radius = compared_radius(ready.noisy.box, ready.frame.diameter_px)
    gains = {
        method: gain_by_start(ready.noisy, each.volume, _on_map(ready, wanted, radius))
        for method, each in tried.items()
    }
    chosen = max(gains, key=lambda method: gains[method])
    record = {
        "chosen_method": chosen.value,
        "tried": [
            {
                "method": method.value,
                **each.record,
                "radius_px": each.radius_px,
                "log_likelihood_compared": gains[method],
            }
            for method, each in tried.items()
        ],
    }
    compared = ", ".join(f"{method.value} {gain:.1f}" for method, gain in gains.items())
    said = f"{chosen.value}, by log-likelihood a particle ({compared}); {tried[chosen].said}"
    return _FirstMap(tried[chosen].volume, tried[chosen].radius_px, record, said, tried[chosen].warning)


_FINDERS: dict[Method, Callable[[ReadyStack, _Wanted, Progress], _FirstMap]] = {
    Method.PROJECTION_MATCHING: _by_projection_matching,
    Method.COMMON_LINES: _by_common_lines,
    Method.BOTH: _by_both,
}
