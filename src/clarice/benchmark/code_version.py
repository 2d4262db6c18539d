"""Which code made a figure: the package's source by its content, and its commit where it lies in a git checkout."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import clarice

PACKAGE = Path(clarice.__file__).resolve().parent
_SHORT = 8
_GIT_SECONDS = 30


@dataclass(frozen=True)
class CodeVersion:
    """A state of the code. `source_sha256` covers the package's files, so it tells any two states apart.

    `commit` is the checkout's; `modified` says whether the package's files differ from it. Both are None for a
    package that git does not track.
    """

    version: str
    source_sha256: str | None
    commit: str | None = None
    modified: bool | None = None

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Self:
        """What a row of a record says; rows of older records may know the version only."""
        version = str(row.get("version", "unknown"))
        return cls(version, row.get("source_sha256"), row.get("commit"), row.get("modified"))

    @property
    def name(self) -> str:
        """In a few words."""
        if self.source_sha256 is None:
            return f"{self.version}, source not recorded"
        if self.commit is None:
            return f"{self.version}, source {self.source_sha256[:_SHORT]}"
        changed = f" with uncommitted changes, source {self.source_sha256[:_SHORT]}" if self.modified else ""
        return f"{self.version}, commit {self.commit[:12]}{changed}"


def code_version(package: Path = PACKAGE) -> CodeVersion:
    """The version of the code that lies in the folder `package` now."""
    commit = modified = None
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None:
        commit = _git(package, "rev-parse", "HEAD")
    if commit is not None:
        changes = _git(package, "status", "--porcelain", "--untracked-files=all", "--", ".")
        modified = None if changes is None else bool(changes)
    return CodeVersion(clarice.__version__, source_digest(package), commit, modified)


def source_digest(package: Path) -> str:
    """SHA-256 over names and contents of the files below `package`, compiled ones left out."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            try:
                content = path.read_bytes()
            except FileNotFoundError:  # replaced by an editor meanwhile: the next call sees its successor
                continue
            digest.update(f"{path.relative_to(package).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def _git(folder: Path, *words: str) -> str | None:
    """What git answers about `folder`; None where there is no git, no checkout or no answer."""
    # A caller's GIT_DIR and the like would point to another checkout.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), "--no-optional-locks", *words]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment, timeout=_GIT_SECONDS
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return answer.stdout.strip()
