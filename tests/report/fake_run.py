"""A run folder as the pipeline leaves it, with data that look like a small protein, made in a second."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from tests.report.fake_advice import write_advice

from clarice.geometry.so3 import euler_to_matrix
from clarice.io.mrc import write_mrc
from clarice.io.star import write_star
from clarice.metrics.shells import resolution_at

BOX = 48
PIXEL_ANGSTROM = 4.2
PARTICLES = 1200
CLASSES = 24


def backbone(rng: np.random.Generator) -> NDArray[np.float64]:
    """Points (n, 3) in pixels, (x, y, z): helices packed around the centre, without mirror symmetry."""
    points = []
    for _ in range(16):
        start = rng.normal(0, 3.6, 3)
        axis = rng.normal(size=3)
        axis /= np.linalg.norm(axis)
        side = np.cross(axis, [0.3, 0.5, 0.81])
        side /= np.linalg.norm(side)
        other = np.cross(axis, side)
        for step in range(26):
            turn = np.deg2rad(100 * step)
            points.append(start + axis * (step - 13) * 0.33 + 0.55 * (side * np.cos(turn) + other * np.sin(turn)))
    placed = np.array(points)
    return placed - placed.mean(axis=0)


def density(points: NDArray[np.float64], axes: int) -> NDArray[np.float32]:
    """Points smoothed onto a grid of 2 or 3 axes, indexed (y, x) or (z, y, x)."""
    edges = [np.arange(BOX + 1) - BOX // 2 - 0.5] * axes
    counts, _ = np.histogramdd(points[:, axes - 1 :: -1], bins=edges)
    return gaussian_filter(counts, 1.25).astype(np.float32)


def make_run(folder: Path, name: str = "T20S_particles.star", seed: int = 3) -> Path:
    """Writes a finished run into `folder`, of a stack with dark protein; `name` is the input stack's."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    points = backbone(rng)
    euler = np.stack(
        [
            rng.uniform(-180, 180, PARTICLES),
            np.rad2deg(np.arccos(rng.uniform(-1, 1, PARTICLES) ** 3)),
            rng.uniform(-180, 180, PARTICLES),
        ],
        axis=-1,
    )
    rotations = euler_to_matrix(euler)
    _write_images(folder, points, rotations, rng)
    names = [f"{row + 1:06d}@stack/{name}s.mrcs" for row in range(PARTICLES)]
    _write_tables(folder, names, euler, rng)
    _write_maps(folder, density(points, 3), rng)
    _write_records(folder, name, rng)
    _write_controls(folder, rng)
    _write_map_controls(folder, rng)
    write_advice(folder)
    return folder


def _write_controls(folder: Path, rng: np.random.Generator) -> None:
    """Of particles, of noise and of random phases two denoised images and two classes each."""
    pictures = rng.normal(0, 1, (12, BOX, BOX)).astype(np.float32)
    pictures[4:6] *= 0.01
    write_mrc(folder / "controls.mrcs", gaussian_filter(pictures, (0, 2, 2)), PIXEL_ANGSTROM, is_volume=False)
    shells = np.arange(33)
    curves = {"particles": np.exp(-shells / 8), "pure noise": 0 * shells, "random phases": 0.1 * np.exp(-shells)}
    kinds = [
        {
            "kind": kind,
            "denoised": 2,
            "averages": 2,
            "power_share": share,
            "shared": 0.5 * (kind == "particles"),
            "shared_curve": curve.tolist(),
            "class_frc": [],
        }
        for (kind, curve), share in zip(curves.items(), (1.0, 2e-5, 0.12), strict=True)
    ]
    sentence = (
        "of the power that wiener leaves of particles it leaves 2e-05 of noise: it does not make particles of noise"
    )
    content = {"method": "wiener", "images": 256, "invents": False, "sentence": sentence, "kinds": kinds}
    (folder / "controls.json").write_text(json.dumps(content))


def _write_map_controls(folder: Path, rng: np.random.Generator) -> None:
    """Three projections of each of six maps."""
    pictures = gaussian_filter(rng.normal(0, 1, (18, BOX, BOX)).astype(np.float32), (0, 2, 2))
    write_mrc(folder / "map_controls.mrcs", pictures, PIXEL_ANGSTROM, is_volume=False)
    figures = {"particles": (153.2, 1.0), "pure noise": (-75.9, 0.038), "random phases": (-41.7, 0.11)}
    figures["particles on a wrong molecule"] = (83.1, 0.55)
    kinds = [
        {"kind": kind, "gain": gain, "gain_error": 2.85, "power_share": share, "fsc": [1.0, 0.98, 0.9, 0.4]}
        for kind, (gain, share) in figures.items()
    ]
    content = {
        "images": 256,
        "resolution_angstrom": 23.4,
        "doubtful": False,
        "sentence": "particles fit the map of the other half set better: the map is what its particles show",
        "kinds": kinds,
    }
    (folder / "map_controls.json").write_text(json.dumps(content))


def _write_images(
    folder: Path, points: NDArray[np.float64], rotations: NDArray[np.float64], rng: np.random.Generator
) -> None:
    clean = np.stack([density(points @ rotation.T, 2) for rotation in rotations[:400]])
    clean /= clean.std()
    repeated = clean[np.arange(PARTICLES) % 400]
    noise = rng.normal(0, 3.0, repeated.shape).astype(np.float32)
    write_mrc(folder / "prepared.mrcs", repeated + noise, PIXEL_ANGSTROM, is_volume=False)
    soft = gaussian_filter(repeated + 0.35 * noise, (0, 1.2, 1.2))
    write_mrc(folder / "denoised.mrcs", -soft, PIXEL_ANGSTROM, is_volume=False)
    averages = gaussian_filter(clean[:CLASSES], (0, 0.6, 0.6)) + rng.normal(0, 0.12, (CLASSES, BOX, BOX))
    averages[-3:] = gaussian_filter(rng.normal(0, 3, (3, BOX, BOX)), (0, 2, 2))
    write_mrc(folder / "classes.mrcs", -averages.astype(np.float32), PIXEL_ANGSTROM, is_volume=False)


def _write_tables(folder: Path, names: list[str], euler: NDArray[np.float64], rng: np.random.Generator) -> None:
    optics = pd.DataFrame(
        {
            "rlnOpticsGroup": ["1"],
            "rlnOpticsGroupName": ["opticsGroup1"],
            "rlnVoltage": ["300.0"],
            "rlnSphericalAberration": ["2.7"],
            "rlnAmplitudeContrast": ["0.1"],
            "rlnImagePixelSize": ["2.1"],
        }
    )
    defocus = rng.normal(16000, 3500, PARTICLES).clip(6000, 28000)
    table = pd.DataFrame(
        {
            "rlnImageName": names,
            "rlnDefocusU": defocus + np.abs(rng.normal(0, 220, PARTICLES)),
            "rlnDefocusV": defocus,
            "rlnDefocusAngle": rng.uniform(0, 180, PARTICLES),
            "rlnOpticsGroup": 1,
        }
    )
    posed = table.assign(
        rlnAngleRot=euler[:, 0],
        rlnAngleTilt=euler[:, 1],
        rlnAnglePsi=euler[:, 2],
        rlnOriginXAngst=rng.normal(0, 5, PARTICLES),
        rlnOriginYAngst=rng.normal(0, 5, PARTICLES),
        rlnMaxValueProbDistribution=rng.beta(5, 2, PARTICLES),
    )
    write_star(folder / "prepared.star", {"optics": optics, "particles": table})
    write_star(folder / "particles.star", {"optics": optics, "particles": posed})
    share = np.sort(rng.dirichlet(np.full(CLASSES, 2.5)))[::-1]
    number = rng.choice(CLASSES, PARTICLES, p=share) + 1
    members = pd.DataFrame({"rlnImageName": names, "rlnClassNumber": number})
    write_star(folder / "class_members.star", {"particles": members})
    kept = number <= CLASSES - 3
    write_star(folder / "selected.star", {"optics": optics, "particles": table[kept]})
    reasons = {"classes_without_structure": 3, "particles_in_them": int((~kept).sum())}
    rows = np.flatnonzero(kept).tolist()
    _write_json(folder, "selection", {"kept": len(rows), "total": PARTICLES, "reasons": reasons, "rows": rows})


def _write_maps(folder: Path, volume: NDArray[np.float32], rng: np.random.Generator) -> None:
    noisy = (volume + rng.normal(0, 0.02 * volume.max(), volume.shape)).astype(np.float32)
    noisy = gaussian_filter(noisy, 0.4)
    write_mrc(folder / "map.mrc", noisy, PIXEL_ANGSTROM, is_volume=True)
    write_mrc(folder / "map_mirror.mrc", np.ascontiguousarray(noisy[:, :, ::-1]), PIXEL_ANGSTROM, is_volume=True)
    shells = BOX // 2 + 1
    frequency = np.arange(shells) / (BOX * PIXEL_ANGSTROM)
    scatter = rng.normal(0, 0.012, (3, shells)) * np.linspace(0, 1.6, shells)
    masked = 1 / (1 + np.exp((np.arange(shells) - 17.0) / 1.5)) + scatter[0]
    unmasked = 1 / (1 + np.exp((np.arange(shells) - 14.2) / 1.7)) + scatter[1]
    randomised = np.where(np.arange(shells) < 11, masked, 0.14 * np.exp(-(np.arange(shells) - 11) / 9) + scatter[2])
    corrected = np.where(np.arange(shells) < 13, masked, (masked - randomised) / (1 - randomised))
    curves = {"unmasked": unmasked, "masked": masked, "phase_randomised": randomised, "corrected": corrected}
    _write_json(
        folder,
        "fsc",
        {
            "box": BOX,
            "pixel_size_angstrom": PIXEL_ANGSTROM,
            "nyquist_angstrom": 2 * PIXEL_ANGSTROM,
            "resolution_angstrom": {
                str(level): resolution_at(corrected, level, PIXEL_ANGSTROM, BOX) for level in (0.143, 0.5)
            },
            "curves": {name: [float(v) for v in values] for name, values in curves.items()},
            "spatial_frequency_per_angstrom": [float(v) for v in frequency],
        },
    )


def _write_records(folder: Path, name: str, rng: np.random.Generator) -> None:
    courses = [
        [float(v) for v in -1150 - 60 * np.exp(-np.arange(1, 31) / rate) - lag]
        for rate, lag in ((6, 0), (8, 0.6), (9, 7.2))
    ]
    starts = [{"seed": 11 + k, "log_likelihood": course} for k, course in enumerate(courses)]
    _write_json(folder, "abinitio", {"starts": starts, "chosen": 0})
    reached = [30.0, 22.1, 17.4, 14.2, 12.3, 11.2, 10.7, 10.4, 10.31]
    _write_json(folder, "refinement", {"iterations": [{"resolution_angstrom": v} for v in reached]})
    _write_json(
        folder,
        "prepared",
        {
            "working_box": BOX,
            "working_pixel_size_angstrom": PIXEL_ANGSTROM,
            "sign": -1,
            "ctf_state": "raw",
            "noise_sigma": 1.02,
        },
    )
    _write_json(folder, "denoised", {"method": "covariance_wiener", "seconds": 4.1})
    _write_json(
        folder,
        "check",
        {
            "box": 96,
            "particles": PARTICLES,
            "contrast": {"sign": "dark", "basis": "images"},
            "ctf": {"state": "raw", "basis": "assumed"},
        },
    )
    times = (
        ("check", 1.2, 310.0),
        ("prepare", 2.9, 402.0),
        ("denoise", 8.4, 715.0),
        ("classify", 31.0, 824.0),
        ("select", 0.2, 310.0),
        ("abinitio", 58.3, 1010.0),
        ("refine", 74.6, 1290.0),
        ("export", 0.9, 400.0),
    )
    stages = [
        {
            "name": n,
            "status": "done",
            "started": "2026-11-20T13:05:00+00:00",
            "seconds": s,
            "peak_memory_mb": m,
            "inputs_hash": f"{k:016x}",
            "outputs": [f"{n}.json"],
        }
        for k, (n, s, m) in enumerate(times)
    ]
    record = {
        "version": "0.1.0",
        "command": f"clarice run {name} -o run --seed 7",
        "arguments": {"stack": name, "working_box": BOX, "classes": CLASSES, "symmetry": "C1"},
        "seed": 7,
        "created": "2026-11-20T13:05:00+00:00",
        "hardware": {
            "cpu": "AMD EPYC 7B13",
            "cores": 2,
            "memory_gb": 8.0,
            "torch": "2.13.0",
            "device": "cpu",
        },
        "input": {
            "path": f"/data/{name}",
            "sha256": "9f2c" * 16,
            "particles": PARTICLES,
            "box": 96,
            "pixel_size_angstrom": 2.1,
        },
        "stages": [*stages, {"name": "report", "status": "running"}],
        "warnings": [
            {
                "stage": "check",
                "message": "12 particles lie closer than 40 Å to another one; they may be picked twice.",
            }
        ],
        "peak_memory_mb": 1290.0,
    }
    _write_json(folder, "run", record)


def _write_json(folder: Path, name: str, content: dict[str, object]) -> None:
    (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def replace_file(path: Path, content: str | bytes) -> None:
    """Puts new content in the place of `path` without touching the file it was linked to."""
    path.unlink(missing_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
