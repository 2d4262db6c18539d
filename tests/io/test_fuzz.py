"""Whatever bytes a file holds: it opens, or one clear sentence says why not. Never another error, never a
flood.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from clarice.core.errors import ClariceError
from clarice.io.mrc import read_mrc
from clarice.io.mrc_header import make_header
from clarice.io.stack import open_particles
from clarice.io.star import read_star

_LIMIT_BYTES = 64 << 20


def attempt(name: str, content: bytes) -> None:
    """Opens and reads `content` under `name`; only ClariceError may come out, and memory stays small."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        tracemalloc.start()
        message = "opened"
        try:
            particles = open_particles(path)
            particles.read(np.arange(min(len(particles), 4)))
        except ClariceError as error:
            message = str(error)
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert message.encode("utf-8")
        assert "\n" not in message
        assert peak < _LIMIT_BYTES


def mrc_bytes() -> bytes:
    return make_header((3, 8, 8), 2, 1.5, False, (0, 1, 0, 1), "x") + bytes(3 * 64 * 4)


def cs_bytes() -> bytes:
    rows = np.zeros(3, dtype=[("uid", "<u8"), ("blob/path", "S8"), ("blob/idx", "<u4"), ("blob/psize_A", "<f4")])
    rows["blob/path"] = b"p.cs"
    rows["blob/psize_A"] = 1
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()


STAR = (
    b"data_optics\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n1 1.5\n\ndata_particles\nloop_\n"
    b"_rlnImageName\n_rlnOpticsGroup\n_rlnDefocusU\n_rlnAngleRot\n"
    b"1@p.star 1 12000 5\n2@p.star 1 13000 'a b'\n"
)
STAR_WORDS = st.sampled_from(
    [
        *("data_", "data_particles", "loop_", "_rlnImageName", "_rlnOpticsGroup", "_rlnImagePixelSize"),
        *("_rlnDefocusU", "1@x.mrcs", "1", "nan", "1e999", "-1", "0x10", "1_0", "\udcff"),
        *("'", '"', "#", "_", "@", "\n", "\n", "\n", "\n"),
    ]
)


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """`content` with some bytes overwritten, cut off, or added."""

    def damage(edits: list[tuple[int, bytes]], stop: int) -> bytes:
        raw = bytearray(content)
        for place, piece in edits:
            raw[place : place + len(piece)] = piece
        return bytes(raw[:stop])

    edit = st.tuples(st.integers(0, len(content)), st.binary(min_size=1, max_size=8))
    return st.builds(damage, st.lists(edit, max_size=6), st.integers(0, len(content) + 8))


@given(
    st.binary(max_size=2000),
    st.sampled_from(["x.star", "x.star.gz", "x.cs", "x.mrcs", "x.mrc", "x.txt", "x"]),
)
def test_garbage(content: bytes, name: str) -> None:
    attempt(name, content)


@given(damaged(mrc_bytes()))
@example(b"\xff" * 1024)
def test_damaged_mrc(content: bytes) -> None:
    attempt("p.mrcs", content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.mrc"
        path.write_bytes(content)
        with contextlib.suppress(ClariceError):
            read_mrc(path)


@given(damaged(cs_bytes()))
@example(b"\x80".join([cs_bytes()[:200], cs_bytes()[201:264]]))
def test_damaged_cs(content: bytes) -> None:
    attempt("p.cs", content)


@given(damaged(STAR))
def test_damaged_star(content: bytes) -> None:
    attempt("p.star", content)


@given(st.lists(STAR_WORDS, max_size=60).map(lambda words: " ".join(words)))
@example("data_\n_rlnImageName '\n")
def test_star_like_text(text: str) -> None:
    attempt("p.star", text.encode("utf-8", "surrogateescape"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.star"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        with contextlib.suppress(ClariceError):
            read_star(path)
