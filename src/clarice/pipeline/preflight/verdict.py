"""What the check found, as plain data that can be written as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from clarice.core.errors import InputError, UsageError

Kind = Literal["particles", "needs an option", "images missing", "not particles", "broken"]
ContrastSign = Literal["bright", "dark", "ambiguous"]
CtfState = Literal["raw", "flipped", "multiplied", "none"]
Basis = Literal["option", "images", "file", "assumed"]
# What a CTF needs of a table: voltage, aberration, amplitude contrast, two defocus values and their angle.
CTF_COLUMN_COUNT = 6


@dataclass(frozen=True)
class Contrast:
    """Whether protein is bright or dark in the images, and how we know.

    `disk_z` is the z-score, over particles, of the mean inside a centred disk of `disk_radius_px` less the
    mean outside: the strongest among the disks tried; `opposite_z` is the strongest of the other sign.
    `low_frequency_z` is the z-score of the lowest Fourier rings' mean amplitude along the CTF (None without
    CTF). `stated` is what the file says (cryoSPARC's blob/sign).
    """

    sign: ContrastSign
    basis: Basis
    disk_z: float
    disk_radius_px: float
    disk_difference_sigma: float
    opposite_z: float
    low_frequency_z: float | None
    stated: ContrastSign | None


@dataclass(frozen=True)
class CtfEvidence:
    """What was already done about the CTF, and how we know.

    `zero_to_peak_power` compares noise power near the CTF's zeros with that near its peaks: about 1 for raw
    and phase-flipped images, near 0 for multiplied ones. `flip_z` is the z-score of the power that flipping
    the phases moves into the middle of the box: positive for raw images, negative when they were flipped
    before. `pixel_factor`: the stated CTF is not that of the images; that of pixels so many times as large is,
    or of defocus over its square, with `pixel_factor_z` in place of `flip_z`. `missing` are the CTF columns the
    file lacks. `stated` is what the file's own columns say.
    """

    state: CtfState
    basis: Basis
    zero_to_peak_power: float | None
    flip_z: float | None
    missing: tuple[str, ...]
    stated: CtfState | None
    defocus_range_angstrom: tuple[float, float] | None
    pixel_factor: float | None = None
    pixel_factor_z: float | None = None

    @property
    def incomplete(self) -> bool:
        """Whether the file describes a CTF, but not all of it."""
        return 0 < len(self.missing) < CTF_COLUMN_COUNT


@dataclass(frozen=True)
class ImageFindings:
    """What the pixels say. Row numbers count from 1; at most 20 are listed of each kind.

    `not_finite` images hold NaN, infinities or values beyond 1e12.

    `background_mean` and `background_sigma` are medians, over `sampled` images, of the pixels outside the
    inscribed circle; `sigma_spread` is the relative spread of that σ over images.
    """

    scanned: int
    sampled: int
    not_finite: int
    not_finite_rows: tuple[int, ...]
    constant: int
    constant_rows: tuple[int, ...]
    duplicates: int
    duplicate_rows: tuple[tuple[int, int], ...]
    background_mean: float
    background_sigma: float
    sigma_spread: float
    normalised: bool


@dataclass(frozen=True)
class Verdict:
    """The check's result: `usable` says whether the stack can be processed as it is called.

    `problems` stand in the way, `needs` are the options that would settle what is open, `warnings` do not
    stop anything. Fields about the stack are None when it could not be opened.
    """

    path: str
    kind: Kind
    usable: bool
    summary: str
    problems: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    particles: int | None = None
    box: int | None = None
    pixel_size_angstrom: float | None = None
    image_files: int | None = None
    micrographs: int | None = None
    optics_groups: tuple[int, ...] | None = None
    half_sets: tuple[int, int] | None = None
    has_poses: bool | None = None
    contrast: Contrast | None = None
    ctf: CtfEvidence | None = None
    images: ImageFindings | None = None

    @property
    def sign(self) -> int:
        """+1 for protein-bright images, −1 for protein-dark ones; raises ValueError while that is open."""
        if self.contrast is None or self.contrast.sign == "ambiguous":
            raise ValueError("the contrast is not known")
        return 1 if self.contrast.sign == "bright" else -1

    @property
    def besides_the_summary(self) -> tuple[str, ...]:
        """The problems and needs that `summary` does not name: all but the first."""
        return (*self.problems, *self.needs)[1:]

    def insist(self) -> None:
        """Raises UsageError when an option would make the stack usable, and InputError when nothing would."""
        if not self.usable:
            raise (UsageError if self.kind == "needs an option" else InputError)(self.summary)

    def as_json(self) -> dict[str, Any]:
        """The verdict as JSON types; numbers that are not finite become null."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
