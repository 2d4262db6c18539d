"""STAR files: every block as a table of the very text the file holds, read and written back.

Values stay strings, so that what nobody changed is written as it was read; `floats` and `integers` turn a
column into numbers when they are needed. One parser serves every dialect seen (RELION 1.x to 5, cryoSPARC
exports, SPHIRE, Topaz).
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clarice.core.errors import InputError
from clarice.io.atomic import writing
from clarice.io.bounded import read_at_most
from clarice.io.refusals import empty_file

StarBlocks = dict[str, pd.DataFrame]
_SINGLE_ROW = "single_row"
_MAX_BYTES = 4 << 30
_TOKEN = re.compile(r"""'(?:[^']|'(?=\S))*'(?=\s|$)|"(?:[^"]|"(?=\S))*"(?=\s|$)|\S+""")


def read_star(path: Path | str) -> StarBlocks:
    """The blocks of a STAR file (`.star` or `.star.gz`) by name, without the leading `data_`.

    Every block is a DataFrame of strings; a block of single values has one row and is written back as such.
    Raises InputError, naming the line, when the file is missing, is no STAR file, or is damaged.
    """
    path = Path(path)
    lines = _read_text(path).split("\n")
    starts = [number for number, line in enumerate(lines) if _begins_block(line)]
    if not starts:
        raise InputError(f"{path} is not a STAR file: no line begins with data_")
    _expect_nothing_before(path, lines[: starts[0]])
    blocks: StarBlocks = {}
    for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
        name = lines[start].split()[0][5:]
        if name in blocks:
            raise InputError(f"{path}, line {start + 1}: the block data_{name} appears twice")
        blocks[name] = _read_block(path, name, lines, start + 1, stop)
    return blocks


def _begins_block(line: str) -> bool:
    """Whether `line` is `data_name`, alone or before a comment: a file name in a row may begin with data_
    too.
    """
    if line.lstrip()[:5].lower() != "data_":
        return False
    words = line.split()
    return len(words) == 1 or words[1].startswith("#")


def _read_text(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = read_at_most(cast(BinaryIO, file), _MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not raw:
        raise empty_file(path)
    if len(raw) > _MAX_BYTES:
        raise InputError(f"{path} is larger than 4 GiB: split it into several STAR files")
    if b"\0" in raw:
        raise InputError(f"{path} is not a STAR file: it holds binary data")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")


def _expect_nothing_before(path: Path, lines: list[str]) -> None:
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            raise InputError(f"{path}, line {number}: text before the first data_ block, so this is no STAR file")


def _read_block(path: Path, name: str, lines: list[str], start: int, stop: int) -> pd.DataFrame:
    labels: list[str] = []
    values: list[str] = []
    number = start
    in_loop = False
    while number < stop:
        text = lines[number].strip()
        if text.lower() == "loop_":
            if labels:
                raise InputError(
                    f"{path}, line {number + 1}: block data_{name} holds a loop besides other values; "
                    "RELION's dialect of STAR has one table a block"
                )
            in_loop = True
        elif text.startswith("_"):
            tokens = _tokens(text)
            labels.append(tokens[0][1:])
            if not in_loop:
                values.append(_single_value(path, number, tokens))
        elif text and not text.startswith("#"):
            if not in_loop or not labels:
                raise InputError(f"{path}, line {number + 1}: a value without a column, {text[:40]!r}")
            break
        number += 1
    _check_labels(path, name, labels)
    if not in_loop:
        return _single_row_table(labels, values)
    return _read_rows(path, name, labels, lines, number, stop)


def _single_value(path: Path, number: int, tokens: list[str]) -> str:
    if len(tokens) > 2:
        raise InputError(f"{path}, line {number + 1}: _{tokens[0][1:]} has {len(tokens) - 1} values where one belongs")
    return tokens[1] if len(tokens) == 2 else ""


def _check_labels(path: Path, name: str, labels: list[str]) -> None:
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise InputError(f"{path}: the column _{twice} appears twice in block data_{name}")


def _single_row_table(labels: list[str], values: list[str]) -> pd.DataFrame:
    table = pd.DataFrame({label: np.array([value], dtype=object) for label, value in zip(labels, values, strict=True)})
    table.attrs[_SINGLE_ROW] = True
    return table


def _read_rows(path: Path, name: str, labels: list[str], lines: list[str], start: int, stop: int) -> pd.DataFrame:
    """The rows of a loop. Repeated values share one string, so that a long table fits in memory."""
    shared: dict[str, str] = {}
    rows: list[list[str]] = []
    width = len(labels)
    for number in range(start, stop):
        line = lines[number]
        row = _tokens(line) if '"' in line or "'" in line or "#" in line else line.split()
        if not row:
            continue
        if len(row) != width or row[0] == "loop_":
            if row[0].startswith("_") or row[0].lower() == "loop_":
                raise InputError(
                    f"{path}, line {number + 1}: block data_{name} holds a second table; "
                    "RELION's dialect of STAR has one table a block"
                )
            raise InputError(
                f"{path}, line {number + 1}: {len(row)} values where block data_{name} has {width} columns"
            )
        rows.append([shared.setdefault(token, token) for token in row] if len(shared) < 100_000 else row)
    columns = zip(*rows, strict=True) if rows else ([] for _ in labels)
    return pd.DataFrame({label: _objects(column) for label, column in zip(labels, columns, strict=True)})


def _tokens(line: str) -> list[str]:
    """Whitespace-separated values; quotes hold values with spaces; a `#` that begins a value begins a
    comment.
    """
    found = []
    for match in _TOKEN.finditer(line):
        token = match.group()
        if token.startswith("#"):
            break
        quoted = len(token) >= 2 and token[0] == token[-1] and token[0] in "'\""
        found.append(token[1:-1] if quoted else token)
    return found


def _objects(values: Iterable[str]) -> NDArray[np.object_]:
    listed = list(values)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def is_single_row(block: pd.DataFrame) -> bool:
    """Whether the block holds single values (`_label value`), not a loop."""
    return bool(block.attrs.get(_SINGLE_ROW, False))


def floats(block: pd.DataFrame, column: str, origin: str) -> NDArray[np.float64]:
    """A column as numbers, (n,); raises InputError naming `origin`, row and column at the first value that is
    none.
    """
    values = block[column].to_numpy()
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError):
        numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        row = int(bad[0])
        raise InputError(f"{origin}: row {row + 1} of column _{column} is {values[row]!r}, not a number")
    return numbers


def integers(block: pd.DataFrame, column: str, origin: str) -> NDArray[np.int32]:
    """A column as whole numbers, (n,); raises InputError naming `origin`, row and column."""
    numbers = floats(block, column, origin)
    bad = np.flatnonzero((numbers != np.round(numbers)) | (np.abs(numbers) >= 2**31))
    if len(bad):
        row = int(bad[0])
        raise InputError(f"{origin}: row {row + 1} of column _{column} is {numbers[row]:g}, not a whole number")
    return numbers.astype(np.int32)


def texts(block: pd.DataFrame, column: str) -> NDArray[np.str_]:
    """A column as text, (n,)."""
    return block[column].to_numpy().astype(str)


def write_star(path: Path | str, blocks: Mapping[str, pd.DataFrame]) -> None:
    """Writes blocks by name, in order, under RELION's version line; numbers get as many digits as they need.

    Raises OutputError when the file cannot be written; nothing is left half-written.
    """
    with writing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for name, block in blocks.items():
            file.write(f"\n# version 30001\n\ndata_{name}\n\n")
            columns = [format_column(block[label].to_numpy()) for label in block.columns]
            if is_single_row(block):
                width = max((len(label) for label in block.columns), default=0) + 2
                for label, column in zip(block.columns, columns, strict=True):
                    file.write(f"_{label:<{width}} {column[0]}\n")
            else:
                file.write("loop_\n")
                file.writelines(f"_{label} #{place}\n" for place, label in enumerate(block.columns, 1))
                file.writelines(" ".join(row) + "\n" for row in zip(*columns, strict=True))
            file.write("\n")


def format_column(values: NDArray[np.generic]) -> list[str]:
    """A column's values as STAR text: text is quoted where it must be, numbers as RELION prints them."""
    if values.dtype.kind == "b":
        return ["1" if value else "0" for value in values]
    if values.dtype.kind in "iu":
        return [str(value) for value in values.tolist()]
    if values.dtype.kind == "f":
        return [_format_number(value) for value in values.tolist()]
    return [value if value and _is_bare(value) else _quoted(value) for value in map(_as_text, values.tolist())]


def _as_text(value: object) -> str:
    if isinstance(value, float):
        return _format_number(value)
    return "1" if value is True else "0" if value is False else str(value)


def _format_number(value: float) -> str:
    return f"{value:.6f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.8e}"


def _is_bare(value: str) -> bool:
    return value[0] not in "\"'#_" and not any(map(str.isspace, value)) and value[:5].lower() not in ("data_", "loop_")


def _quoted(value: str) -> str:
    flat = " ".join(value.split("\n"))
    return f'"{flat}"' if '"' not in flat else f"'{flat}'"
