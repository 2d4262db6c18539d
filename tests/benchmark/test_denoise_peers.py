"""Peers as denoisers: what is missing says so, and RELION's classes lie on the particles they are shown for."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.benchmark.denoise_sets import made

from clarice.benchmark import peer_relion
from clarice.benchmark.denoise_peers import peer_methods
from clarice.benchmark.peer_aspire import PYTHON_VARIABLE, aspire_python
from clarice.core.errors import ResourceError
from clarice.metrics.image import relative_mse


@pytest.mark.parametrize("name", ["aspire-covariance", "aspire-classes", "relion-classes", "topaz", "bm3d"])
def test_a_missing_peer_says_so(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_relion, "PROGRAMS", ("relion_of_nobody",))
    monkeypatch.setenv(PYTHON_VARIABLE, "nowhere/python")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ResourceError, match="not installed"):
        peer_methods(tmp_path, 1, 60.0)[name].measure([made(tmp_path / "set")], "general")


def test_bm3d_is_told_the_noise_and_its_images_are_scaled_to_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []

    def bm3d(image: np.ndarray, sigma_psd: float) -> np.ndarray:
        told.append(sigma_psd)
        return 3 * image

    monkeypatch.setitem(sys.modules, "bm3d", SimpleNamespace(bm3d=bm3d))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    images = made(tmp_path / "set")
    (answer,) = peer_methods(tmp_path, 1, 60.0)["bm3d"].measure([images], "general")
    assert told == [1.0] * len(images)
    assert relative_mse(answer.images, images.clean) < relative_mse(3 * images.noisy, images.clean)


@pytest.mark.slow
@pytest.mark.skipif(peer_relion.missing() is not None, reason="RELION is not installed")
@pytest.mark.parametrize("ctf", ["off", "on"])
def test_relion_classes_lie_on_their_particles(tmp_path: Path, ctf: str) -> None:
    images = made(tmp_path / "set", snr=5.0, size=32, setting="directional", ctf=ctf)
    (answer,) = peer_methods(tmp_path, 1, 300.0)["relion-classes"].measure([images], "directional")
    assert relative_mse(answer.images, images.clean) < 0.15


@pytest.mark.slow
@pytest.mark.skipif(aspire_python() is None, reason="ASPIRE is not installed")
@pytest.mark.parametrize("name", ["aspire-covariance", "aspire-classes"])
def test_aspire_denoises_in_our_frame_and_sign(tmp_path: Path, name: str) -> None:
    images = made(tmp_path / "set", snr=5.0, size=64, setting="directional")
    (answer,) = peer_methods(tmp_path, 1, 300.0)[name].measure([images], "directional")
    assert relative_mse(answer.images, images.clean) < 0.15
