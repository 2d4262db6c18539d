"""Where and in which directions the half maps agree how far: slices, a histogram, and a map of directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from clarice.pipeline.postprocess import INSIDE
from clarice.report.charts import Chart, histogram
from clarice.report.folder import FloatArray, RunFiles, number
from clarice.report.pictures import colour_png
from clarice.report.sphere import direction_map
from clarice.report.surface import Plane, planes_of, through_the_centre
from clarice.report.wording import angstrom, quantity


@dataclass(frozen=True)
class LocalResolution:
    """Slices of local resolution in colours from `best` to `worst`, charts, and facts (name, value)."""

    planes: tuple[Plane, ...]
    best: str
    worst: str
    charts: tuple[Chart, ...]
    facts: tuple[tuple[str, str], ...]


def local_resolution(run: RunFiles) -> LocalResolution | None:
    """Read from local_resolution.mrc and postprocess.json; None before the map is postprocessed."""
    content = run.json("postprocess.json")
    local, direction = (_part(content, name) for name in ("local_resolution", "by_direction"))
    volume, mask = run.volume("local_resolution.mrc"), run.volume("mask.mrc")
    planes: tuple[Plane, ...] = ()
    charts: list[Chart] = []
    best, worst = (number(local.get(f"{end}_5_percent_angstrom")) for end in ("best", "worst"))
    if volume is not None and mask is not None and volume.values.shape == mask.values.shape:
        inside = mask.values > INSIDE
        if inside.any() and best is not None and worst is not None:
            planes = _planes(volume.values.astype(np.float64), inside, best, worst)
            words = f"Half maps under a window of {angstrom(number(local.get('window_angstrom')))}, at FSC 0.5."
            within = volume.values[inside].astype(np.float64)
            charts.append(histogram("Resolution by place", words, within, "resolution (Å)", counted="voxels"))
    by_direction = _direction_chart(direction)
    if by_direction is not None:
        charts.append(by_direction)
    if not planes and not charts:
        return None
    return LocalResolution(planes, angstrom(best), angstrom(worst), tuple(charts), _facts(content, local, direction))


def _part(content: dict[str, Any], name: str) -> dict[str, Any]:
    part = content.get(name)
    return part if isinstance(part, dict) else {}


def _planes(values: FloatArray, inside: np.ndarray, best: float, worst: float) -> tuple[Plane, ...]:
    """Central slices across z, y and x; axes upwards, as the map's own slices are drawn."""
    cut = zip(through_the_centre((values - best) / max(worst - best, 1e-9)), through_the_centre(inside), strict=True)
    return planes_of([colour_png(image[::-1], visible[::-1]) for image, visible in cut])


def _direction_chart(direction: dict[str, Any]) -> Chart | None:
    try:
        directions = np.array(direction.get("directions"), dtype=np.float64)
        values = np.array(direction.get("resolution_angstrom"), dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if values.ndim != 1 or directions.shape != (len(values), 3) or len(values) < 3:
        return None
    if not (np.isfinite(directions).all() and np.isfinite(values).all()):
        return None
    angle = number(direction.get("cone_half_angle_deg"))
    cone = "" if angle is None else f" within {angle:.0f}°"
    caption = f"Half maps at FSC 0.5 in cones{cone} of each direction; views at right angles to it fill them."
    return direction_map(directions, values, "Resolution by direction", caption, "Å")


def _facts(content: dict[str, Any], local: dict[str, Any], direction: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    ratio = number(direction.get("worst_over_best"))
    sharpening = quantity(number(content.get("b_factor_angstrom2")), "Å²")
    return (
        ("By place, median", angstrom(number(local.get("median_angstrom")))),
        ("Best directions", angstrom(number(direction.get("best_angstrom")))),
        ("Worst directions", angstrom(number(direction.get("worst_angstrom")))),
        ("Worst over best", "–" if ratio is None else f"{ratio:.2f}"),
        ("B-factor undone", f"{sharpening} ({content.get('b_factor_is', 'unknown')})"),
    )
