"""What denoised particles were made from: for a few of them, the other particles that weighed most, turned in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from clarice.pipeline.denoised_notes import NOTES
from clarice.report.folder import FloatArray, RunFiles, column
from clarice.report.particles import Pair, bright, protein_sign
from clarice.report.wording import percent

MADE, SOURCES = 4, 5


@dataclass(frozen=True)
class Source:
    """One source, `row` counted from 1, as a picture `turned_by` so much, with its share of the attention."""

    row: int
    weight: str
    turned_by: str
    picture: str


@dataclass(frozen=True)
class Made:
    """One denoised particle beside its raw form, the heaviest of its sources, and the shares of the attention.

    `listed` is the share of the sources shown, `kept` that of the particle, `others` that of all the rest; `error`
    is the expected root mean square error, in standard deviations of the noise, None where it is not told.
    """

    pair: Pair
    sources: tuple[Source, ...]
    kept: str
    listed: str
    others: str
    error: str | None


def turned(image: NDArray[np.float32], angle_deg: float) -> NDArray[np.float32]:
    """`image` (L, L), axes (y, x), its content turned about pixel L // 2 by `angle_deg`, from +x towards +y.

    Zero where the image has nothing: denoised images fade to that.
    """
    angle, centre = np.deg2rad(angle_deg), np.full(2, image.shape[-1] // 2)
    # Where in the source each pixel's content lies: the inverse turn, written (y, x).
    back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(affine_transform(image, back, centre - back @ centre, order=1), dtype=np.float32)


def made_from(run: RunFiles, pairs: Sequence[Pair]) -> tuple[Made, ...]:
    """Of some of the `pairs`, evenly chosen, what the denoised image was made from; none where no method told."""
    total = run.stack_length("denoised.mrcs")
    denoised = [pair for pair in pairs if pair.denoised is not None]
    table = run.table(NOTES, "clariceSourceRow")
    names = ("clariceRow", "clariceSourceRow", "clariceSourceAngle", "clariceSourceWeight")
    receiver, row, angle, weight = (column(table, name) for name in names)
    if not denoised or receiver is None or row is None or angle is None or weight is None:
        return ()
    if row.min() < 1 or row.max() > total:  # of another stack
        return ()
    places = sorted({int(place) for place in np.linspace(0, len(denoised) - 1, min(MADE, len(denoised))).round()})
    own = _OwnShares.read(run)
    made = []
    for pair in (denoised[place] for place in places):
        theirs = np.flatnonzero(receiver == pair.row)
        heaviest = theirs[np.argsort(-weight[theirs], kind="stable")][:SOURCES]
        pictures = _pictures(run, row[heaviest], angle[heaviest])
        if pictures is None:
            return ()
        sources = tuple(
            Source(int(row[k]), percent(weight[k], 1.0), _degrees(angle[k]), picture)
            for k, picture in zip(heaviest, pictures, strict=True)
        )
        made.append(own.of(pair, sources, float(weight[heaviest].sum())))
    return tuple(made)


def _pictures(run: RunFiles, row: FloatArray, angle_deg: FloatArray) -> list[str] | None:
    """Denoised images of `row`, counted from 1, turned; None when they cannot be read."""
    images = run.images("denoised.mrcs", [int(each) - 1 for each in row]) if len(row) else ()
    if images is None:
        return None
    sign = protein_sign(run)
    return [bright(turned(image, float(angle)), sign) for image, angle in zip(images, angle_deg, strict=True)]


def _degrees(angle: float) -> str:
    return f"{angle:+.0f}°".replace("-", "−")


@dataclass(frozen=True)
class _OwnShares:
    """What each particle kept and how wrong it is expected to be, by row; None where it was not told."""

    row: FloatArray | None
    kept: FloatArray | None
    error: FloatArray | None

    @classmethod
    def read(cls, run: RunFiles) -> _OwnShares:
        table = run.table(NOTES, "clariceKeptWeight")
        names = ("clariceRow", "clariceKeptWeight", "clariceExpectedError")
        return cls(*(column(table, name) for name in names))

    def of(self, pair: Pair, sources: tuple[Source, ...], listed: float) -> Made:
        kept, error = self._value(self.kept, pair.row), self._value(self.error, pair.row)
        return Made(
            pair,
            sources,
            kept="–" if kept is None else percent(kept, 1.0),
            listed=percent(listed, 1.0),
            others="–" if kept is None else percent(max(0.0, 1 - kept - listed), 1.0),
            error=None if error is None else f"{error:.2f}",
        )

    def _value(self, values: FloatArray | None, row: int) -> float | None:
        if values is None or self.row is None:
            return None
        found = values[self.row == row]
        return float(found[0]) if len(found) else None
