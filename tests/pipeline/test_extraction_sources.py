"""Which picks belong to which micrograph: each file to one, and what belongs to none is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clarice.core.errors import InputError
from clarice.io.mrc import write_mrc
from clarice.pipeline.extraction_sources import find_sources, settled_pixel_size

STAR = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n"


def folders(where: Path, micrographs: tuple[str, ...], picks: tuple[str, ...]) -> tuple[list[Path], Path, Path]:
    """Micrographs, their folder, and a folder of picks, the n-th file of which holds n."""
    for folder in ("mic", "picks"):
        (where / folder).mkdir()
    for name in micrographs:
        (where / "mic" / name).touch()
    for number, name in enumerate(picks, start=1):
        (where / "picks" / name).write_text("10 20 8 8\n" * number)
    return sorted((where / "mic").iterdir()), where / "mic", where / "picks"


def found_in(where: Path, micrographs: tuple[str, ...], picks: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """The file of picks of each micrograph, and what was told."""
    told: list[str] = []
    files, given, coordinates = folders(where, micrographs, picks)
    sources = find_sources(files, given, coordinates, None, told.append)
    return {source.path.name: source.picks.path.name for source in sources}, told


@pytest.mark.parametrize(
    "ending", ["", "_autopick", "_manualpick", "_pick", "_picks", "_topazpicks", "_topaz", "_automatch"]
)
def test_picks_are_named_like_their_micrograph_with_or_without_an_ending(tmp_path: Path, ending: str) -> None:
    found, told = found_in(tmp_path, ("a.mrc", "a_DW.mrc"), (f"a{ending}.box", f"a_DW{ending}.box"))
    assert found == {"a.mrc": f"a{ending}.box", "a_DW.mrc": f"a_DW{ending}.box"}
    assert told == []


def test_a_file_of_picks_belongs_to_one_micrograph(tmp_path: Path) -> None:
    """And to none where its own is missing, however alike another's name is."""
    found, told = found_in(tmp_path, ("a.mrc", "b_DW.mrc"), ("a.box", "a_DW.box", "b_1.box", "b_DW.box", "b_DW.log"))
    assert found == {"a.mrc": "a.box", "b_DW.mrc": "b_DW.box"}
    assert told == [f"warning: 5 picks of 2 micrographs left out, not found in {tmp_path}/mic: a_DW.box and others"]


def test_picks_named_after_another_micrograph_are_taken_with_a_warning(tmp_path: Path) -> None:
    files, _, picks = folders(tmp_path, ("a.mrc",), ("a_autopick.box", "b.box"))
    told: list[str] = []
    (source,) = find_sources(files, files[0], picks / "b.box", None, told.append)
    assert len(source.centres_px) == 2
    assert told == [f"warning: {picks}/b.box names no micrograph: its picks are taken for those of a.mrc"]
    find_sources(files, files[0], picks / "a_autopick.box", None, told.append)
    assert len(told) == 1


def test_picks_that_a_table_has_of_missing_micrographs_are_counted(tmp_path: Path) -> None:
    files, given, _ = folders(tmp_path, ("a.mrc", "b.mrc"), ())
    table = tmp_path / "picks.star"
    table.write_text(STAR + "m/a.mrc 1 2\nm/c.mrc 3 4\nm/b.mrc 5 6\nm/c.mrc 7 8\n")
    told: list[str] = []
    sources = find_sources(files, given, table, None, told.append)
    assert [source.centres_px.tolist() for source in sources] == [[[1.0, 2.0]], [[5.0, 6.0]]]
    assert told == [f"warning: 2 picks of 1 micrograph left out, not found in {given}: m/c.mrc"]
    find_sources(files[:1], files[0], table, None, told.append)
    assert told[1] == f"warning: 3 picks of 2 micrographs left out, not found as {files[0]}: m/b.mrc and others"


def test_what_cannot_be_told_apart_is_refused(tmp_path: Path) -> None:
    (tmp_path / "twice").mkdir()
    with pytest.raises(
        InputError, match=r"mic/a\.mrc and .*mic/a\.png would both be cut at the picks of a in .*a\.box"
    ):
        found_in(tmp_path / "twice", ("a.mrc", "a.png"), ("a.box",))
    (tmp_path / "several").mkdir()
    with pytest.raises(InputError, match=r"several files for a \(a_autopick\.box, a_topaz\.box\): keep one"):
        found_in(tmp_path / "several", ("a.mrc",), ("a_autopick.box", "a_topaz.box"))
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"has no pick in any of 1 micrograph of .*: name files of picks like"):
        found_in(tmp_path / "none", ("a.mrc",), ("b.box",))


def test_headers_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    files, given, picks = folders(tmp_path, ("a.mrc", "b.mrc"), ("a.box", "b.box"))
    for path, size in zip(files, (1.0, 1.02), strict=True):
        write_mrc(path, np.zeros((8, 8), dtype=np.float32), size)
    sources = find_sources(files, given, picks, None)
    with pytest.raises(InputError, match=r"a\.mrc states a pixel size of 1 Å, but .*b\.mrc one of 1\.02 Å"):
        settled_pixel_size(sources, None, None)
    assert settled_pixel_size(sources[1:], None, None) == pytest.approx(1.02)


def test_picks_may_contradict_their_micrograph(tmp_path: Path) -> None:
    files, given, _ = folders(tmp_path, ("a.mrc",), ())
    write_mrc(files[0], np.zeros((8, 8), dtype=np.float32), 1.0)
    table = tmp_path / "picks.star"
    table.write_text(f"data_optics\n\n_rlnMicrographPixelSize 2.0\n\n{STAR}a.mrc 1 2\n")
    sources = find_sources(files, given, table, None)
    with pytest.raises(InputError, match=r"picks\.star states a pixel size of 2 Å, but .*a\.mrc one of 1 Å"):
        settled_pixel_size(sources, None, None)
    told: list[str] = []
    assert settled_pixel_size(sources, None, 1.0, told.append) == 1.0
    assert told == [f"warning: --pixel-size 1 Å is taken, although {table} states 2 Å"]
