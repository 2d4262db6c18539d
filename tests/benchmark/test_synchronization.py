"""The protocol of synchronization: its outlier model, and a whole small call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.abinitio.lines import right_ones
from typer.testing import CliRunner

from clarice.benchmark.synchronization import outlying_lines
from clarice.cli.app import app
from clarice.core.errors import UsageError


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_the_share_of_right_lines_is_the_one_asked_for(share: float) -> None:
    rotations, lines = outlying_lines(120, share, 3)
    right = right_ones(lines, rotations)[tuple(np.triu_indices(120, 1))]
    assert float(right.float().mean()) == pytest.approx(share, abs=0.02)


def test_wrong_lines_run_anywhere_in_both_images() -> None:
    _, lines = outlying_lines(200, 0.0, 1)
    first, second = np.triu_indices(200, 1)
    both = torch.stack([lines.angle_rad[first, second], lines.angle_rad[second, first]])
    counts = torch.histogramdd(both.T.double(), bins=[8, 8], range=[0, 2 * torch.pi, 0, 2 * torch.pi]).hist
    assert float(counts.min()) > 0.75 * float(counts.mean())
    assert float(counts.max()) < 1.25 * float(counts.mean())


def test_a_small_call_makes_a_table(tmp_path: Path) -> None:
    options = ["--images", "60", "--shares", "1,0.6", "--out", str(tmp_path)]
    told = CliRunner().invoke(app, ["benchmark", "synchronization", *options])
    assert told.exit_code == 0, told.output
    table = (tmp_path / "synchronization.md").read_text()
    assert "| 60 | 1 | 1 | consensus | 0.00 |" in table
    assert "60 images, consensus: 100% 0.00°" in table


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--methods", "magic", "least-deviations"),
        ("--images", "2", "3 images"),
        ("--shares", "0", "above 0"),
        ("--shares", "1.5", "at most"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, option: str, value: str, says: str) -> None:
    told = CliRunner().invoke(app, ["benchmark", "synchronization", option, value, "--out", str(tmp_path)])
    assert isinstance(told.exception, UsageError)
    assert says in str(told.exception)
