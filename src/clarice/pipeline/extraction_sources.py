"""Which picks belong to which micrograph, and the pixel size that all of it has."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clarice.core.counting import counted
from clarice.core.errors import InputError
from clarice.core.particles import FloatArray
from clarice.io.micrograph import stated_pixel_size, stem_of
from clarice.io.micrograph_ctf import MicrographCtf, MicrographCtfTable
from clarice.io.picks import Picks, picks_stem, read_picks
from clarice.io.refusals import OptionNeededError
from clarice.pipeline.run_folder import nobody

# What programs put behind a micrograph's name and an underscore: autopick, manualpick, topazpicks, automatch, coords …
_PICKS_ENDING = re.compile(
    "([a-z]*pick(s|ed|er|ing)?|[a-z]*match|topaz|cryolo|coords?|coordinates|box(es)?|particles)", re.IGNORECASE
)
# Sizes further apart than this are of different magnifications, not of a calibration.
_SAME_SIZE = 0.01


@dataclass(frozen=True)
class Source:
    """A micrograph, its picks, and its CTF where that is known; None to fit it. Tables call it by `name`."""

    path: Path
    name: str
    picks: Picks
    ctf: MicrographCtf | None

    @property
    def centres_px(self) -> FloatArray:
        """(n, 2) of its particles, (x, y) in pixels."""
        return self.picks.of(self.path)


def find_sources(
    micrographs: Sequence[Path],
    given: Path,
    coordinates: Path,
    table: MicrographCtfTable | None,
    tell: Callable[[str], None] = nobody,
) -> list[Source]:
    """Those of the files `micrographs`, found at `given`, that have picks in the file or folder `coordinates`.

    Tells how many picks are of other micrographs. Raises InputError when none is of these, or when one may belong to
    several of them, or a micrograph has no row in `table`.
    """
    if coordinates.is_dir():
        picked, left = _from_folder(coordinates, micrographs)
    else:
        picked, left = _from_file(coordinates, micrographs)
        named, only = picks_stem(coordinates), stem_of(micrographs[0].name)
        if picked[micrographs[0]].micrograph is None and named != only and not str(named).startswith(f"{only}_"):
            tell(f"warning: {coordinates} names no micrograph: its picks are taken for those of {micrographs[0].name}")
    if left:
        tell(
            f"warning: {counted(sum(left.values()), 'pick')} of {counted(len(left), 'micrograph')} left out, not found "
            f"{'in' if given.is_dir() else 'as'} {given}: {next(iter(left))}{' and others' if len(left) > 1 else ''}"
        )
    # A folder given as . or .. is named all the same.
    folder = given.resolve().name if given.name in ("", "..") else given.name
    sources = []
    for path, picks in picked.items():
        if len(picks.of(path)) > 0:
            name = path.name if path == given or not folder else f"{folder}/{path.name}"
            sources.append(Source(path, name, picks, _ctf_of(path, table)))
    if not sources:
        raise InputError(
            f"{coordinates} has no pick in any of {counted(len(micrographs), 'micrograph')} of {given}: name files of "
            "picks like their micrographs, with or without an ending such as _autopick, or give a table of names"
        )
    _refuse_equal_names(sources)
    return sources


def settled_pixel_size(
    sources: Sequence[Source],
    table: MicrographCtfTable | None,
    given_angstrom: float | None,
    tell: Callable[[str], None] = nobody,
) -> float:
    """Å: `given_angstrom`, or what the table of CTFs, the picks and the headers of the micrographs agree upon.

    Tells where what is given contradicts one of them. Raises InputError when none is known, or they contradict.
    """
    tables = {} if table is None else {table.path: table.pixel_size_angstrom}
    picks = {source.picks.path: source.picks.pixel_size_angstrom for source in sources}
    headers = {source.path: stated_pixel_size(source.path) for source in sources}
    stated = [(path, size) for path, size in {**tables, **picks, **headers}.items() if size is not None]
    if not stated and given_angstrom is None:
        raise OptionNeededError(f"{sources[0].path} does not state its pixel size: pass --pixel-size, in Å")
    size = stated[0][1] if given_angstrom is None else given_angstrom
    for path, other in stated:
        if abs(other - size) <= _SAME_SIZE * size:
            continue
        if given_angstrom is None:
            raise InputError(
                f"{stated[0][0]} states a pixel size of {size:g} Å, but {path} one of {other:g} Å: "
                "pass the right one as --pixel-size"
            )
        tell(f"warning: --pixel-size {size:g} Å is taken, although {path} states {other:g} Å")
        break
    return size


def _from_file(coordinates: Path, micrographs: Sequence[Path]) -> tuple[dict[Path, Picks], dict[str, int]]:
    """The picks of each micrograph, and how many there are of each other one."""
    picks = read_picks(coordinates)
    if picks.micrograph is None and len(micrographs) > 1:
        raise InputError(
            f"{coordinates} does not say which micrograph a pick belongs to: name a folder with a file for each, or a "
            "table with their names"
        )
    return dict.fromkeys(micrographs, picks), picks.left_by(micrographs)


def _from_folder(folder: Path, micrographs: Sequence[Path]) -> tuple[dict[Path, Picks], dict[str, int]]:
    """The same of the files of a folder, each of which belongs to the micrograph it is named after."""
    stems = {stem_of(path.name) for path in micrographs}
    exact: dict[str, list[Path]] = {}
    longer: dict[str, list[Path]] = {}
    left: dict[str, int] = {}
    for path in sorted(folder.iterdir()):
        stem = picks_stem(path)
        if stem is None or not path.is_file():
            continue
        shorter, _, ending = stem.rpartition("_")
        if stem in stems:  # though a shorter name may begin it
            exact.setdefault(stem, []).append(path)
        elif shorter in stems and _PICKS_ENDING.fullmatch(ending):
            longer.setdefault(shorter, []).append(path)
        elif count := _count(path):
            left[path.name] = count
    picked = {}
    for micrograph in micrographs:
        stem = stem_of(micrograph.name)
        found = exact.get(stem) or longer.get(stem, [])
        if len(found) > 1:
            listed = ", ".join(path.name for path in found)
            raise InputError(f"{folder} holds several files for {stem} ({listed}): keep one")
        if found:
            picks = read_picks(found[0])
            picked[micrograph] = picks
            left.update(picks.left_by([micrograph]))
    return picked, left


def _count(path: Path) -> int:
    """How many picks a file holds that may be one of something else, and then holds none."""
    try:
        return len(read_picks(path))
    except InputError:
        return 0


def _refuse_equal_names(sources: Sequence[Source]) -> None:
    seen: dict[str, Path] = {}
    for source in sources:
        stem = stem_of(source.path.name)
        if stem in seen:
            raise InputError(
                f"{seen[stem]} and {source.path} would both be cut at the picks of {stem} in {source.picks.path}: "
                "keep one of them in the folder, or name it alone"
            )
        seen[stem] = source.path


def _ctf_of(micrograph: Path, table: MicrographCtfTable | None) -> MicrographCtf | None:
    if table is None:
        return None
    stem = stem_of(micrograph.name)
    if stem not in table.by_stem:
        raise InputError(f"{table.path} has no row for {micrograph.name}: add it, or drop --ctf to have the CTF fitted")
    return table.by_stem[stem]
