"""What every test may ask for."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

# The same damage on every run, so that a change fails for what it did; `make fuzz` looks for new damage.
_NEW_EXAMPLES = int(os.environ.get("CLARICE_FUZZ_EXAMPLES", "0"))
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("searching", max_examples=max(_NEW_EXAMPLES, 1), deadline=None)
settings.load_profile("searching" if _NEW_EXAMPLES else "steady")


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Whatever a test draws without a generator of its own, a new network's weights say, is the same on every run."""
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 -- it is the legacy state that must not differ
    torch.manual_seed(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, from $CLARICE_DATA or beside the repository; skips where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CLARICE_DATA", beside))
    if not (folder / "README.md").is_file():
        pytest.skip(f"no real data at {folder} (set CLARICE_DATA)")
    return folder
