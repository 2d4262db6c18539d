"""Peers as denoisers: ASPIRE's covariance Wiener filter and class averages, RELION's 2D classes, Topaz, BM3D.

Each works in units of its own; its images are multiplied by the one factor a set that brings them nearest to the truth.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from clarice.benchmark import peer_aspire as aspire
from clarice.benchmark import peer_relion as relion
from clarice.benchmark.denoise_classes import class_count
from clarice.benchmark.denoise_methods import Measure, Method
from clarice.benchmark.denoise_relion import class_averages
from clarice.benchmark.denoise_scores import Answer, fitted_to
from clarice.benchmark.denoise_sets import ImageSet
from clarice.benchmark.measured import last_line, thread_environment
from clarice.core.errors import ResourceError
from clarice.physics.defocus import unit_optics

CLASS_DRIVER = Path(__file__).with_name("denoise_aspire_driver.py")
_FITTED = "scaled to the truth"
_VOLTAGE_KV = 300.0


def peer_methods(work: Path, threads: int, timeout_seconds: float) -> dict[str, Method]:
    """The peers by name, whether they are installed or not."""
    place = work / "peers"
    measures: dict[str, Measure] = {
        "aspire-covariance": partial(_aspire, aspire.DRIVER, place, threads, timeout_seconds),
        "aspire-classes": partial(_aspire, CLASS_DRIVER, place, threads, timeout_seconds),
        "relion-classes": partial(_relion, place, threads, timeout_seconds),
        "topaz": _topaz,
        "bm3d": _bm3d,
    }
    return {name: Method(name, measure, with_null=False) for name, measure in measures.items()}


def _aspire(
    driver: Path, place: Path, threads: int, timeout_seconds: float, sets: Sequence[ImageSet], _: str
) -> list[Answer]:
    python = aspire.installed_aspire()
    return [_aspire_on(one, python, driver, place, threads, timeout_seconds) for one in sets]


def _aspire_on(
    images: ImageSet, python: Path, driver: Path, place: Path, threads: int, timeout_seconds: float
) -> Answer:
    place.mkdir(parents=True, exist_ok=True)
    stack, result, log = (place / name for name in ("stack.npz", "result.npz", "aspire.log"))
    result.unlink(missing_ok=True)
    optics = unit_optics(len(images), _VOLTAGE_KV) if images.optics is None else images.optics
    np.savez(
        stack,
        images=images.noisy,
        pixel_size=np.float64(images.pixel_size_angstrom),
        allow_pickle=False,
        **aspire.optics_arrays(optics),
    )
    environment = thread_environment(threads)
    environment.pop("PYTHONPATH", None)
    with log.open("wb") as output:
        try:
            subprocess.run(
                [os.fspath(python), os.fspath(driver), os.fspath(stack), os.fspath(result)],
                env=environment,
                cwd=place,
                check=True,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=timeout_seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise ResourceError(f"ASPIRE was ended after {timeout_seconds:.0f} s") from error
        except (OSError, subprocess.SubprocessError) as error:
            raise ResourceError(f"ASPIRE failed: {last_line(log)}") from error
    with np.load(result, allow_pickle=False) as archive:
        denoised, seconds = archive["denoised"].astype(np.float32), float(archive["seconds"])
        note = f"ASPIRE {archive['version']}, {_FITTED}"
    return Answer(fitted_to(denoised, images), seconds, note=note)


def _relion(place: Path, threads: int, timeout_seconds: float, sets: Sequence[ImageSet], setting: str) -> list[Answer]:
    absent = relion.missing()
    if absent is not None:
        raise ResourceError(absent)
    answers = []
    for images in sets:
        folder = place / "relion"
        shutil.rmtree(folder, ignore_errors=True)
        settings = relion.RelionSettings(threads, timeout_seconds, seed=images.number + 1)
        found = class_averages(images, class_count(setting, len(images)), folder, settings)
        note = f"{relion.version()}, {settings.class_iterations} iterations, {_FITTED}"
        shown = fitted_to(found.images, images)
        answers.append(Answer(shown, found.seconds, found.label, found.angle_rad, note=note))
    return answers


def _topaz(sets: Sequence[ImageSet], _: str) -> list[Answer]:
    if importlib.util.find_spec("topaz") is None:
        raise ResourceError("not installed: topaz-em, from PyPI, is not in this environment")
    topaz = importlib.import_module("topaz.denoise")
    model = topaz.load_model("unet")
    model.eval()
    answers = []
    for images in sets:
        started = time.perf_counter()
        denoised = np.asarray(topaz.denoise_stack(model, images.noisy), dtype=np.float32)
        seconds = time.perf_counter() - started
        note = f"its U-Net for micrographs, blind to the CTF, {_FITTED}"
        answers.append(Answer(fitted_to(denoised, images), seconds, note=note))
    return answers


def _bm3d(sets: Sequence[ImageSet], _: str) -> list[Answer]:
    if importlib.util.find_spec("bm3d") is None:
        raise ResourceError("not installed: bm3d, from PyPI, is not in this environment")
    bm3d = importlib.import_module("bm3d")
    answers = []
    for images in sets:
        started = time.perf_counter()
        denoised = np.stack([bm3d.bm3d(image, sigma_psd=1.0) for image in images.noisy.astype(np.float64)])
        seconds = time.perf_counter() - started
        note = f"BM3D, told the noise, blind to the CTF, {_FITTED}"
        answers.append(Answer(fitted_to(denoised.astype(np.float32), images), seconds, note=note))
    return answers
