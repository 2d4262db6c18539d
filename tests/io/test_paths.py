"""Where the image files of a table are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from clarice.core.errors import InputError
from clarice.io.paths import keeps_meaning, name_from, resolve_files, split_image_names
from clarice.io.refusals import ImagesMissingError


def test_names_split_into_sections_and_files() -> None:
    sections, numbers, files = split_image_names(["000002@a/x.mrcs", "1@b.mrcs", "3@a/x.mrcs", "one.mrc"], "f")
    assert sections.tolist() == [1, 0, 2, 0]
    assert numbers.tolist() == [0, 1, 0, 2]
    assert files == ["a/x.mrcs", "b.mrcs", "one.mrc"]


@pytest.mark.parametrize("name", ["0@x.mrcs", "-1@x.mrcs", "a@x.mrcs", "1@", "²@x.mrcs", "99999999999@x.mrcs"])
def test_bad_names_give_their_row(name: str) -> None:
    with pytest.raises(InputError, match="row 2"):
        split_image_names(["1@x.mrcs", name], "f")


def test_places_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "project" / "Extract" / "job1" / "p.star"
    places = {
        "root": tmp_path / "elsewhere" / "x.mrcs",
        "beside": table.parent / "x.mrcs",
        "working": tmp_path / "work" / "x.mrcs",
        "above": tmp_path / "project" / "x.mrcs",
    }
    for place in places.values():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    monkeypatch.chdir(tmp_path / "work")
    assert resolve_files(["x.mrcs"], table, places["root"].parent, 1) == [places["root"]]
    assert resolve_files(["deep/below/x.mrcs"], table, places["root"].parent, 1) == [places["root"]]
    for name in ("beside", "working", "above"):
        assert resolve_files(["x.mrcs"], table, None, 1) == [places[name]]
        places[name].unlink()
    with pytest.raises(ImagesMissingError) as caught:
        resolve_files(["x.mrcs"], table, None, 7)
    for place in ("beside", "working", "above"):
        assert str(places[place]) in str(caught.value)
    assert "7 particles" in str(caught.value)
    assert "--root" in str(caught.value)


def test_cryosparc_arrow_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "x.mrc").touch()
    assert resolve_files([">x.mrc"], tmp_path / "p.cs", None, 1) == [tmp_path / "x.mrc"]


def test_two_names_never_share_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.mrcs").touch()
    with pytest.raises(InputError, match="both lead to"):
        resolve_files(["a/x.mrcs", "b/x.mrcs"], tmp_path / "t" / "p.star", tmp_path, 2)


def test_names_written_lead_back(tmp_path: Path) -> None:
    image = tmp_path / "run" / "x.mrcs"
    image.parent.mkdir()
    image.touch()
    assert name_from(image, tmp_path / "run" / "p.star") == "x.mrcs"
    assert name_from(image, tmp_path / "other" / "p.star") == str(image)
    assert keeps_meaning("x.mrcs", image, tmp_path / "run" / "p.star")
    assert not keeps_meaning("x.mrcs", image, tmp_path / "other" / "p.star")
