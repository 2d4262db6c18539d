"""What is told of RELION, without RELION."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from clarice.benchmark import peer_relion
from clarice.benchmark.measured import Usage
from clarice.benchmark.peer_relion import Agreement, RelionSettings, agreement, warnings_in
from clarice.benchmark.peer_relion_model import initial_model
from clarice.benchmark.protocol import SimulatedStack
from clarice.io.mrc import read_mrc, write_mrc


def test_warnings_beyond_the_expected_ones_are_told(tmp_path: Path) -> None:
    log = tmp_path / "relion.log"
    log.write_text(
        ' Estimating\n0/ ??? sec ~~(,_,">  [oo]\rWARNING: There are only 4 particles in group 1\n'
        "WARNING: You may want to consider joining some micrographs into larger groups\n"
        "WARNING: the background of these images is off\n ERROR: \nfine\n"
    )
    assert warnings_in(log) == ("WARNING: the background of these images is off", "ERROR:")


def test_agreement_is_found_on_one_grid(small_stack: SimulatedStack, tmp_path: Path) -> None:
    volume, pixel_size = read_mrc(small_stack.true_map)
    full = agreement(small_stack.true_map, small_stack.true_map, 3 * pixel_size)
    assert full.agrees_to_angstrom == pytest.approx(2 * pixel_size, rel=1e-3)
    assert full.beyond_stated
    spectrum = np.fft.fftn(volume)
    grid = np.fft.fftfreq(volume.shape[0])
    radius = np.sqrt(grid[:, None, None] ** 2 + grid[:, None] ** 2 + grid**2)
    noise = np.fft.fftn(np.random.default_rng(0).normal(size=volume.shape)) * np.abs(spectrum).max()
    mixed = np.fft.ifftn(np.where(radius < 0.2, spectrum, noise)).real.astype(np.float32)
    write_mrc(tmp_path / "mixed.mrc", mixed, pixel_size, is_volume=True)
    found = agreement(tmp_path / "mixed.mrc", small_stack.true_map, 3 * pixel_size)
    assert found.agrees_to_angstrom == pytest.approx(5 * pixel_size, rel=0.1)
    assert not found.beyond_stated
    assert Agreement(6.0, 6.0).beyond_stated


def test_commands_name_the_files_and_the_settings(
    small_stack: SimulatedStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    def run(command: list[str], *, folder: Path, log: Path, threads: int, timeout_seconds: float) -> Usage:
        assert folder == small_stack.folder
        log.write_text("")
        started.append([str(word) for word in command])
        return Usage(0, 1.0, 1.0, 1.0)

    monkeypatch.setattr(peer_relion, "run_measured", run)
    settings = RelionSettings(threads=2, seed=5)
    classes = peer_relion.classify(small_stack, tmp_path / "classes", settings, 20)
    model = initial_model(small_stack, tmp_path / "model", settings)
    for command in started:
        options = dict(pairwise(command))
        assert (options["--i"], options["--j"], options["--random_seed"]) == (str(small_stack.star), "2", "5")
        diameter = 0.75 * small_stack.box * small_stack.pixel_size_angstrom
        assert float(options["--particle_diameter"]) == pytest.approx(diameter, abs=0.01)
        assert "--ctf" in command
    assert started[0][started[0].index("--K") + 1] == "20"
    assert classes.table.name == "run_it010_data.star"
    assert model.volume.name == "run_it250_class001.mrc"
    # A command that ends well without its results has failed.
    assert "run_it010_data.star" in classes.usage.message
