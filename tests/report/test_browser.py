"""The page in Chromium: no script error, nothing wider than the screen, every control works."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clarice.report.page import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the page was not looked at")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=20000",
)

# Put first into the page, so that no error goes unseen. Under virtual time no frame is due: timers stand in.
RECORDER = (
    "<script>window.faults=[];addEventListener('error',e=>faults.push(e.message));"
    "console.error=(...a)=>faults.push(a.join(' '));requestAnimationFrame=(f)=>setTimeout(f,0);</script>"
)

PROBE = (Path(__file__).parent / "probe.html").read_text(encoding="utf-8")


def chromium(profile: Path, *arguments: str) -> str:
    """Runs Chromium once and returns its standard output."""
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="module")
def page(finished_run: Path) -> Path:
    return write_report(finished_run)


@pytest.mark.parametrize("width", [390, 1280])
def test_controls_work_and_nothing_overflows(page: Path, tmp_path: Path, width: int) -> None:
    watched = page.read_text(encoding="utf-8").replace("<head>", "<head>" + RECORDER, 1)
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.replace("WIDTH", str(width)).replace("PAGE", html.escape(watched)), encoding="utf-8")
    dumped = chromium(tmp_path / "profile", f"--window-size={max(width, 600)},1000", "--dump-dom", probe.as_uri())
    match = re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)
    assert match is not None
    assert match[1], "the page's scripts did not come to their end"
    found = json.loads(html.unescape(match[1]))
    assert "broken" not in found, found
    assert found["faults"] == []
    assert found["width"] == width
    assert found["scroll"] <= width
    assert found["wide"] == []
    assert found["overlaps"] == []
    for control in ("turned", "reset", "mirrored", "closer", "tight", "reading", "theme", "dialog", "closed"):
        assert found[control], control
    assert found["label"] == "mirror image (other hand)"
    assert "corrected" in found["readout"]
    assert "Å" in found["readout"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_looks_like_something(page: Path, tmp_path: Path, width: int, scheme: str) -> None:
    picture = tmp_path / "page.png"
    preference = f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"
    size = f"--window-size={width},{4700 if width > 700 else 10500}"
    chromium(tmp_path / "profile", preference, size, f"--screenshot={picture}", page.as_uri())
    pixels = np.asarray(Image.open(picture).convert("L"), dtype=np.float64)
    assert pixels.shape[1] == width
    background = np.median(pixels)
    assert background > 200 if scheme == "light" else background < 60
    # Every screenful holds something other than background.
    for start in range(0, len(pixels) - 900, 900):
        assert pixels[start : start + 900].std() > 4, f"nothing to see from {start} px on"
