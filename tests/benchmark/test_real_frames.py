"""The protocol on frames, with micrographs of our own: the program itself cuts and denoises, in this process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.denoise.sampling_weights import write_random_weights
from typer.testing import CliRunner

from clarice.benchmark import real_data
from clarice.benchmark.measured import Usage
from clarice.benchmark.real_frames import RAW, SHIPPED, TUNED, FramesRequest, Movie, frames
from clarice.cli.app import app
from clarice.core.errors import ClariceError, InputError
from clarice.core.particles import FloatArray, Optics
from clarice.io.mrc import write_mrc
from clarice.io.star import write_star
from clarice.physics.ctf import ctf_at, rfft_frequency_grid

EDGE, BOX, PIXEL, COUNT = 320, 32, 4.0, 6
DEFOCUS = {"a": 15000.0, "b": 21000.0}
STEP = 40


def micrograph(name: str) -> tuple[FloatArray, FloatArray]:
    """Rings with a bar across, turned anyhow, through the CTF and dark: without noise, and their centres."""
    generator = np.random.default_rng(len(name) + ord(name))
    axis = np.arange(STEP, EDGE - STEP + 1, STEP, dtype=np.float64)
    centres = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    y, x = np.mgrid[:EDGE, :EDGE]
    density = np.zeros((EDGE, EDGE))
    for cx, cy in centres:
        angle = generator.uniform(0, 2 * np.pi)
        u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        radius = np.hypot(u, v)
        density += np.exp(-(((radius - 8) / 2) ** 2)) + 1.5 * (radius < 8) * np.exp(-((v / 2) ** 2))
    one = np.ones(1)
    optics = Optics(300 * one, 0 * one, 0.1 * one, DEFOCUS[name] * one, DEFOCUS[name] * one, *np.zeros((3, 1)))
    fy, fx = rfft_frequency_grid(EDGE)
    transfer = ctf_at(optics, fx / PIXEL, fy / PIXEL)[0].numpy()
    return -np.fft.irfft2(np.fft.rfft2(density) * transfer, s=(EDGE, EDGE)), centres


@pytest.fixture
def request_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FramesRequest:
    folder, generator = tmp_path / "data" / "movie", np.random.default_rng(8)
    for name in ("frame", "average", "picks"):
        (folder / name).mkdir(parents=True)
    for name in DEFOCUS:
        clean, centres = micrograph(name)
        movie = clean + 1.5 * generator.normal(size=(COUNT, EDGE, EDGE))
        write_mrc(folder / "frame" / f"{name}.mrc", movie[:1].astype(np.float32), PIXEL)
        write_mrc(folder / "average" / f"{name}.mrc", 9 * movie.mean(axis=0, keepdims=True).astype(np.float32), PIXEL)
        rows = "".join(f"{x:g},{y:g}\n" for x, y in centres)
        (folder / "picks" / f"{name}.csv").write_text("x,y\n" + rows)
    write_star(folder / "micrographs_ctf.star", ctf_blocks())
    monkeypatch.setattr(real_data, "run_measured", in_this_process)
    monkeypatch.setenv("CLARICE_WEIGHTS", str(tmp_path / "shipped"))
    movie_of = Movie("rings", "movie", COUNT, PIXEL, BOX, BOX)
    return FramesRequest(
        data=tmp_path / "data",
        out=tmp_path / "out",
        work=tmp_path / "work",
        methods=("covariance-wiener",),
        threads=1,
        program=("clarice",),
        movie=movie_of,
    )


def ctf_blocks() -> dict[str, pd.DataFrame]:
    names = list(DEFOCUS)
    optics = {"rlnOpticsGroupName": ["one"], "rlnOpticsGroup": [1], "rlnMicrographPixelSize": [PIXEL]}
    scope = {"rlnVoltage": [300.0], "rlnSphericalAberration": [0.0], "rlnAmplitudeContrast": [0.1]}
    rows = {
        "rlnMicrographName": [f"{name}.mrc" for name in names],
        "rlnOpticsGroup": [1] * len(names),
        "rlnDefocusU": list(DEFOCUS.values()),
        "rlnDefocusV": list(DEFOCUS.values()),
        "rlnDefocusAngle": [0.0] * len(names),
    }
    return {"optics": pd.DataFrame({**optics, **scope}), "micrographs": pd.DataFrame(rows)}


def in_this_process(command: Sequence[str | Path], *, threads: int, **_: object) -> Usage:
    """The program itself, but for fine-tuning, which here says that weights with random numbers are better."""
    assert threads == 1
    words = list(map(str, command))
    given = {
        name: value for name, _, value in (word.partition("=") for word in words[: words.index("clarice")]) if value
    }
    words = words[words.index("clarice") + 1 :]
    if words[0] == "finetune":
        images, out = int(words[words.index("--images") + 1]), Path(words[words.index("-o") + 1])
        write_random_weights(out / "weights")
        told = {"images": images, "better": images > 100, "sentence": "no gain beyond chance"}
        (out / "finetuning.json").write_text(json.dumps(told))
        return Usage(0, 1.0, 1.0, 100.0)
    result = CliRunner().invoke(app, words, env=given)
    return Usage(int(result.exception is not None), 2.0, 1.0, 100.0, str(result.exception))


def test_denoisers_are_held_against_what_no_noise_of_theirs_is_in(request_of: FramesRequest) -> None:
    started: list[str] = []
    raw, denoised = frames(replace(request_of, tell=started.append), shown=lambda _: None).rows
    assert [line.split(":")[0] for line in started] == ["extract", "extract", "denoise"]
    assert (raw["method"], denoised["method"], denoised["weights"]) == (RAW, "covariance-wiener", None)
    assert 0.02 < raw["explained"] < denoised["explained"] < 1
    assert 0 < denoised["explained_error"] < 0.1
    assert denoised["band_3"] > raw["band_3"] > 0
    assert denoised["sees"] is None
    record = (request_of.out / "frames.json").read_text()
    assert str(request_of.work) not in record
    assert list(json.loads(record)["summary"]) == ["covariance-wiener", RAW]
    with Image.open(request_of.out / "frames.png") as picture:
        assert picture.size[1] > picture.size[0]


def test_networks_are_judged_as_shipped_and_fine_tuned(request_of: FramesRequest, tmp_path: Path) -> None:
    write_random_weights(tmp_path / "shipped")
    asked = replace(request_of, methods=("polar-transformer",), images=200)
    _, shipped, tuned = frames(asked, shown=lambda _: None).rows
    assert (shipped["weights"], tuned["weights"]) == (SHIPPED, TUNED)
    assert {shipped["sees"], tuned["sees"]} <= {"yes", "no"}
    assert tuned["images"] == 200
    assert (tmp_path / "work/frames/rings/polar-transformer-tuned/denoised.star").is_file()
    _, _, kept = frames(replace(asked, images=50), shown=lambda _: None).rows
    assert kept["note"] == "not kept: no gain beyond chance"
    assert "explained" not in kept


def test_missing_micrographs_and_data_are_told(request_of: FramesRequest, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing: name the folder"):
        frames(replace(request_of, data=tmp_path / "none"), shown=lambda _: None)
    for words, told in (([], "--data"), (["--data", str(tmp_path), "--methods", "nothing"], "nothing")):
        result = CliRunner().invoke(app, ["benchmark", "frames", *words], env={"CLARICE_DATA": ""})
        assert isinstance(result.exception, ClariceError)
        assert told in str(result.exception)
