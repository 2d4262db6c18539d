"""`clarice fetch`: files of the public archives; the only command that goes online."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from clarice.cli.console import told
from clarice.core.errors import OutputError, ResourceError, UsageError
from clarice.io.atomic import writing

Archive = Literal["pdb", "emdb", "empiar"]

# Seconds without a connection or without a byte after which the archive counts as unreachable.
_TIMEOUT_SECONDS = 20
_PDB = "https://files.rcsb.org/download/{id}.cif.gz"
_EMDB = "https://files.wwpdb.org/pub/emdb/structures/EMD-{id}/map/emd_{id}.map.gz"
_EMPIAR = "https://ftp.ebi.ac.uk/empiar/world_availability/{id}/{path}"
_PATTERNS = {
    "pdb": (r"(?:pdb_0000)?([0-9][A-Za-z0-9]{3})", "four characters such as 4V1W"),
    "emdb": (r"(?:EMD-)?(\d{4,5})", "a number such as 8511 or EMD-8511"),
    "empiar": (r"(?:EMPIAR-)?(\d{5})", "a number such as 10146 or EMPIAR-10146"),
}


def addresses(archive: Archive, identifier: str, files: list[str]) -> list[tuple[str, str]]:
    """(address, file name) of what to fetch; `files` are paths inside an EMPIAR entry.

    Raises UsageError for an identifier or path the archive cannot have.
    """
    pattern, example = _PATTERNS[archive]
    match = re.fullmatch(pattern, identifier.strip(), flags=re.IGNORECASE)
    if match is None:
        raise UsageError(f"{identifier!r} is not an identifier of {archive}: give {example}")
    if archive != "empiar" and files:
        raise UsageError(f"--file names files inside an EMPIAR entry: drop it for {archive}")
    if archive == "pdb":
        name = match[1].lower()
        return [(_PDB.format(id=name), f"{name}.cif.gz")]
    if archive == "emdb":
        return [(_EMDB.format(id=match[1]), f"emd_{match[1]}.map.gz")]
    for path in files:
        if path.startswith("/") or ".." in path.split("/") or not path.strip():
            raise UsageError(f"--file {path!r} is no path inside an EMPIAR entry: give one such as data/a.star")
    paths = files or [f"{match[1]}.xml"]
    return [(_EMPIAR.format(id=match[1], path=path), path) for path in paths]


def fetch_file(address: str, target: Path) -> None:
    """Downloads one file to `target`, whole or not at all.

    Raises ResourceError when the archive does not answer in time or does not hold the file.
    """
    import pooch  # here, because it is slow to load and no other command needs it

    downloader = pooch.HTTPDownloader(progressbar=False, timeout=_TIMEOUT_SECONDS)
    with writing(target) as temporary:
        try:
            downloader(address, str(temporary), None)
        except OSError as error:
            if not hasattr(error, "response"):  # the disk's trouble, not the network's
                raise
            if error.response is None:
                message = f"{address} cannot be reached: check the network, or download it elsewhere"
            else:
                status = error.response.status_code
                message = f"the archive answered {status} for {address}: check that the entry holds this file"
            raise ResourceError(message) from error


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("fetch")(fetch)


def fetch(
    archive: Annotated[Archive, typer.Argument(help="pdb, emdb or empiar.")],
    identifier: Annotated[str, typer.Argument(metavar="ID", help="Entry, such as 4V1W, 8511 or 10146.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to put the files in.")],
    file: Annotated[
        list[str] | None,
        typer.Option(help="A file inside an EMPIAR entry (repeatable); without it, the entry's description."),
    ] = None,
) -> None:
    """Downloads a structure (mmCIF), a map or files of a particle set from a public archive."""
    wanted = addresses(archive, identifier, file or [])
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file: give -o a folder")
    for address, name in wanted:
        target = output / name
        if target.exists():
            told(f"{target} is already there")
            continue
        told(f"fetching {address}")
        fetch_file(address, target)
        told(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
