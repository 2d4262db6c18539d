"""A finished run, made once, and copies of it that a test may damage."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.report.fake_run import make_run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder, to be read only."""
    return make_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copies the finished run, or `only` some files of it. Replace its files, never write into them."""

    def copy(*only: str) -> Path:
        target = tmp_path / "copy"
        shutil.copytree(finished_run, target, copy_function=os.link)
        if only:
            for path in target.iterdir():
                if path.name not in only:
                    path.unlink()
        (target / "report.html").unlink(missing_ok=True)
        return target

    return copy
