"""The walls of the house: imports run downwards, files and functions stay short, names say what they hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "clarice"

# From the ground up; floors on one storey do not import each other. docs/architecture.md draws the picture.
STOREYS = (
    ("core",),
    ("io", "geometry"),
    ("physics", "metrics"),
    ("denoise", "classify", "abinitio"),
    ("training",),
    ("pipeline",),
    ("report",),
    ("benchmark",),
    ("cli",),
)
HEIGHT = {floor: height for height, storey in enumerate(STOREYS) for floor in storey}

MODULES = sorted(PACKAGE.rglob("*.py"))
TEXTS = sorted(path for ending in ("py", "js", "css", "j2") for path in PACKAGE.rglob(f"*.{ending}"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LONGEST_FILE_LINES = 300
LONGEST_FUNCTION_LINES = 60
VAGUE_NAMES = {"utils", "util", "misc", "common", "helpers", "helper", "tools", "stuff"}


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported_modules(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import of ours, inside functions and type-checking blocks too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (above, node.module) if part)
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def wrong_imports(source: str, floor: str) -> list[str]:
    """Imports in a file of `floor` that reach a floor it does not stand on."""
    wrong = []
    for line, name in imported_modules(ast.parse(source), ("clarice", floor)):
        parts = name.split(".")
        if parts[0] != "clarice" or len(parts) < 2 or parts[1] not in HEIGHT:
            continue
        if parts[1] != floor and HEIGHT[parts[1]] >= HEIGHT[floor]:
            wrong.append(f"line {line} imports {name}")
    return wrong


def test_every_folder_is_a_known_floor() -> None:
    floors = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert floors <= set(HEIGHT)


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent != PACKAGE], ids=short)
def test_imports_run_downwards(path: Path) -> None:
    assert wrong_imports(path.read_text(encoding="utf-8"), path.relative_to(PACKAGE).parts[0]) == []


@pytest.mark.parametrize(
    ("source", "floor", "allowed"),
    [
        ("from clarice.core.errors import InputError", "io", True),
        ("from clarice import __version__", "core", True),
        ("from clarice.io.mrc import read_mrc", "core", False),
        ("import clarice.io.mrc", "geometry", False),
        ("from clarice import physics", "geometry", False),
        ("def f():\n    from clarice.classify.align import align", "denoise", False),
        ("from ..pipeline import engine", "denoise", False),
        ("from .wiener import filter", "denoise", True),
    ],
)
def test_the_reader_of_imports_sees_them_all(source: str, floor: str, allowed: bool) -> None:
    assert (wrong_imports(source, floor) == []) is allowed


@pytest.mark.parametrize("path", TEXTS + TESTS, ids=short)
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE_LINES


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_functions_are_short(path: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    long = {f.name: (f.end_lineno or 0) - f.lineno + 1 for f in functions}
    assert {name: lines for name, lines in long.items() if lines > LONGEST_FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_names_say_what_they_hold(path: Path) -> None:
    assert not VAGUE_NAMES & set(path.relative_to(PACKAGE).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_modules_say_what_they_are_and_leave_nothing_undone(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source))
    assert not [word for word in ("NotImplementedError", "TODO", "FIXME", "XXX") if word in source]
