"""Checkpoints come back bit for bit, or not at all."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from clarice.core.errors import OutputError
from clarice.pipeline.checkpoint import Checkpoint


def test_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "work" / "state.pt", "inputs")
    assert checkpoint.load() is None
    generator = torch.Generator().manual_seed(1)
    volume = torch.randn(5, 5, 5, generator=generator)
    spectrum = torch.randn(4, dtype=torch.complex64, generator=generator)
    state = {"volume": volume, "spectrum": spectrum, "generator": generator.get_state(), "curve": [0.1, None]}
    checkpoint.save({"old": 1}, 1)
    checkpoint.save(state, 7)
    expected = torch.rand(3, generator=generator)
    loaded = checkpoint.load()
    assert loaded is not None
    found, step = loaded
    assert step == 7
    assert torch.equal(found["volume"], volume)
    assert torch.equal(found["spectrum"], spectrum)
    assert found["curve"] == [0.1, None]
    generator.set_state(found["generator"])
    assert torch.equal(torch.rand(3, generator=generator), expected)
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["state.pt"]


def test_state_of_other_inputs_is_not_used(tmp_path: Path) -> None:
    Checkpoint(tmp_path / "state.pt", "before").save({"x": 1}, 1)
    assert Checkpoint(tmp_path / "state.pt", "after").load() is None


@pytest.mark.parametrize("damage", ["cut", "foreign", "empty"])
def test_damaged_checkpoint_is_ignored_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    checkpoint = Checkpoint(tmp_path / "state.pt", "inputs")
    checkpoint.save({"x": torch.zeros(100)}, 1)
    whole = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes({"cut": whole[:200], "foreign": b"hello", "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load() is None
    assert "state.pt is unreadable" in caplog.text


def test_place_that_cannot_be_written_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        Checkpoint(tmp_path / "file" / "state.pt", "inputs").save({}, 1)
