"""The same problem ends with the same status, whichever command meets it, as docs/commands.md tells."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from clarice.cli.app import main
from clarice.core import errors
from clarice.io.mrc import write_mrc
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.physics.simulation_files import write_simulation

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
READERS = (
    ("check",),
    ("run", "-o", "out"),
    ("denoise", "-o", "out"),
    ("classify", "-o", "out"),
    ("abinitio", "-o", "out"),
    ("refine", "-o", "out", "--map", "map.mrc"),
    ("reconstruct", "-o", "out"),
)
MAKERS = READERS[1:]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    settings = SimulationSettings(particles=120, box=24, seed=3, snr=1.0, defocus_groups=4)
    write_simulation(simulate(make_molecule(2, mass_kda=80), settings), folder, contrast="bright", specimen="made")
    return folder


@pytest.fixture
def folder(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a stack, and the same stack spoilt in several ways."""
    for name in ("particles.star", "particles.mrcs", "map.mrc", "truth.star"):
        shutil.copy(source / name, tmp_path / name)
    text = (tmp_path / "particles.star").read_text()
    for name, column in (("sizeless", "ImagePixelSize"), ("nameless", "ImageName"), ("halfctf", "DefocusU")):
        (tmp_path / f"{name}.star").write_text(text.replace(f"_rln{column}", "_rlnOther"))
    (tmp_path / "empty.star").touch()
    (tmp_path / "file").touch()
    write_mrc(tmp_path / "flat.mrc", np.zeros((4, 16, 16), dtype=np.float32), 2.0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The exit status of `clarice WORDS`, and its last sentence."""
    monkeypatch.setattr(sys, "argv", ["clarice", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    last = capsys.readouterr().err.strip().splitlines()[-1]
    return int(caught.value.code or 0), last


@pytest.mark.parametrize(
    ("stack", "options", "expected", "said"),
    [
        ("sizeless.star", (), 2, "has no pixel size"),
        ("particles.star", ("--optics-group", "7"), 2, "--optics-group 7: no particle"),
        ("particles.star", ("--contrast", "grey"), 2, "--contrast grey is not known"),
        ("nameless.star", (), 3, "has no column _rlnImageName"),
        ("empty.star", (), 3, "is empty"),
        ("absent.star", (), 3, "does not exist"),
        ("map.mrc", (), 3, "is a map of 24"),
    ],
)
@pytest.mark.parametrize("command", READERS, ids=lambda words: words[0])
@pytest.mark.usefixtures("folder")
def test_a_stack_is_refused_alike_by_all(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    stack: str,
    options: tuple[str, ...],
    expected: int,
    said: str,
) -> None:
    found, sentence = status(monkeypatch, capsys, *command, stack, *options)
    assert (found, said in sentence) == (expected, True), sentence
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "command", [words for words in READERS if words[0] != "reconstruct"], ids=lambda words: words[0]
)
@pytest.mark.usefixtures("folder")
def test_an_incomplete_ctf_is_refused_alike(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    found, sentence = status(monkeypatch, capsys, *command, "halfctf.star")
    assert (found, "CTF columns are incomplete" in sentence) == (3, True), sentence


@pytest.mark.parametrize("place", ["file", "file/out", "/proc/out"])
@pytest.mark.parametrize("command", MAKERS, ids=lambda words: words[0])
@pytest.mark.usefixtures("folder")
def test_a_place_is_refused_alike(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], place: str
) -> None:
    words = [place if word == "out" else word for word in command]
    found, sentence = status(monkeypatch, capsys, *words, "truth.star", "--contrast", "bright")
    assert found == 4, sentence
    assert re.search(r"choose another (name|place)", sentence)


@pytest.mark.parametrize(
    "command",
    [
        ("refine", "particles.star", "--map", "flat.mrc", "-o", "out"),
        ("simulate", "--map", "flat.mrc", "-o", "out"),
        ("evaluate", "map", "flat.mrc", "--truth", "map.mrc"),
    ],
    ids=lambda words: words[0],
)
@pytest.mark.usefixtures("folder")
def test_a_map_that_is_no_cube_is_refused_alike(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    assert status(monkeypatch, capsys, *command)[0] == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("run", "x.star", "--no-such"), "no such option: --no-such.*; see `clarice run --help`"),
        (("run", "x.star", "-o"), "option '-o' requires an argument; see `clarice --help`"),
        (("abinitio", "x.star"), "missing option '-o' / '--output'; see `clarice abinitio --help`"),
        (("refine", "--map", "x.mrc", "-o", "out"), "missing argument '(?i:stack)'; see `clarice refine --help`"),
        (
            ("check", "x.star", "--pixel-size", "two"),
            "invalid value for '--pixel-size': .*; see `clarice check --help`",
        ),
        (
            ("abinitio", "x.star", "-o", "out", "--method", "luck"),
            "invalid value for '--method': .*'luck' is not one of .*",
        ),
        (("denoise", "x.star", "y.star", "-o", "out"), "got unexpected extra argument.*; see `clarice denoise --help`"),
        (("chek", "x.star"), "no such command 'chek', did you mean 'check'; see `clarice --help`"),
        (("evaluate", "mop"), "no such command 'mop'.*; see `clarice evaluate --help`"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_words_that_are_not_understood_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["clarice", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert re.fullmatch(f"clarice: {sentence}\n", capsys.readouterr().err)


def test_the_page_lists_every_status_with_its_error() -> None:
    listed = re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    kinds = (errors.UsageError, errors.InputError, errors.OutputError, errors.ResourceError)
    assert [(int(number), name) for number, name in listed] == [(kind.exit_code, kind.__name__) for kind in kinds]
