"""The pages name what the code reads."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from clarice import __version__
from clarice.core.conventions import CLAUSES

ROOT = Path(__file__).resolve().parents[2]
INPUT_PAGE = (ROOT / "docs" / "input-data.md").read_text(encoding="utf-8")


def strings_in(module: str) -> set[str]:
    tree = ast.parse((ROOT / "src" / "clarice" / module).read_text(encoding="utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


# Every module that reads what an input table says.
READERS = ("io/relion.py", "io/cryosparc.py", "io/stack.py", "pipeline/preflight/evidence.py")
COLUMN = re.compile(r"rln[A-Z]\w+|(?:blob|ctf|alignments[23]D|location)/\w+|uid")


def columns_read() -> set[str]:
    return {text for module in READERS for text in strings_in(module) if COLUMN.fullmatch(text)}


@pytest.mark.parametrize("module", READERS)
def test_every_reader_reads_columns(module: str) -> None:
    assert any(COLUMN.fullmatch(text) for text in strings_in(module))


def test_every_input_column_used_is_described() -> None:
    assert {name for name in columns_read() if f"`{name}`" not in INPUT_PAGE} == set()


def test_no_column_is_described_that_is_not_read() -> None:
    assert set(re.findall(rf"`({COLUMN.pattern})`", INPUT_PAGE)) - columns_read() == set()


def test_conventions_page_has_a_paragraph_for_each_clause() -> None:
    page = (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8")
    found = re.findall(r"^\*\*(.+?)\.\*\*", page, re.MULTILINE)
    headings = {heading.lower().replace("-", " ") for heading in found}
    aliases = {"relative_mse": "relative error"}
    wanted = {aliases.get(clause, clause.replace("_", " ")) for clause in CLAUSES}
    assert wanted <= headings


def test_architecture_page_names_every_floor() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    floors = {path.name for path in (ROOT / "src" / "clarice").iterdir() if (path / "__init__.py").exists()}
    assert {floor for floor in floors if not re.search(rf"^  {floor}/", page, re.MULTILINE)} == set()


def test_changelog_begins_with_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changelog, re.MULTILINE)[0] == __version__
