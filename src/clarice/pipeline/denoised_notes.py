"""What a denoiser told beside its images: a STAR file of each particle's sources, an array of its expected errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from clarice.core.particles import FloatArray
from clarice.denoise.notes import Notebook
from clarice.geometry.fourier import shells_to_nyquist
from clarice.io.atomic import writing
from clarice.io.star import write_star

NOTES = "denoised_sources.star"
ERRORS = "denoised_errors.npy"


def write_notes(notes: Notebook, path: Path) -> None:
    """Writes block `particles` (weight kept, expected error) and block `sources` (one row a source).

    Rows are counted from 1, as in the stack's table. The expected error is the root mean square, over the image's
    coefficients, in units of the noise's standard deviation. Raises OutputError.
    """
    found = notes.found
    count, wanted = found.row.shape
    own = pd.DataFrame({"clariceRow": np.arange(1, count + 1), "clariceKeptWeight": found.kept.round(5)})
    if notes.error_by_shell is not None:
        own["clariceExpectedError"] = rms_error(notes.error_by_shell).round(5)
    there = (found.row >= 0).ravel()
    sources = pd.DataFrame(
        {
            "clariceRow": np.repeat(np.arange(1, count + 1), wanted)[there],
            "clariceSourceRow": found.row.ravel()[there] + 1,
            "clariceSourceAngle": found.angle_deg.ravel()[there].round(2),
            "clariceSourceWeight": found.weight.ravel()[there].round(5),
        }
    )
    write_star(path, {"particles": own, "sources": sources})


def write_errors(by_shell: FloatArray, path: Path) -> None:
    """Writes the expected squared errors (n, S) by Fourier shell as float16, row for row with the images.

    In units of the noise's variance, per coefficient of the orthonormal transform, shell by shell of the working box.
    What is too much for float16 becomes its largest number. Raises OutputError.
    """
    short = np.empty(by_shell.shape, dtype=np.float16)
    np.minimum(by_shell, np.finfo(np.float16).max, out=short, casting="unsafe")
    with writing(path) as temporary:
        np.save(temporary, short)


def rms_error(by_shell: FloatArray) -> FloatArray:
    """Root mean square error (k,) a pixel, of expected squared errors (k, S) by Fourier shell.

    The last shell stands for everything from Nyquist on.
    """
    members = shells_to_nyquist(2 * (by_shell.shape[1] - 1))[1].numpy()
    return np.asarray(np.sqrt((by_shell * members).sum(axis=1) / members.sum()))
