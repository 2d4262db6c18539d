"""The protocol `common-lines`: our lines and rotations beside ASPIRE's, on the same images in the same call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from clarice.benchmark.main_job import Request
from clarice.benchmark.measured import Usage, run_measured
from clarice.benchmark.peer_aspire import installed_aspire
from clarice.benchmark.records import Column, Results, Row, with_interval
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.benchmark.structures import load_subject, structures_folder
from clarice.core.errors import ResourceError
from clarice.core.particles import Poses
from clarice.core.progress import Progress, silent
from clarice.geometry.so3 import random_rotations
from clarice.metrics.orientation import FloatArray, found_line_share, orientation_errors
from clarice.physics.noise import white_noise
from clarice.physics.simulate import FILL, SimulationSettings, simulate

NAME = "common-lines"
VERSION = 2
COLUMNS = (
    Column("entry", "entry"),
    Column("seed", "seed"),
    Column("images", "images"),
    Column("SNR", "snr"),
    Column("shift σ, px", "shift_px", "{:g}"),
    Column("method", "method"),
    Column("lines within 5°", "within_5_deg", "{:.3f}"),
    Column("lines within 10°", "within_10_deg", "{:.3f}"),
    Column("confidence, mean", "confidence", "{:.3f}"),
    Column("orientation error, mean °", "orientation_mean_deg", "{:.2f}"),
    Column("median °", "orientation_median_deg", "{:.2f}"),
    Column("lines, s", "lines_seconds", "{:.2f}"),
    Column("ms a pair", "pair_ms", "{:.4f}"),
    Column("lines and rotations, s", "seconds", "{:.1f}"),
    Column("peak memory, MB", "peak_memory_mb", "{:.0f}"),
    Column("load before", "load_before", "{:.1f}"),
    Column("note", "note"),
)
KEYS = ("entry", "seed", "images", "snr", "shift_px", "method")
OURS, ASPIRE = "clarice", "ASPIRE voting"
CLEAN = "clean"
DRIVER, ASPIRE_DRIVER = "clarice.benchmark.lines_driver", Path(__file__).with_name("peer_aspire_lines_driver.py")
# Angles of a circle on which lines are told apart, of both programs.
N_ANGLES = 360
# Images are taken to be moved by up to so many times the standard deviation of the shifts, and two of them against each
# other along a line, by both programs, by up to twice as much.
SHIFT_REACH = 2.5


@dataclass(frozen=True)
class LineRequest:
    """A call of the protocol: common settings, signal-to-noise ratios (None: clean), shifts' σ and methods."""

    common: Request
    snrs: Sequence[float | None]
    shifts_px: Sequence[float]
    methods: Sequence[str] = (OURS, ASPIRE)


@dataclass(frozen=True)
class LineImages:
    """Images (n, L, L) without CTF, their rotations (n, 3, 3), and the noise variance of a pixel."""

    images: NDArray[np.float32]
    rotations: FloatArray
    noise_variance: float


def make_images(
    request: LineRequest, entry: str, seed: int, shift_px: float, snr: float | None, progress: Progress = silent
) -> LineImages:
    """Projections of random views, moved by normal shifts of `shift_px`; white noise of variance 1 unless clean."""
    common = request.common
    subject = load_subject(entry, structures_folder(common.data))
    generator = torch.Generator().manual_seed(seed)
    count, box = common.settings.particles, common.settings.box
    shifts = shift_px * torch.randn((count, 2), generator=generator, dtype=torch.float64).numpy()
    poses = Poses(random_rotations(count, generator), shifts)
    settings = SimulationSettings(count, box, seed, snr=1.0, ctf=False, noise="none", max_shift_px=0.0)
    made = simulate(subject.atoms, settings, poses=poses, progress=progress)
    signal = torch.from_numpy(np.array(made.images))
    if snr is None:
        return LineImages(signal.numpy(), poses.rotations, 0.0)
    signal = signal * (snr / float(signal.square().mean())) ** 0.5
    return LineImages((signal + white_noise(count, box, generator)).numpy(), poses.rotations, 1.0)


def measure_row(make: Callable[[], LineImages], method: str, shift_px: float, request: LineRequest) -> Row:
    """One method on one set of images. Raises ResourceError where it is not installed or fails."""
    common = request.common
    place = common.work / NAME
    place.mkdir(parents=True, exist_ok=True)
    command, version = _command(method)
    made = make()
    source, result, log = place / "images.npz", place / "lines.npz", place / "lines.log"
    result.unlink(missing_ok=True)
    np.savez(
        source,
        images=made.images,
        n_angles=N_ANGLES,
        max_shift_px=SHIFT_REACH * shift_px,
        diameter_px=FILL * common.settings.box,
        noise_variance=made.noise_variance,
    )
    usage = run_measured(
        [*command, source, result],
        folder=place,
        log=log,
        threads=common.threads,
        timeout_seconds=common.timeout_seconds,
    )
    if usage.failed:
        raise ResourceError(f"{method} failed: {usage.message}")
    return judged(result, made, usage, version)


def _command(method: str) -> tuple[list[str | Path], str]:
    """What starts a method's driver, and what its version is called."""
    if method == OURS:
        return [sys.executable, "-m", DRIVER], ""
    return [installed_aspire(), "-E", ASPIRE_DRIVER], "ASPIRE"


def judged(result: Path, made: LineImages, usage: Usage, program: str) -> Row:
    """Lines and rotations of a driver against the truth."""
    count = len(made.images)
    with np.load(result) as archive:
        angle, rotations = archive["angle_rad"].astype(np.float64), archive["rotations"].astype(np.float64)
        lines_seconds, seconds = float(archive["lines_seconds"]), float(archive["seconds"])
        version = str(archive["version"])
        confidence = round(float(archive["confidence"]), 4) if "confidence" in archive else None
    errors = orientation_errors(rotations, made.rotations).angle_deg
    return {
        "within_5_deg": round(found_line_share(angle, made.rotations, within_deg=5), 4),
        "within_10_deg": round(found_line_share(angle, made.rotations, within_deg=10), 4),
        "confidence": confidence,
        "orientation_mean_deg": round(float(errors.mean()), 3),
        "orientation_median_deg": round(float(np.median(errors)), 3),
        "lines_seconds": round(lines_seconds, 3),
        "pair_ms": round(2000 * lines_seconds / (count * (count - 1)), 5),
        "seconds": round(seconds, 2),
        "peak_memory_mb": round(usage.peak_memory_mb),
        "note": f"{program} {version}" if program else None,
    }


def line_contest(request: LineRequest, *, shown: Callable[[Row], None], progress: Progress = silent) -> Results:
    """Runs the protocol, `shown` and saved row by row; finished rows of a resumed call are kept, and shown as well."""
    common = request.common

    folder = structures_folder(common.data)
    symmetric = [entry for entry in common.entries if load_subject(entry, folder).point_group.name != "C1"]

    def tasks() -> Iterator[Task]:
        for (entry, seed), shift, snr in product(common.stacks(), request.shifts_px, request.snrs):
            if entry in symmetric:
                continue
            make = cache(partial(make_images, request, entry, seed, shift, snr, progress))
            for method in request.methods:
                key: Row = {
                    "entry": entry,
                    "seed": seed,
                    "images": common.settings.particles,
                    "snr": CLEAN if snr is None else f"{snr:g}",
                    "shift_px": shift,
                    "method": method,
                }
                yield Task((key,), partial(_rows, make, method, shift, request))

    own = ("snr", "max_shift_px", "defocus_groups", "defocus")  # each row has its own; there is no CTF
    results = common.results(NAME, VERSION, KEYS, COLUMNS, without=own, n_angles=N_ANGLES)
    if symmetric:
        results.notes.append(f"left out, their lines being several because of symmetry: {', '.join(symmetric)}")
    return measure_rows(results, tasks(), common.out, summarise=summarise, shown=shown, show_kept=True)


def _rows(make: Callable[[], LineImages], method: str, shift_px: float, request: LineRequest) -> list[Row]:
    return [measure_row(make, method, shift_px, request)]


def summarise(results: Results) -> None:
    """For each kind of image ASPIRE over ours: time a pair, and both shares of right lines."""
    results.summary = {}
    for images, snr, shift in dict.fromkeys((row["images"], row["snr"], row["shift_px"]) for row in results.rows):
        rows = [row for row in results.rows if (row["images"], row["snr"], row["shift_px"]) == (images, snr, shift)]
        kind = f"{images} images, SNR {snr}, shift σ {shift:g} px"
        for method in (OURS, ASPIRE):
            chosen = [row for row in rows if row["method"] == method and not row.get("failed")]
            share = with_interval(chosen, "within_10_deg", "{:.3f}")
            if share is not None:
                error = np.mean([row["orientation_mean_deg"] for row in chosen])
                results.summary[f"{kind}, {method}"] = f"lines within 10°: {share}; orientation error {error:.1f}°"
        ratios = _ratios(rows)
        if ratios:
            results.summary[f"{kind}, time a pair, ASPIRE / clarice"] = f"{np.mean(ratios):.1f}×"


def _ratios(rows: Sequence[Row]) -> list[float]:
    times = {(row["entry"], row["seed"], row["method"]): row.get("pair_ms") for row in rows}
    pairs = [
        (times.get((entry, seed, ASPIRE)), times[entry, seed, OURS]) for entry, seed, method in times if method == OURS
    ]
    return [theirs / ours for theirs, ours in pairs if theirs and ours]
