"""How wrong a denoiser expects its images to be, from coarse to fine."""

from __future__ import annotations

import numpy as np

from clarice.pipeline.denoised_notes import NOTES
from clarice.report.charts import Axis, Chart, Level, Series, histogram, line_chart, round_ticks
from clarice.report.folder import RunFiles, column, number, numbers
from clarice.report.wording import angstrom

# Below this a share of the noise is none that the chart could show.
_LEAST = 1e-6


def expected_error(run: RunFiles) -> tuple[Chart, ...]:
    """Charts of the expected error by shell and by particle; empty where the method told none."""
    by_shell = _by_shell(run)
    by_particle = column(run.table(NOTES, "clariceExpectedError"), "clariceExpectedError")
    charts = [] if by_shell is None else [by_shell]
    if by_particle is not None:
        caption = "Root mean square over each particle's coefficients, in standard deviations of the noise."
        charts.append(histogram("Expected error by particle", caption, by_particle, "expected error (noise = 1)"))
    return tuple(charts)


def _by_shell(run: RunFiles) -> Chart | None:
    """Chart of the expected squared error by spatial frequency, on a logarithmic axis, read from denoised.json.

    None where the method told none. The last shell is left out: it stands for everything from Nyquist on.
    """
    record = run.json("denoised.json")
    error = numbers(record.get("expected_error_by_shell"))[:-1]
    told = record.get("preparation")
    prepared = told if isinstance(told, dict) else run.json("prepared.json")
    box, pixel = number(prepared.get("working_box")), number(prepared.get("working_pixel_size_angstrom"))
    if len(error) < 2 or not np.isfinite(error).all() or box is None or pixel is None or box // 2 != len(error):
        return None
    frequency = np.arange(len(error)) / (box * pixel)
    limit = 0.5 / pixel
    ticks = tuple(tick for tick in round_ticks(0, limit, 4) if tick > 0)
    x = Axis("spatial frequency (1/Å)", 0.0, limit * 1.03, ticks, tuple(f"{1 / tick:.3g} Å" for tick in ticks))
    powers = np.log10(np.maximum(error, _LEAST))
    # Room above the noise for the words that name it.
    y = Axis.spanning("log₁₀ of expected squared error", np.append(powers, 0.5))
    levels = (Level(0.0, "noise of one particle"), Level(limit, f"Nyquist {angstrom(2 * pixel)}", vertical=True))
    caption = (
        "The squared error that the method expects in a Fourier coefficient of a denoised image, mean over all "
        "particles, where the variance of a particle's noise is 1; it was calibrated on simulated particles only."
    )
    series = Series("expected error", frequency, powers, "role-a")
    return line_chart("Expected error by resolution", caption, [series], x, y, levels)
