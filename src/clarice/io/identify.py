"""What a file is, in words, so that the wrong file is refused with its right name."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from clarice.core.errors import InputError

_HEAD_BYTES = 65536
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x94CSDAT", "a compressed cryoSPARC dataset"),
    (0, b"PK\x03\x04", "a zip archive (NumPy writes .npz so)"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"II*\x00", "a TIFF picture"),
    (0, b"MM\x00*", "a TIFF picture"),
    (0, b"\x89HDF", "an HDF5 file (EMAN2 and IMOD write particles so: convert them to MRCS)"),
    (0, b"MATLAB", "a MATLAB file"),
    (0, b"\x80\x04\x95", "a Python pickle"),
    (0, b"\x80\x03", "a Python pickle"),
    (12, b"\x62\x31\x05\x00", "a Berkeley database (an EMAN2 .bdb: convert it with e2proc2d.py to MRCS)"),
    (12, b"\x00\x05\x31\x62", "a Berkeley database (an EMAN2 .bdb: convert it with e2proc2d.py to MRCS)"),
)
# The first block or column that tells what a STAR file without image names is for.
_STAR_BLOCKS = (
    ("optimiser_general", "a RELION optimiser file"),
    ("sampling_general", "a RELION sampling file"),
    ("model_general", "a RELION model file"),
    ("coordinate_files", "a list of coordinate files"),
    ("job", "a RELION job description"),
    ("fsc", "an FSC curve"),
)
_OTHER_COLUMNS = (
    ("rlnMtfValue", "a detector's modulation transfer function (MTF)"),
    ("rlnMicrographCoordinates", "a list of coordinate files"),
    ("rlnMicrographMovieName", "a table of movies"),
    ("rlnCoordinateX", "a table of picked coordinates"),
    ("rlnCtfImage", "a table of micrographs with their CTF"),
    ("rlnTomoName", "a table of tomograms"),
)
# Columns of particles, and of no picked coordinates: a table that has one and no image names has lost the column.
_PARTICLE_COLUMNS = ("rlnAngleRot", "rlnOriginX", "rlnOriginXAngst", "rlnRandomSubset", "rlnGroupNumber")


def describe_star(blocks: Mapping[str, pd.DataFrame]) -> str:
    """Why a STAR file without image names is no particle stack: what else it is, or that the column is missing."""
    for name, meaning in _STAR_BLOCKS:
        if name in blocks:
            return f"it is {meaning}"
    for name, block in blocks.items():
        if name == "particles" or any(column in block for column in _PARTICLE_COLUMNS):
            return (
                f"its block data_{name} has no column _rlnImageName, which says where each particle's image is; "
                "add the column, or give the table that has it"
            )
    for column, meaning in _OTHER_COLUMNS:
        if any(column in block for block in blocks.values()):
            return f"it is {meaning}"
    listed = ", ".join(f"data_{name}" for name in list(blocks)[:4])
    if any("rlnMicrographName" in block for block in blocks.values()):
        return "it has no column _rlnImageName, and looks like a table of micrographs"
    return f"it has no column _rlnImageName in its blocks ({listed})"


def describe_file(path: Path) -> str:
    """What a file that is no STAR, `.cs` or MRC file seems to be, by its first bytes."""
    head = read_head(path)
    if not head:
        return "an empty file"
    for offset, magic, meaning in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return meaning
    if _is_spider(head):
        return "a SPIDER image file: convert it to MRCS"
    if _is_imagic(path, head):
        return "one half of an Imagic stack (.hed and .img): convert it to MRCS"
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        return "a binary file of unknown kind"
    return "a binary file of unknown kind" if "\0" in text else _describe_text(text)


def read_head(path: Path) -> bytes:
    """The first 64 KiB of a file, decompressed if it is gzipped; raises InputError when it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if head[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                return file.read(_HEAD_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return head


def _describe_text(text: str) -> str:
    start = text.lstrip()
    if start.startswith("<"):
        return "an FSC curve in XML" if "<fsc" in text.lower() else "an XML or HTML file"
    if re.match(r"data_\S+\s", start) and "_atom_site" in text:
        return "an atomic model (mmCIF)"
    if re.search(r"^(ATOM  |HETATM|HEADER|CRYST1)", text, re.MULTILINE):
        return "an atomic model (PDB)"
    lines = [line.split() for line in text.splitlines()[:20] if line.strip()]
    if lines and all(len(words) in (4, 5) and _all_numbers(words) for words in lines):
        return "a BOX file of picked coordinates (or another table of numbers)"
    if lines and all(len(words) in (2, 3) and _all_numbers(words) for words in lines):
        return "a table of coordinates"
    return "a text file of unknown kind"


def _all_numbers(words: list[str]) -> bool:
    return all(re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", word) for word in words)


def _is_spider(head: bytes) -> bool:
    """SPIDER headers are float words: 1 slices, 2 rows, 5 kind, 12 columns, 13 header records, 22 header
    bytes.
    """
    if len(head) < 92:
        return False
    for order in ("<", ">"):
        words = np.frombuffer(head[:92], dtype=f"{order}f4")
        if not np.isfinite(words[[0, 1, 4, 11, 12, 21, 22]]).all():
            continue
        rows, kind, columns, records, record_bytes = (float(words[index]) for index in (1, 4, 11, 12, 22))
        if kind in (1.0, 3.0) and rows >= 1 and columns >= 1 and records >= 1 and record_bytes == 4 * columns:
            return True
    return False


def _is_imagic(path: Path, head: bytes) -> bool:
    """Imagic: header records of 1,024 bytes in `.hed` (the first word is 1), pixels alone in `.img`."""
    partner = {".hed": ".img", ".img": ".hed"}.get(path.suffix)
    if partner is None or not path.with_suffix(partner).is_file():
        return False
    header = head if path.suffix == ".hed" else read_head(path.with_suffix(partner))
    return len(header) >= 1024 and header[:4] in (struct.pack("<i", 1), struct.pack(">i", 1))
