"""The lengths that frame the work: particles too small to show anything are refused before any work."""

from __future__ import annotations

import numpy as np
import pytest

from clarice.core.errors import UsageError
from clarice.core.particles import ArraySource, ParticleSet
from clarice.pipeline.frame import Frame


def of_box(box: int, pixel_size_angstrom: float = 2.0) -> ParticleSet:
    return ParticleSet(ArraySource(np.zeros((1, box, box), dtype=np.float32)), pixel_size_angstrom)


@pytest.mark.parametrize(("working_box", "least"), [(100, 16.0), (50, 32.0)])
def test_a_diameter_of_a_few_pixels_is_refused(working_box: int, least: float) -> None:
    """Half maps of so small a particle would share every wave from the start, and agree whatever they hold."""
    with pytest.raises(UsageError) as caught:
        Frame.of(of_box(100), working_box, diameter_angstrom=least - 1)
    assert f"--diameter {least - 1:g} Å is" in str(caught.value)
    assert f"pass {least:g} Å or more" in str(caught.value)
    assert Frame.of(of_box(100), working_box, diameter_angstrom=least).diameter_px == pytest.approx(8.0)
