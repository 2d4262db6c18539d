"""Named tensors and plain facts on disk: safetensors files of bounded size and a JSON index that commits them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from clarice.core.errors import InputError
from clarice.io.atomic import writing

FORMAT = 1
MEBIBYTE = 2**20
# What a tensor's entry in a file's header takes at most, beside its name.
_HEADER_BYTES = 160


def write_tensors(
    index: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], tag: str, shard_mb: float
) -> None:
    """Writes files of at most `shard_mb` MiB beside `index`, then `index` itself, then removes those it replaces.

    `tag` tells in the files' names what they hold. A kill at any moment leaves the old state or the new one.
    """
    if any(name.startswith(f"{index.stem}-{tag}-") for name in _named_files(index)):
        tag += "b"
    shards = list(_shards(tensors, int(shard_mb * MEBIBYTE)))
    files = []
    for number, shard in enumerate(shards, start=1):
        path = index.with_name(f"{index.stem}-{tag}-{number}-of-{len(shards)}.safetensors")
        with writing(path) as temporary:
            temporary.write_bytes(save(shard))
        files.append({"name": path.name, "bytes": path.stat().st_size, "sha256": _digest(path)})
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    content = {"format": FORMAT, "files": files, "tensors": shapes, "facts": facts}
    with writing(index) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for path in index.parent.glob(f"{index.stem}-*.safetensors"):
        if path.name not in {file["name"] for file in files}:
            path.unlink(missing_ok=True)


def read_tensors(index: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote, bit for bit, on the CPU. Raises InputError when a file is missing or altered."""
    content = _content(index)
    pieces: dict[str, Tensor] = {}
    for file in content["files"]:
        path = index.with_name(file["name"])
        try:
            whole = path.stat().st_size == file["bytes"] and _digest(path) == file["sha256"]
            if not whole:
                raise InputError(f"{path} is not the file that {index.name} names: bring both from the same checkpoint")
            pieces.update(load_file(path))
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} cannot be read: bring every file that {index.name} names") from error
    tensors = {name: _joined(name, shape, pieces) for name, shape in content["tensors"].items()}
    return tensors, content["facts"]


def read_facts(index: Path) -> dict[str, Any]:
    """The facts alone."""
    facts: dict[str, Any] = _content(index)["facts"]
    return facts


def _shards(tensors: Mapping[str, Tensor], limit: int) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    used = 8
    for name, piece in _pieces(tensors, limit):
        size = piece.nbytes + len(name.encode()) + _HEADER_BYTES
        if shard and used + size > limit:
            yield shard
            shard, used = {}, 8
        # Files hold no two views of the same memory.
        shard[name] = piece.detach().to("cpu").clone().contiguous()
        used += size
    if shard:
        yield shard


def _pieces(tensors: Mapping[str, Tensor], limit: int) -> Iterator[tuple[str, Tensor]]:
    """Tensors whole, or cut into flat pieces where they exceed `limit` bytes."""
    for name, tensor in tensors.items():
        room = limit - 8 - len(name.encode()) - 16 - _HEADER_BYTES
        if tensor.nbytes <= room:
            yield name, tensor
        else:
            flat = tensor.detach().reshape(-1)
            for number, piece in enumerate(torch.split(flat, max(1, room // tensor.element_size()))):
                yield f"{name}|{number}", piece


def _joined(name: str, shape: list[int], pieces: Mapping[str, Tensor]) -> Tensor:
    if name in pieces:
        return pieces[name]
    parts: list[Tensor] = []
    left = math.prod(shape)
    while left > 0:
        parts.append(pieces[f"{name}|{len(parts)}"])
        left -= parts[-1].numel()
    return torch.cat(parts).view(shape)


def _content(index: Path) -> dict[str, Any]:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        if content["format"] == FORMAT:
            return dict(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{index} is not the index of a checkpoint: choose another one") from error
    raise InputError(f"{index} was written by a newer version of clarice: read it with that one")


def _named_files(index: Path) -> set[str]:
    with suppress(InputError, KeyError, TypeError):
        return {file["name"] for file in _content(index)["files"]}
    return set()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
