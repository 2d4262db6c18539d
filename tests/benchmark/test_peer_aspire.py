"""The comparison with ASPIRE's covariance Wiener filter: a missing or broken peer is a row that says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from clarice.benchmark.peer_aspire import (
    PYTHON_VARIABLE,
    DenoisingRow,
    aspire_python,
    compare_covariance_wiener,
)
from clarice.physics.molecules import make_molecule


def rows_by_method(particles: int = 60, box: int = 24) -> dict[str, DenoisingRow]:
    rows = compare_covariance_wiener(
        make_molecule(3, mass_kda=60), max_shift_px=1.0, particles=particles, box=box, threads=1
    )
    return {row.method: row for row in rows}


def test_a_missing_peer_is_a_row_that_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    rows = rows_by_method()
    assert rows["aspire"].nrmse is None
    assert "not installed" in rows["aspire"].note
    assert rows["covariance-wiener"].nrmse is not None


def test_a_peer_that_fails_is_a_row_that_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no module named aspire' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(broken))
    assert "no module named aspire" in rows_by_method()["aspire"].note


def test_ours_is_at_least_as_good_and_twice_as_fast() -> None:
    if aspire_python() is None:
        pytest.skip(f"ASPIRE is not installed (set {PYTHON_VARIABLE})")
    rows = rows_by_method(particles=300, box=32)
    ours, theirs = rows["covariance-wiener"], rows["aspire"]
    assert theirs.note.startswith("ASPIRE"), theirs.note
    assert ours.nrmse <= theirs.nrmse
    assert 2 * ours.seconds <= theirs.seconds
