"""The protocol `frames`: real particles of a single frame, denoised, held against the mean of all other frames.

Target and frame have independent noise: a denoiser gains nothing by keeping noise, and no clean image is needed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clarice.benchmark.frame_pictures import draw_particles
from clarice.benchmark.frame_targets import (
    Agreement,
    agreement,
    ceiling,
    filtered_spectra,
    mean_of_others,
    raw_spectra,
)
from clarice.benchmark.measured import Usage
from clarice.benchmark.real_data import SHIPPED, TUNED, RealDataRequest
from clarice.benchmark.records import Column, Results, Row
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.core.errors import InputError, ResourceError
from clarice.core.particles import FloatArray, ParticleSet
from clarice.denoise.networks import is_denoising_network
from clarice.io.micrograph import read_micrograph
from clarice.io.mrc import write_mrc
from clarice.io.stack import open_particles
from clarice.metrics.shells import FIRST_TELLING_SHELL
from clarice.pipeline.extraction import TABLE

NAME = "frames"
VERSION = 1
_TUNED_ENDING = "-tuned"
RAW = "none: the frame"
METHODS = ("wiener", "covariance-wiener", "polar-cnn", "polar-transformer")
# Fourier shells of the box, and what they are in Å: a correlation is told as the mean of each.
BANDS = ((3, 4), (5, 6), (7, 9), (10, 16))
# Shells of which it is told how much was explained of what could be.
EXPLAINED = slice(FIRST_TELLING_SHELL, BANDS[-1][1] + 1)
KEYS = ("entry", "method", "weights")


@dataclass(frozen=True)
class Movie:
    """Micrographs below the data folder: one frame and the mean of all `frames` of each, picks, and CTF.

    Boxes of `box` pixels are scaled to `scale_to`.
    """

    name: str
    folder: str
    frames: int
    pixel_size_angstrom: float
    box: int
    scale_to: int

    def angstrom(self, shell: int) -> float:
        """Where a shell lies."""
        return self.box * self.pixel_size_angstrom / shell


# EMPIAR-10146.
APOFERRITIN = Movie("apoferritin", "micrographs/apoferritin", 50, 1.5, 128, 64)


@dataclass(frozen=True, kw_only=True)
class FramesRequest(RealDataRequest):
    """A call of the protocol: denoisers, and images to tune each network on (0: none is tuned)."""

    methods: Sequence[str] = METHODS
    images: int = 0
    movie: Movie = APOFERRITIN

    @property
    def micrographs(self) -> Path:
        """Their folder. Raises InputError where it is not."""
        folder = self.data / self.movie.folder
        if not (folder / "frame").is_dir():
            raise InputError(f"{folder / 'frame'} is missing: name the folder that holds {self.movie.folder} by --data")
        return folder

    @property
    def place(self) -> Path:
        """Where everything is made."""
        return self.work / NAME / self.movie.name


def frames(request: FramesRequest, *, shown: Callable[[Row], None]) -> Results:
    """Runs the protocol, `shown` and saved method by method; finished rows of a resumed call are kept. Draws some of
    the particles.

    Raises InputError where the micrographs are not below the data folder.
    """
    movie = request.movie
    settings: dict[str, Any] = {
        "movie": movie.name,
        "frames": movie.frames,
        "box": f"{movie.box} px of {movie.pixel_size_angstrom:g} Å scaled to {movie.scale_to}",
        "shells of which a share is explained": f"{EXPLAINED.start} to {EXPLAINED.stop - 1}",
        "images to tune on": request.images,
        "seed": request.seed,
        "threads": request.threads,
    }
    results = Results(NAME, VERSION, settings, KEYS, columns_of(movie))
    results.places = request.places
    results.trained_on = (
        "the training structures, as the card of each network's weights says; tuned on the frames themselves"
    )
    if request.resume:
        results.take_up(request.out)
    contest = FramesContest(request)
    _ = request.micrographs

    def tasks() -> Iterator[Task]:
        yield Task((_key(movie, RAW, None),), contest.raw_rows)
        for method in request.methods:
            network = is_denoising_network(method)
            yield Task((_key(movie, method, SHIPPED if network else None),), partial(contest.rows, method))
            if network and request.images:
                yield Task((_key(movie, method, TUNED),), partial(contest.tuned_rows, method))

    measure_rows(results, tasks(), request.out, summarise=summarise, shown=shown, show_kept=True)
    contest.draw(request.out / f"{NAME}.png")
    return results


def columns_of(movie: Movie) -> tuple[Column, ...]:
    """The table's columns, which name bands in Å."""
    bands = [
        Column(f"correlation, {movie.angstrom(first):.0f} to {movie.angstrom(last):.0f} Å", f"band_{first}", "{:.3f}")
        for first, last in BANDS
    ]
    return (
        Column("particles of", "entry"),
        Column("method", "method"),
        Column("weights", "weights"),
        Column("trained on images", "images", "{:,}"),
        *bands,
        Column("explained of what can be", "explained", "{:.1%}"),
        Column("±", "explained_error", "{:.1%}"),
        Column("sees the particles, by its own account", "sees"),
        Column("time, s", "seconds", "{:.1f}"),
        Column("peak memory, MB", "peak_memory_mb", "{:.0f}"),
        Column("load before", "load_before", "{:.1f}"),
        Column("note", "note"),
    )


def _key(movie: Movie, method: str, weights: str | None) -> Row:
    return {"entry": movie.name, "method": method, "weights": weights}


class FramesContest:
    """The particles of frames and their targets, made when first asked for, and rows of what is made of them."""

    def __init__(self, request: FramesRequest) -> None:
        self.request = request

    @cached_property
    def stacks(self) -> tuple[ParticleSet, ParticleSet]:
        """Particles of the frames, and of the means of all others. Raises ResourceError where cutting fails."""
        folder, place = self.request.micrographs, self.request.place
        shutil.rmtree(place / "targets", ignore_errors=True)
        (place / "targets").mkdir(parents=True)
        for path in sorted((folder / "frame").iterdir()):
            rest = mean_of_others(read_micrograph(folder / "average" / path.name), read_micrograph(path))
            write_mrc(place / "targets" / f"{path.stem}.mrc", rest[None], self.request.movie.pixel_size_angstrom)
        stacks = []
        for name, micrographs in (("frame", folder / "frame"), ("others", place / "targets")):
            self._extract(micrographs, place / name)
            stacks.append(open_particles(place / name / TABLE))
        return stacks[0], stacks[1]

    def _extract(self, micrographs: Path, out: Path) -> None:
        movie, folder = self.request.movie, self.request.micrographs
        sizes = {"--box": movie.box, "--scale-to": movie.scale_to, "--pixel-size": movie.pixel_size_angstrom}
        options = [word for name, value in sizes.items() for word in (name, f"{value:g}")]
        ctf = folder / "micrographs_ctf.star"
        self._run(["extract", micrographs, folder / "picks", "-o", out, *options, "--ctf", ctf, "--invert"], out)

    def _run(self, command: Sequence[str | Path], out: Path, weights: Path | None = None) -> Usage:
        usage = self.request.run(command, out, weights)
        if usage.failed:
            raise ResourceError(f"clarice {command[0]}: {usage.message}")
        return usage

    @cached_property
    def _of_raw(self) -> Agreement:
        frame, others = self.stacks
        return agreement(raw_spectra(frame), others, self._micrographs)

    @property
    def _micrographs(self) -> NDArray[np.str_]:
        micrograph = self.stacks[0].micrograph
        assert micrograph is not None  # extraction names them
        return micrograph

    def raw_rows(self) -> list[Row]:
        """The row of the frame as it is."""
        return [self._scores(self._of_raw)]

    def rows(self, method: str, weights: Path | None = None) -> list[Row]:
        """The row of what a denoiser makes of the frames."""
        frame, others = self.stacks
        out = self.request.place / (method if weights is None else method + _TUNED_ENDING)
        shutil.rmtree(out, ignore_errors=True)
        stack = self.request.place / "frame" / TABLE
        usage = self._run(["denoise", stack, "-o", out, "--method", method], out, weights)
        denoised = open_particles(out / "denoised.star")
        found = agreement(filtered_spectra(denoised, frame), others, self._micrographs)
        used = {"seconds": round(usage.seconds, 1), "peak_memory_mb": round(usage.peak_memory_mb)}
        return [{**self._scores(found), "sees": _sees(out / "denoised.json"), **used}]

    def tuned_rows(self, method: str) -> list[Row]:
        """The same of a network that was fine-tuned on the frames, where that gained anything."""
        request = self.request
        out = request.place / f"tuned-{method}-{request.images}-{request.seed}"
        _ = self.stacks
        told, _ = request.tune(method, request.place / "frame" / TABLE, out, request.images)
        images: Row = {"images": told["images"]}
        if not told["better"]:
            return [{**images, "note": "not kept: " + told["sentence"]}]
        return [{**images, **row} for row in self.rows(method, out / "weights")]

    def draw(self, path: Path) -> None:
        """Some particles of every stack that is there."""
        frame, others = self.stacks
        made = {}
        for method in self.request.methods:
            for ending, said in (("", ""), (_TUNED_ENDING, f", {TUNED}")):
                table = self.request.place / (method + ending) / "denoised.star"
                if table.is_file():
                    made[method + said] = open_particles(table)
        draw_particles({"one frame": frame, **made, "the others' mean": others}, path)

    def _scores(self, found: Agreement) -> Row:
        curve = found.correlation
        bands = {f"band_{first}": float(curve[first : last + 1].mean()) for first, last in BANDS}
        count = len(found.cross)
        frames = self.request.movie.frames
        others = np.array([explained(found.without(k), self._of_raw.without(k), frames) for k in range(count)])
        spread = float(np.sqrt((count - 1) / count * np.square(others - others.mean()).sum()))  # jackknife
        whole = explained(found, self._of_raw, frames)
        return {**bands, "explained": whole, "explained_error": spread, "correlation": np.round(curve, 4).tolist()}


def explained(found: Agreement, raw: Agreement, frames: int, shells: slice = EXPLAINED) -> float:
    """The share of the targets' power that images explain in `shells`, over that which clean images would.

    A shell's images may be scaled, so that it counts c² of its power; a correlation below 0 explains nothing.
    """
    could = np.square(ceiling(raw.correlation, frames)) * raw.power
    does: FloatArray = np.square(found.correlation.clip(min=0)) * found.power
    return float(does[shells].sum() / could[shells].sum())


def _sees(path: Path) -> str | None:
    """What a network says of itself, from what it foretells of hidden coefficients; None for other methods."""
    told = json.loads(path.read_text(encoding="utf-8")).get("foretold")
    return None if told is None else "yes" if told["sees"] else "no"


def summarise(results: Results) -> None:
    """How much each method explains, the best first."""
    rows = [row for row in results.rows if "explained" in row]
    ordered = sorted(rows, key=lambda row: -row["explained"])
    results.summary = {
        f"{row['method']}{', ' + row['weights'] if row['weights'] else ''}": (
            f"explains {row['explained']:.1%} ± {row['explained_error']:.1%} of what clean images would"
        )
        for row in ordered
    }
