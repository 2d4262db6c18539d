"""Weights with their card."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from clarice.core.errors import InputError
from clarice.io.weights import read_weights, write_weights

TENSORS = {"a.weight": torch.tensor([[1.0, 1 / 3], [2e-3, -5.0]]), "a.count": torch.tensor(7)}
CARD = {"images": 1000, "structures": ["Å", "b"], "snr": [0.005, 0.2]}


def test_float32_weights_come_back_exactly_with_their_card(tmp_path: Path) -> None:
    write_weights(tmp_path / "w.safetensors", TENSORS, CARD)
    found = read_weights(tmp_path / "w.safetensors")
    assert found.card == CARD
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in TENSORS.items())


def test_bfloat16_weights_are_half_as_large_and_come_back_as_float32(tmp_path: Path) -> None:
    large = {"w": torch.randn((300, 300), generator=torch.Generator().manual_seed(0))}
    write_weights(tmp_path / "full.safetensors", large, CARD)
    write_weights(tmp_path / "half.safetensors", large | {"n": torch.tensor(3)}, CARD, torch.bfloat16)
    sizes = [(tmp_path / name).stat().st_size for name in ("half.safetensors", "full.safetensors")]
    assert sizes[0] < 0.51 * sizes[1]
    found = read_weights(tmp_path / "half.safetensors").tensors
    assert found["w"].dtype == torch.float32
    assert torch.equal(found["w"], large["w"].bfloat16().float())
    assert found["n"].dtype == torch.int64


def test_a_file_of_another_kind_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(InputError, match="cannot be read"):
        read_weights(path)
    path.write_text("text")
    with pytest.raises(InputError, match="cannot be read"):
        read_weights(path)
    save_file(TENSORS, path)
    with pytest.raises(InputError, match="no card"):
        read_weights(path)
