"""What was run, on what, with which seed and hashes, how long each stage took, and how to go on elsewhere."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from clarice.core.errors import UsageError
from clarice.geometry.so3 import symmetry_rotations
from clarice.report.folder import RunFiles, number, records
from clarice.report.wording import count, date, duration, memory, plain, quantity

STATUS_WORDS = {"done": "done", "running": "unfinished", "skipped": "up to date", "failed": "failed"}
# The page is made by the last stage, which cannot have ended by then.
OWN_STAGE = "report"


@dataclass(frozen=True)
class StageRow:
    """One stage with its time and memory as text, and its share (0..1) of the longest and the largest."""

    name: str
    status: str
    time: str
    time_share: float
    memory: str
    memory_share: float
    inputs_hash: str
    outputs: str


@dataclass(frozen=True)
class Stages:
    """All stages and their totals as text; `failed` holds (name, error)."""

    rows: tuple[StageRow, ...]
    total_time: str
    peak_memory: str
    unfinished: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Command:
    """A command to copy, and what it is for."""

    purpose: str
    text: str


@dataclass(frozen=True)
class NextSteps:
    """Commands for RELION, steps for cryoSPARC."""

    relion: tuple[Command, ...]
    cryosparc: tuple[str, ...]


def stages(record: dict[str, Any]) -> Stages | None:
    """Stages of run.json; None when it lists none."""
    listed = [entry for entry in records(record.get("stages")) if entry.get("name") != OWN_STAGE]
    if not listed:
        return None
    seconds = [number(stage.get("seconds")) for stage in listed]
    peaks = [number(stage.get("peak_memory_mb")) for stage in listed]
    longest = max((s for s in seconds if s), default=1.0)
    largest = max((p for p in peaks if p), default=1.0)
    rows = tuple(
        StageRow(
            str(stage.get("name", "–")),
            STATUS_WORDS.get(str(stage.get("status")), str(stage.get("status", "–"))),
            duration(spent),
            (spent or 0) / longest,
            memory(peak),
            (peak or 0) / largest,
            str(stage.get("inputs_hash") or "–"),
            plain(stage.get("outputs")),
        )
        for stage, spent, peak in zip(listed, seconds, peaks, strict=True)
    )
    peak_memory = number(record.get("peak_memory_mb")) or max((p for p in peaks if p), default=None)
    unfinished = tuple(row.name for row in rows if row.status == "unfinished")
    failed = tuple(
        (str(stage.get("name")), plain(stage.get("error"))) for stage in listed if stage.get("status") == "failed"
    )
    return Stages(rows, duration(sum(s or 0 for s in seconds)), memory(peak_memory), unfinished, failed)


def command_line(record: dict[str, Any]) -> str:
    """The command as it was given; a list is quoted for a shell."""
    command = record.get("command")
    if isinstance(command, list):
        return shlex.join(str(word) for word in command)
    return plain(command)


def facts(record: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """What identifies the run, as (name, value)."""
    source, hardware = _object(record.get("input")), _object(record.get("hardware"))
    cores = hardware.get("cores")
    machine = (
        f"{plain(hardware.get('cpu'))}, {plain(cores)} {'core' if cores == 1 else 'cores'}, "
        f"{quantity(number(hardware.get('memory_gb')), 'GB')}, {plain(hardware.get('device'))}"
    )
    return (
        ("Clarice version", plain(record.get("version"))),
        ("Seed", plain(record.get("seed"))),
        ("Started", date(record.get("created"))),
        ("Input", plain(source.get("path"))),
        ("Input SHA-256", plain(source.get("sha256"))),
        ("Particles", count(number(source.get("particles")))),
        ("Machine", machine if hardware else plain(None)),
        ("PyTorch", plain(hardware.get("torch"))),
    )


def symmetry_of(record: dict[str, Any]) -> str:
    """The point group a run was told, C1 where its record names none that there is."""
    told = str(_object(record.get("arguments")).get("symmetry") or "C1")
    try:
        symmetry_rotations(told)
    except UsageError:
        return "C1"
    return told


def arguments(record: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Every argument of the run as (name, value)."""
    return tuple((str(name), plain(value)) for name, value in _object(record.get("arguments")).items())


def facts_of(content: dict[str, Any], limit: int = 40) -> tuple[tuple[str, str], ...]:
    """The short entries of a JSON object as (name, value), long lists left out."""
    short = [(k.replace("_", " "), plain(v)) for k, v in content.items() if not (isinstance(v, list) and len(v) > 12)]
    return tuple(short[:limit])


def next_steps(run: RunFiles, record: dict[str, Any], diameter_angstrom: float | None) -> NextSteps | None:
    """How to go on from the files this run wrote; None until poses and a map are there."""
    if not (run.has("particles.star") and run.has("map.mrc")):
        return None
    source, fsc = _object(record.get("input")), run.json("fsc.json")
    raw_pixel, map_pixel = number(source.get("pixel_size_angstrom")), number(fsc.get("pixel_size_angstrom"))
    raw_box, map_box = number(source.get("box")), number(fsc.get("box"))
    symmetry = shlex.quote(symmetry_of(record))
    commands, reference = [], "map.mrc"
    if raw_pixel and map_pixel and raw_box and map_box and (raw_box != map_box or abs(raw_pixel - map_pixel) > 1e-4):
        reference = "map_for_relion.mrc"
        text = (
            f"relion_image_handler --i map.mrc --o {reference} --angpix {map_pixel:.6g} "
            f"--rescale_angpix {raw_pixel:.6g} --new_box {raw_box:.0f}"
        )
        commands.append(Command("Bring the map to the particles' pixel size and box", text))
    diameter = f"{10 * round(1.15 * diameter_angstrom / 10 + 0.5):.0f}" if diameter_angstrom else "DIAMETER_ANGSTROM"
    commands.append(
        Command(
            "Check the poses: reconstruct without any search",
            f"relion_reconstruct --i particles.star --o check.mrc --ctf --sym {symmetry}",
        )
    )
    refine = (
        f"mpirun -n 3 relion_refine_mpi --i particles.star --ref {reference} --firstiter_cc --ini_high 30 "
        f"--o Refine3D/run --auto_refine --split_random_halves --ctf --particle_diameter {diameter} "
        "--flatten_solvent --zero_mask --oversampling 1 --healpix_order 2 --auto_local_healpix_order 4 "
        f"--offset_range 5 --offset_step 2 --sym {symmetry} --norm --scale --low_resol_join_halves 40 "
        "--pool 3 --pad 2 --j 4"
    )
    commands.append(Command("Refine in RELION (make the folder Refine3D first)", refine))
    return NextSteps(tuple(commands), _cryosparc_steps(run))


def _cryosparc_steps(run: RunFiles) -> tuple[str, ...]:
    meta = "particles.cs" if run.has("particles.cs") else "particles.star"
    steps = [
        f"Import Particle Stack: “Particle meta path” is {meta} in this folder; the poses come in with it.",
        "Import 3D Volumes: choose map.mrc"
        + (" and, as a second volume, map_mirror.mrc (the other hand)." if run.has("map_mirror.mrc") else "."),
        "Homogeneous Refinement with particles and map, or Local Refinement to start from these poses.",
    ]
    return tuple(steps)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
