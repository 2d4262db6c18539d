"""Cells of the protocol `denoise`: views, images a set, SNR, noise and CTF."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from clarice.core.errors import UsageError

# Views of a set of N images by setting; 0: every image has its own.
VIEWS = {"single": 0, "directional": 1, "general": 8, "all-different": 0}
SETTINGS = tuple(VIEWS)
SNRS = (0.01, 0.02, 0.03, 0.05, 0.1)
SIZES = (1, 8, 32, 128, 512)
NOISES = ("gaussian", "poisson")
# CTF and shifts: off; on, for structures whose pixel is coarse enough; on, for the others, which are reported apart.
CTFS = ("off", "on", "on-fine")
CELL_KEYS = ("setting", "size", "noise", "ctf", "snr")


@dataclass(frozen=True)
class Sheet:
    """What sets of images have in common whatever their noise: setting, images a set, and the CTF with shifts."""

    setting: str
    size: int
    ctf: str

    @property
    def views(self) -> int:
        """Views a set shows; 0 when every image has its own."""
        return VIEWS[self.setting]

    @property
    def with_ctf(self) -> bool:
        """Whether images have a CTF and shifts."""
        return self.ctf != "off"


@dataclass(frozen=True)
class Cell:
    """One cell of the table: a sheet with noise of a kind and strength."""

    sheet: Sheet
    noise: str
    snr: float

    def key(self) -> dict[str, object]:
        """The columns that tell it from the others."""
        return {**asdict(self.sheet), "noise": self.noise, "snr": self.snr}

    @property
    def name(self) -> str:
        """As files are named."""
        sheet = self.sheet
        return f"{sheet.setting}-{sheet.size}-{self.noise}-ctf-{sheet.ctf}-snr-{self.snr:g}"

    @property
    def label(self) -> str:
        """As pictures are labelled."""
        return f"SNR {self.snr:g}"


@dataclass(frozen=True)
class Grid:
    """The cells asked for. Raises UsageError for what the protocol does not know."""

    settings: Sequence[str] = SETTINGS
    sizes: Sequence[int] = SIZES
    snrs: Sequence[float] = SNRS
    noises: Sequence[str] = ("gaussian",)
    ctfs: Sequence[str] = ("off",)

    def __post_init__(self) -> None:
        for option, given, known in (
            ("--settings", self.settings, SETTINGS),
            ("--noise", self.noises, NOISES),
            ("--ctf", self.ctfs, CTFS),
        ):
            unknown = [word for word in given if word not in known]
            if unknown or not given:
                raise UsageError(f"{option} {','.join(given)!r} is not known: use some of {', '.join(known)}")
        if not self.sizes or min(self.sizes) < 1:
            raise UsageError("--sizes needs numbers of images from 1 on, as in --sizes 32,128")
        if not self.snrs or not min(self.snrs) > 0:
            raise UsageError("--snr needs numbers above 0, as in --snr 0.02,0.05")
        if not self.sheets():
            raise UsageError("--settings and --sizes leave nothing: `single` has size 1, the others larger ones")

    def sheets(self) -> list[Sheet]:
        """Each setting with its sizes: `single` is that of one image, the others need more."""
        chosen = product(self.ctfs, self.settings, self.sizes)
        return [Sheet(name, size, ctf) for ctf, name, size in chosen if (name == "single") == (size == 1)]

    def cells(self, sheet: Sheet) -> Iterator[Cell]:
        """The cells of a sheet."""
        return (Cell(sheet, noise, snr) for noise, snr in product(self.noises, self.snrs))


def grid_of(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """The least grid in which all of at least one row have their cells."""
    settings, sizes, noises, ctfs, snrs = ([*dict.fromkeys(row[key] for row in rows)] for key in CELL_KEYS)
    return Grid(settings, sizes, snrs, noises, ctfs)
