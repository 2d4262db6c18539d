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


@pytest.mark.parametrize(
    ("module", "column"),
    [
        ("io/relion.py", re.compile(r"rln[A-Z]\w+")),
        ("io/cryosparc.py", re.compile(r"(?:blob|ctf|alignments[23]D|location)/\w+|uid")),
    ],
)
def test_every_input_column_used_is_described(module: str, column: re.Pattern[str]) -> None:
    used = {text for text in strings_in(module) if column.fullmatch(text)}
    assert len(used) > 10
    assert {name for name in used if f"`{name}`" not in INPUT_PAGE} == set()


def test_no_column_is_described_that_is_not_read() -> None:
    described = set(re.findall(r"`(rln\w+|(?:blob|ctf|alignments[23]D|location)/\w+)`", INPUT_PAGE))
    read = strings_in("io/relion.py") | strings_in("io/cryosparc.py") | strings_in("io/stack.py")
    assert described - read == set()


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
