"""Controls of the map: what noise, random phases and a wrong molecule make of it, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clarice.report.charts import Chart
from clarice.report.folder import RunFiles, number, records
from clarice.report.null_controls import chart_of_kinds
from clarice.report.pictures import contrast, grey_png
from clarice.report.wording import percent, quantity

_PROJECTIONS = 3
# The maps in the order of their pictures: the run's, those of each kind of images, and the wrong molecule.
_REFERENCE, _WRONG = "the run's map", "the wrong molecule"


@dataclass(frozen=True)
class LaidRow:
    """One map: three projections, and figures as text; "–" where it has none."""

    name: str
    pictures: tuple[str, ...]
    gain: str
    power: str


@dataclass(frozen=True)
class MapControls:
    """All maps; `doubtful` where the map may be no more than what images were turned towards, `sentence` in words."""

    rows: tuple[LaidRow, ...]
    images: int
    resolution: str
    doubtful: bool
    sentence: str
    chart: Chart | None


def map_controls(run: RunFiles) -> MapControls | None:
    """What `map_controls.json` and its pictures say; None before that stage has run."""
    record = run.json("map_controls.json")
    kinds = records(record.get("kinds"))
    if not kinds:
        return None
    names = [_REFERENCE, *(str(kind.get("kind", "–")) for kind in kinds), _WRONG]
    pictures = run.images("map_controls.mrcs", range(_PROJECTIONS * len(names)))
    rows = []
    for place, name in enumerate(names):
        kind = kinds[place - 1] if 0 < place <= len(kinds) else {}
        part = slice(_PROJECTIONS * place, _PROJECTIONS * (place + 1))
        flat = () if pictures is None else tuple(grey_png(one, *contrast(one)) for one in pictures[part])
        share = number(kind.get("power_share"))
        rows.append(LaidRow(name, flat, _gain(kind), "–" if share is None else percent(round(1000 * share), 1000)))
    return MapControls(
        tuple(rows),
        int(number(record.get("images")) or 0),
        quantity(number(record.get("resolution_angstrom")), "Å", 3),
        bool(record.get("doubtful")),
        str(record.get("sentence", "")),
        _chart(kinds),
    )


def _gain(kind: dict[str, object]) -> str:
    gain, error = number(kind.get("gain")), number(kind.get("gain_error"))
    if gain is None or error is None:
        return "–"
    digits = 2 if abs(gain) < 10 else 0
    return f"{gain:+.{digits}f} ± {max(error, 0.01):.{2 if error < 1 else 1}f}".replace("-", "−")


def _chart(kinds: Sequence[dict[str, Any]]) -> Chart | None:
    """Agreement of half maps, by shell."""
    caption = (
        "Agreement of the half maps that each kind of images makes. Noise agrees with itself as well, because both "
        "halves are turned towards maps of one molecule: an FSC by itself does not tell a structure from what images "
        "were laid on."
    )
    return chart_of_kinds(
        kinds,
        "fsc",
        "Half maps of particles, of images that show nothing, and on a wrong molecule",
        caption,
        "FSC",
        highest=1.0,
    )
