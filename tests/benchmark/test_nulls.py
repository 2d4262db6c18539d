"""The protocol of stacks that show nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom
from tests.abinitio.test_projection_matching import brief
from typer.testing import CliRunner

from clarice.benchmark import nulls
from clarice.benchmark.nulls import NOISE, PARTICLES, PHASES, NullRequest, images_of, proportion_interval
from clarice.benchmark.structures import seeds_of
from clarice.cli.app import app
from clarice.core.errors import UsageError
from clarice.pipeline.first_map_settings import Method

__all__ = ["brief"]  # a fixture
BOX = 24


def request(out: Path, **more: object) -> NullRequest:
    given = {
        "kinds": [NOISE, PARTICLES],
        "methods": [Method.PROJECTION_MATCHING],
        "seeds": [1],
        "particles": 400,
        "box": BOX,
        "snr": 0.2,
        **more,
    }
    return NullRequest(out=out, **given)  # type: ignore[arg-type]


def test_noise_and_random_phases_share_nothing_with_the_particles_but_their_number_and_optics(tmp_path: Path) -> None:
    stacks = {kind: images_of(kind, 2, request(tmp_path)) for kind in (PARTICLES, NOISE, PHASES)}
    images = {kind: stack.images(np.arange(400)) for kind, stack in stacks.items()}
    power = {kind: torch.fft.rfft2(each).abs().square() for kind, each in images.items()}
    assert torch.allclose(power[PHASES], power[PARTICLES], rtol=1e-3, atol=1e-2)
    assert float(images[NOISE].var()) == pytest.approx(1, abs=0.02)
    for kind in (NOISE, PHASES):
        likeness = (images[kind] * images[PARTICLES]).mean() / images[kind].std() / images[PARTICLES].std()
        assert abs(float(likeness)) < 0.02
        assert stacks[kind].particles.optics is not None


@pytest.mark.usefixtures("brief")
def test_a_map_of_noise_is_doubted_and_one_of_particles_accepted(tmp_path: Path) -> None:
    rows = {}
    results = nulls.nulls(request(tmp_path), shown=lambda row: rows.setdefault(row["kind"], row))
    assert rows[NOISE]["verdict"] == "doubted"
    assert rows[PARTICLES]["verdict"] == "accepted"
    assert rows[PARTICLES]["log_likelihood"] > rows[NOISE]["log_likelihood"]
    assert results.summary["noise, projection-matching"].startswith("0 of 1 maps accepted (95 %: 0.0% to 97.5%)")
    kept: list[object] = []
    again = nulls.nulls(request(tmp_path, resume=True), shown=kept.append)
    assert not kept
    assert again.summary == results.summary


def test_the_interval_of_a_proportion_leaves_a_fortieth_on_either_side() -> None:
    assert proportion_interval(0, 100) == pytest.approx((0, 1 - 0.025 ** (1 / 100)))
    low, high = proportion_interval(7, 40)
    assert binom.sf(6, 40, low) == pytest.approx(0.025)
    assert binom.cdf(7, 40, high) == pytest.approx(0.025)
    assert proportion_interval(5, 5)[1] == 1


@pytest.mark.usefixtures("brief")
def test_the_command_writes_its_table_and_refuses_what_is_not_known(tmp_path: Path) -> None:
    given = ["benchmark", "null", "--methods", "projection-matching", "--kinds", "noise", "--seeds", "3"]
    sizes = ["--particles", "200", "--box", str(BOX), "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*given, *sizes])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "null.json").read_text())
    assert [row["verdict"] for row in record["rows"]] == ["doubted"]
    for option, value in (("--kinds", "snow"), ("--methods", "guess"), ("--snr", "0"), ("--box", "4")):
        refused = CliRunner().invoke(app, ["benchmark", "null", option, value, "--out", str(tmp_path)])
        assert refused.exit_code != 0


def test_seeds_may_be_ranges() -> None:
    assert seeds_of("1-3, 7") == [1, 2, 3, 7]
    for text in ("3-1", "1-", "-1", "1-99999", ""):
        with pytest.raises(UsageError):
            seeds_of(text)
