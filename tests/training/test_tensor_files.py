"""Checkpoint files: exact, of bounded size, and replaced in one step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clarice.core.errors import InputError
from clarice.training import tensor_files
from clarice.training.tensor_files import MEBIBYTE, read_facts, read_tensors, write_tensors


def some_tensors(scale: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        "large": torch.randn((scale * 30, 1000), generator=generator),
        "half": torch.randn((70, 11), generator=generator).to(torch.bfloat16),
        "transposed": torch.randn((7, 9), generator=generator).T,
        "count": torch.tensor(17),
        "empty": torch.zeros((0, 3)),
        "double": torch.randn(4, generator=generator, dtype=torch.float64),
        "flags": torch.tensor([True, False]),
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("shard_mb", [16.0, 0.05, 0.01])
def test_what_is_read_is_what_was_written_and_no_file_is_larger_than_asked(tmp_path: Path, shard_mb: float) -> None:
    index = tmp_path / "deep" / "last.json"
    facts = {"position": 3, "means": [0.1, 1 / 3], "nested": {"a": None}}
    write_tensors(index, some_tensors(), facts, "a", shard_mb)
    tensors, found = read_tensors(index)
    assert_same(tensors, some_tensors())
    assert found == facts == read_facts(index)
    sizes = [path.stat().st_size for path in index.parent.glob("*.safetensors")]
    assert len(sizes) == 1 if shard_mb == 16 else len(sizes) > 2
    assert max(sizes) <= shard_mb * MEBIBYTE


@given(
    sizes=st.lists(st.integers(0, 4000), min_size=1, max_size=12),
    shard_bytes=st.integers(1200, 9000),
)
def test_pieces_fit_and_join(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], shard_bytes: int) -> None:
    index = tmp_path_factory.mktemp("pieces") / "last.json"
    tensors = {f"tensor.{n}": torch.arange(size, dtype=torch.float32) + n for n, size in enumerate(sizes)}
    write_tensors(index, tensors, {}, "a", shard_bytes / MEBIBYTE)
    assert_same(read_tensors(index)[0], tensors)
    assert max(path.stat().st_size for path in index.parent.glob("*.safetensors")) <= shard_bytes


def test_the_new_version_replaces_the_old_one(tmp_path: Path) -> None:
    index = tmp_path / "last.json"
    write_tensors(index, some_tensors(2), {"n": 1}, "1", 0.05)
    write_tensors(index, some_tensors(), {"n": 2}, "2", 16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last-2-1-of-1.safetensors", "last.json"]
    assert read_facts(index) == {"n": 2}


def test_the_same_version_again_is_kept(tmp_path: Path) -> None:
    index = tmp_path / "last.json"
    for _ in range(2):
        write_tensors(index, some_tensors(), {}, "1", 16)
    assert_same(read_tensors(index)[0], some_tensors())


@pytest.mark.parametrize("tag", ["1", "2"])
def test_a_kill_before_the_index_leaves_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    index = tmp_path / "last.json"
    write_tensors(index, some_tensors(), {"n": 1}, "1", 0.05)
    with monkeypatch.context() as patched:
        patched.setattr(tensor_files.json, "dumps", lambda *_args, **_options: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_tensors(index, some_tensors(3), {"n": 2}, tag, 0.05)
    tensors, facts = read_tensors(index)
    assert_same(tensors, some_tensors())
    assert facts == {"n": 1}
    write_tensors(index, some_tensors(), {"n": 3}, tag, 16)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_tensors_that_share_memory_are_written_apart(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    tensors = {"all": base, "row": base[2:4]}
    write_tensors(tmp_path / "last.json", tensors, {}, "1", 16)
    assert_same(read_tensors(tmp_path / "last.json")[0], tensors)


def damaged(index: Path, how: str) -> None:
    file = next(index.parent.glob("*.safetensors"))
    content = file.read_bytes()
    if how == "missing":
        file.unlink()
    elif how == "cut":
        file.write_bytes(content[:-5])
    elif how == "altered":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "index":
        index.write_text("{", encoding="utf-8")
    else:
        index.write_text(json.dumps({**json.loads(index.read_text()), "format": 99}), encoding="utf-8")


@pytest.mark.parametrize("how", ["missing", "cut", "altered", "index", "newer"])
def test_damage_is_one_sentence(tmp_path: Path, how: str) -> None:
    index = tmp_path / "last.json"
    write_tensors(index, some_tensors(), {}, "1", 0.05)
    damaged(index, how)
    with pytest.raises(InputError) as caught:
        read_tensors(index)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
