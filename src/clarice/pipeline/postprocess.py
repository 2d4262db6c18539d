"""What is made of a map and its half maps: the sharpened map, its resolution by place and by direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clarice.geometry.so3 import sphere_grid
from clarice.io.mrc import read_mrc, write_mrc
from clarice.metrics.directional_fsc import HALF_ANGLE_DEG, directional_half_map_fsc
from clarice.metrics.local_resolution import LOCAL_THRESHOLD, local_resolution, window_for
from clarice.metrics.sharpening import guinier_b_factor, sharpened
from clarice.metrics.shells import resolution_at
from clarice.pipeline.stages import stage
from clarice.pipeline.work import Work

# Directions of half a sphere: opposite ones are the same.
DIRECTIONS = 150
# Cones hold few elements each: at 0.143 chance would end their curves.
DIRECTIONAL_THRESHOLD = 0.5
# Shells before this hold so few elements of a cone that a dip among them says nothing.
FIRST_TELLING_SHELL_OF_CONE = 4
# The worst directions' resolution over the best ones', from which on views are likely to be missing. One direction in
# twenty at either end is left out: a dip of one narrow cone may be chance.
ANISOTROPIC, ENDS = 1.5, (0.05, 0.95)
# The mask's inside, where local resolution is summed up.
INSIDE = 0.5

MapArray = NDArray[np.float32]


@dataclass(frozen=True)
class Postprocessed:
    """The sharpened map and the resolution around each voxel, (L, L, L) each; `record` is what JSON holds of them."""

    sharpened: MapArray
    local_resolution_angstrom: MapArray
    record: dict[str, Any]

    @property
    def warning(self) -> str | None:
        """What speaks of missing views, if anything does."""
        by_direction = self.record["by_direction"]
        if by_direction["worst_over_best"] < ANISOTROPIC:
            return None
        return (
            f"the half maps agree to {by_direction['worst_angstrom']:.1f} Å in their worst directions and to "
            f"{by_direction['best_angstrom']:.1f} Å in their best: views that would show the former are missing; "
            "look at the coverage of views, and collect tilted ones"
        )


def postprocessed(
    halves: tuple[MapArray, MapArray],
    mask: MapArray,
    pixel_size_angstrom: float,
    curve: NDArray[np.float64],
    last_shell: int,
    b_factor: float | None = None,
) -> Postprocessed:
    """From half maps and their mask, (L, L, L) each, their corrected FSC (L // 2 + 1,) and the last shell measured.

    It is their mean that is sharpened: a refined map is weighed by shell already. Without a `b_factor` (Å²) it is
    fitted, where the resolution allows a fit, else taken for 0.
    """
    volume = np.asarray((halves[0] + halves[1]) / 2, dtype=np.float32)
    box = volume.shape[-1]
    resolution = resolution_at(curve, 0.143, pixel_size_angstrom, box, last_shell)
    fitted = guinier_b_factor(volume * mask, pixel_size_angstrom, curve, resolution) if b_factor is None else None
    applied = b_factor if b_factor is not None else (fitted or 0.0)
    window = window_for(resolution / pixel_size_angstrom, box)
    local = local_resolution(*halves, pixel_size_angstrom, window, last_shell=last_shell)
    inside = local[mask > INSIDE] if (mask > INSIDE).any() else local.ravel()
    best, median, worst = (float(value) for value in np.quantile(inside, [0.05, 0.5, 0.95]))
    source = "given" if b_factor is not None else ("fitted beyond 10 Å" if fitted is not None else "too coarse to fit")
    record = {
        "box": box,
        "pixel_size_angstrom": pixel_size_angstrom,
        "b_factor_angstrom2": applied,
        "b_factor_is": source,
        "local_resolution": {
            "threshold": LOCAL_THRESHOLD,
            "window_angstrom": window * pixel_size_angstrom,
            "best_5_percent_angstrom": best,
            "median_angstrom": median,
            "worst_5_percent_angstrom": worst,
        },
        "by_direction": _by_direction(halves, mask, pixel_size_angstrom, last_shell),
    }
    return Postprocessed(sharpened(volume, pixel_size_angstrom, curve, applied), local, record)


def _by_direction(
    halves: tuple[MapArray, MapArray], mask: MapArray, pixel_size_angstrom: float, last_shell: int
) -> dict[str, Any]:
    directions = sphere_grid(2 * DIRECTIONS)[:DIRECTIONS]
    generator = torch.Generator().manual_seed(0)
    curves = directional_half_map_fsc(*halves, mask, directions, generator, last_shell)
    curves[:, :FIRST_TELLING_SHELL_OF_CONE] = 1
    box = mask.shape[-1]
    angstrom = [resolution_at(curve, DIRECTIONAL_THRESHOLD, pixel_size_angstrom, box, last_shell) for curve in curves]
    best, worst = (float(value) for value in np.quantile(angstrom, ENDS))
    return {
        "threshold": DIRECTIONAL_THRESHOLD,
        "cone_half_angle_deg": HALF_ANGLE_DEG,
        "best_angstrom": best,
        "worst_angstrom": worst,
        "worst_over_best": worst / best,
        "directions": directions.round(4).tolist(),
        "resolution_angstrom": [round(value, 3) for value in angstrom],
    }


@stage(
    "postprocess",
    reads=["half1.mrc", "half2.mrc", "mask.mrc", "fsc.json"],
    writes=["map_sharpened.mrc", "local_resolution.mrc", "postprocess.json"],
)
def postprocess(work: Work) -> None:
    """The mean of the half maps sharpened as far as they vouch for it; their agreement by place and by direction."""
    (half1, pixel), (half2, _), (mask, _) = (
        read_mrc(work.input(name)) for name in ("half1.mrc", "half2.mrc", "mask.mrc")
    )
    told = work.read_json("fsc.json")
    curve = np.array(told["curves"]["corrected"], dtype=np.float64)
    made = postprocessed((half1, half2), mask, pixel, curve, told["last_shell"])
    write_mrc(work.output("map_sharpened.mrc"), made.sharpened, pixel, is_volume=True)
    write_mrc(work.output("local_resolution.mrc"), made.local_resolution_angstrom, pixel, is_volume=True)
    work.write_json("postprocess.json", made.record)
    if made.warning is not None:
        work.warn(made.warning)
