"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, from $CLARICE_DATA or beside the repository; skips where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CLARICE_DATA", beside))
    if not (folder / "README.md").is_file():
        pytest.skip(f"no real data at {folder} (set CLARICE_DATA)")
    return folder
