"""The page as a document: every section, whatever files are there, nothing fetched, names escaped."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.report.fake_run import make_run, replace_file

from clarice.core.errors import InputError, OutputError
from clarice.report.page import SECTIONS, write_report

VOID = {"meta", "link", "img", "input", "br", "hr"}
SELF_CLOSING_SVG = {"line", "path", "rect", "circle", "ellipse", "stop", "image"}


class Document(HTMLParser):
    """Checks that elements nest, and gathers what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.faults: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID | SELF_CLOSING_SVG:
            self.faults.append(f"<{tag}/>")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        """What a reader sees, spaces put together."""
        return " ".join(" ".join(self.words).split())

    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.elements if "id" in attributes]


def document(folder: Path) -> Document:
    """The page made from `folder`."""
    return Document(write_report(folder).read_text(encoding="utf-8"))


def test_a_finished_run_fills_every_section(finished_run: Path) -> None:
    page = document(finished_run)
    assert page.open == []
    assert page.faults == []
    assert len(page.ids()) == len(set(page.ids()))
    assert [name for name in page.ids() if name in dict(SECTIONS)] == [anchor for anchor, _ in SECTIONS]
    # The one left is for readers without scripts.
    assert [attributes for tag, attributes in page.elements if attributes.get("class") == "not-run"] == [
        {"class": "not-run"}
    ]
    for words in (
        "T20S_particles.star",
        "1,200 particles",
        "20 November 2026, 13:05 UTC",
        "FSC threshold 0.143",
        "Nyquist",
        "covariance_wiener",
        "map_mirror.mrc",
        "clarice run T20S_particles.star -o run --seed 7",
        "relion_refine_mpi --i kept_bright.star --ref map_for_relion.mrc",
        "--angpix 4.2 --rescale_angpix 2.1 --new_box 96",
        "Import Particle Stack",
        "1.29 GB",
    ):
        assert words in page.text
    assert "Not finished" not in page.text  # the report's own stage is under way while the page is made


def test_warnings_come_before_everything_but_the_verdict(finished_run: Path) -> None:
    text = document(finished_run).text
    assert text.index("they may be picked twice") < text.index("Particles kept") < text.index("Each pair shows")
    assert text.index("agree to") < text.index("they may be picked twice")


def test_nothing_is_fetched(finished_run: Path) -> None:
    path = write_report(finished_run)
    text = path.read_text(encoding="utf-8")
    for tag, attributes in Document(text).elements:
        for name in ("src", "href", "action", "poster", "srcset", "data"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:", "#")) or not value, (tag, name, value[:60])
    assert "@import" not in text
    assert "url(http" not in text
    assert "fetch(" not in text
    assert path.stat().st_size < 3e6


def test_every_picture_has_words(finished_run: Path) -> None:
    page = document(finished_run)
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(pictures) == 2 * 8 + 24 + 12 + 18 + 6
    assert all(attributes.get("alt") for attributes in pictures)
    drawings = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(drawings) == 12
    assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in drawings)


def test_the_page_is_the_same_each_time(finished_run: Path) -> None:
    assert write_report(finished_run).read_bytes() == write_report(finished_run).read_bytes()


def test_names_are_escaped(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    nasty = '<script>alert("1")</script>&\'"'
    record = json.loads((folder / "run.json").read_text())
    record["input"]["path"] = record["command"] = record["arguments"]["stack"] = nasty
    record["warnings"] = [{"stage": nasty, "message": nasty}]
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "denoised.json").write_text(json.dumps({"method": nasty}))
    text = write_report(folder).read_text(encoding="utf-8")
    assert "<script>alert" not in text
    page = Document(text)
    assert page.faults == []
    assert page.text.count(nasty.split("/")[0]) >= 4


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (("run.json",), "Preparation has not run yet"),
        (("run.json", "prepared.mrcs", "prepared.star", "prepared.json"), "denoising has not run yet"),
        (("run.json", "classes.mrcs"), "24 classes, largest first."),
        (("run.json", "map.mrc"), "its mirror image fits the images equally well"),
        (("run.json", "fsc.json"), "There is no map yet"),
        (("run.json", "particles.star"), "Views cover"),
    ],
)
def test_missing_files_leave_their_sections_saying_so(copied_run, kept: tuple[str, ...], said: str) -> None:
    page = document(copied_run(*kept))
    assert page.faults == []
    assert said.lower() in page.text.lower()
    assert [name for name in page.ids() if name in dict(SECTIONS)] == [anchor for anchor, _ in SECTIONS]


@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "fsc.json",
        "prepared.mrcs",
        "classes.mrcs",
        "map.mrc",
        "particles.star",
        "class_members.star",
    ],
)
@pytest.mark.parametrize("content", [b"", b"\0\xff garbage " * 200, b"[1, 2]"])
def test_damaged_files_become_warnings(copied_run, name: str, content: bytes) -> None:
    folder = copied_run()
    replace_file(folder / name, content)
    page = document(folder)
    assert page.faults == []
    assert f"{name} cannot be read" in page.text


def test_values_that_are_no_numbers_are_left_out(copied_run) -> None:
    folder = copied_run()
    curves = {"corrected": [1.0, None, float("nan"), 0.2], "masked": "none", "unmasked": [1.0]}
    content = {
        "curves": curves,
        "spatial_frequency_per_angstrom": [0, 0.1, 0.2, 0.3],
        "resolution_angstrom": {"0.143": None},
    }
    replace_file(folder / "fsc.json", json.dumps(content))
    replace_file(folder / "abinitio.json", json.dumps({"starts": [{"seed": None}, 3], "chosen": "x"}))
    replace_file(folder / "refinement.json", json.dumps({"iterations": [{}, {"resolution_angstrom": "far"}]}))
    page = document(folder)
    assert page.faults == []
    assert not {"nan", "none", "null", "inf"} & set(page.text.lower().split())


def test_failed_and_unfinished_stages_are_warned_of(copied_run) -> None:
    folder = copied_run()
    record = json.loads((folder / "run.json").read_text())
    record["stages"][-2] |= {"status": "failed", "error": "disk full"}
    record["stages"][-3] |= {"status": "running"}
    replace_file(folder / "run.json", json.dumps(record))
    text = document(folder).text
    assert "This stage failed: disk full" in text
    assert "Not finished: refine." in text


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        write_report(tmp_path / "nowhere")
    for name in (None, "map.mrc", "particles.star"):  # files of other commands do not make a run
        if name is not None:
            (tmp_path / name).write_bytes(b"")
        with pytest.raises(InputError, match=r"no run\.json"):
            write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_page_that_cannot_be_written_is_refused(copied_run) -> None:
    folder = copied_run("run.json")
    (folder / "report.html").mkdir()
    with pytest.raises(OutputError, match=r"report\.html"):
        write_report(folder)
