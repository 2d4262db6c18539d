"""ASPIRE's covariance Wiener filter beside ours: same stack, same target, same threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from clarice.core.errors import ResourceError
from clarice.core.particles import Optics
from clarice.core.progress import Progress, silent
from clarice.denoise.registry import denoise_all, get_denoiser
from clarice.metrics.image import relative_mse
from clarice.physics.noisy_set import white_set
from clarice.physics.simulate import SimulatedSet, SimulationSettings, Specimen, simulate

DRIVER = Path(__file__).with_name("peer_aspire_driver.py")
PYTHON_VARIABLE = "CLARICE_ASPIRE_PYTHON"
OUR_METHODS = ("wiener", "covariance-wiener")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_LONGEST_SECONDS = 1800


@dataclass(frozen=True)
class DenoisingRow:
    """One method on one stack. `nrmse` and `seconds` are None where the peer could not run; `note` says why.

    `nrmse` is √(Σ‖x̂ − x‖² / Σ‖x‖²) inside the inscribed disk, x the CTF-free projection with its shift.
    """

    method: str
    max_shift_px: float
    snr: float
    nrmse: float | None
    seconds: float | None
    note: str = ""


def aspire_python() -> Path | None:
    """The Python with ASPIRE: $CLARICE_ASPIRE_PYTHON, or the one beside the command `aspire` on the PATH."""
    named = os.environ.get(PYTHON_VARIABLE)
    if named:
        return Path(named) if Path(named).is_file() else None
    command = shutil.which("aspire")
    beside = None if command is None else Path(command).with_name("python")
    return beside if beside is not None and beside.is_file() else None


def installed_aspire() -> Path:
    """The Python with ASPIRE. Raises ResourceError where there is none."""
    python = aspire_python()
    if python is None:
        raise ResourceError(f"not installed: set {PYTHON_VARIABLE} to the Python of an environment that has it")
    return python


def compare_covariance_wiener(
    specimen: Specimen,
    *,
    max_shift_px: float,
    particles: int = 1000,
    box: int = 64,
    snr: float = 0.1,
    seed: int = 1,
    ctf_table: Path | None = None,
    threads: int = 2,
    progress: Progress = silent,
) -> list[DenoisingRow]:
    """A row for each of our filters and one for ASPIRE's; each runs twice and its faster time counts."""
    settings = SimulationSettings(
        particles=particles, box=box, seed=seed, snr=snr, max_shift_px=max_shift_px, ctf_table=ctf_table
    )
    simulated = simulate(specimen, settings, progress=progress)
    rows = []
    with _threads(threads):
        for method in OUR_METHODS:
            images, seconds = _ours(simulated, method)
            rows.append(DenoisingRow(method, max_shift_px, snr, _nrmse(images, simulated.clean), seconds))
    return [*rows, _aspire_row(simulated, threads)]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _nrmse(images: NDArray[np.float32], clean: NDArray[np.float32]) -> float:
    return float(np.sqrt(relative_mse(images, clean)))


def _ours(simulated: SimulatedSet, method: str) -> tuple[NDArray[np.float32], float]:
    noisy = white_set(simulated.particles)
    times = []
    for _ in range(2):
        started = time.perf_counter()
        images = denoise_all(get_denoiser(method)(noisy), len(noisy), noisy.box)
        times.append(time.perf_counter() - started)
    return images, min(times)


def optics_arrays(optics: Optics) -> dict[str, NDArray[np.float64]]:
    """The columns ASPIRE's drivers read of a stack's optics."""
    return {
        "voltage": optics.voltage_kv,
        "defocus_u": optics.defocus_u_angstrom,
        "defocus_v": optics.defocus_v_angstrom,
        "defocus_angle": optics.defocus_angle_deg,
        "spherical_aberration": optics.spherical_aberration_mm,
        "amplitude": optics.amplitude_contrast,
    }


def _aspire_row(simulated: SimulatedSet, threads: int) -> DenoisingRow:
    shift, snr = simulated.settings.max_shift_px, simulated.settings.snr
    try:
        python = installed_aspire()
    except ResourceError as error:
        return DenoisingRow("aspire", shift, snr, None, None, str(error))
    assert simulated.particles.optics is not None
    with tempfile.TemporaryDirectory() as folder:
        stack, result = Path(folder) / "stack.npz", Path(folder) / "result.npz"
        columns = optics_arrays(simulated.particles.optics)
        size = simulated.particles.pixel_size_angstrom
        np.savez(stack, images=simulated.images, pixel_size=np.float64(size), allow_pickle=False, **columns)
        environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
        environment.pop("PYTHONPATH", None)
        try:
            subprocess.run(
                [str(python), str(DRIVER), str(stack), str(result)],
                env=environment,
                cwd=result.parent,
                check=True,
                capture_output=True,
                timeout=_LONGEST_SECONDS,
            )
            with np.load(result, allow_pickle=False) as archive:
                nrmse = _nrmse(archive["denoised"], simulated.clean)
                seconds, version = float(archive["seconds"]), str(archive["version"])
        except (OSError, subprocess.SubprocessError, KeyError, ValueError) as error:
            reason = getattr(error, "stderr", None) or str(error).encode()
            return DenoisingRow("aspire", shift, snr, None, None, f"failed: {_last_line(reason)}")
    return DenoisingRow("aspire", shift, snr, nrmse, seconds, f"ASPIRE {version}")


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"
