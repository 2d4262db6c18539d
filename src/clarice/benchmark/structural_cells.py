"""Cells of the protocol `structural-noise`: kind and strength of structural noise, and SNR of the random one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from clarice.core.errors import UsageError
from clarice.physics.structural_noise import StructuralNoise, kinds

# Beside each kind alone: none at all, and all of them together at half the strength.
NONE, MIXED = "none", "mixed"
KINDS = (NONE, *kinds(), MIXED)
STRENGTHS = (0.5, 1.0, 2.0)
SNRS = (0.05, 0.1)
CELL_KEYS = ("kind", "strength", "snr")


@dataclass(frozen=True)
class StructuralCell:
    """One cell of the table."""

    kind: str
    strength: float
    snr: float

    @property
    def noise(self) -> StructuralNoise:
        """The strengths of all kinds."""
        if self.kind == MIXED:
            return StructuralNoise(**{kind: min(self.strength / 2, _most(kind)) for kind in kinds()})
        return StructuralNoise(**({} if self.kind == NONE else {self.kind: self.strength}))

    def key(self) -> dict[str, object]:
        """The columns that tell it from the others."""
        return asdict(self)

    @property
    def name(self) -> str:
        """As files are named."""
        return f"{self.kind}-{self.strength:g}-snr-{self.snr:g}"

    @property
    def label(self) -> str:
        """As pictures are labelled."""
        return f"{self.kind} {self.strength:g}\nSNR {self.snr:g}"


def _most(kind: str) -> float:
    """The largest strength there is: `floppy` is a share."""
    return 1.0 if kind == "floppy" else float("inf")


def cells_of(chosen: Sequence[str], strengths: Sequence[float], snrs: Sequence[float]) -> list[StructuralCell]:
    """Every kind at every strength it can have, and SNR. Raises UsageError for what the protocol does not know."""
    unknown = [kind for kind in chosen if kind not in KINDS]
    if unknown or not chosen:
        raise UsageError(f"--kinds {','.join(chosen)!r} is not known: use some of {', '.join(KINDS)}")
    if not strengths or not min(strengths) > 0:
        raise UsageError("--strengths needs numbers above 0, as in --strengths 0.5,1")
    if not snrs or not min(snrs) > 0:
        raise UsageError("--snr needs numbers above 0, as in --snr 0.05,0.1")
    found = [
        StructuralCell(kind, strength, snr)
        for snr in snrs
        for kind in chosen
        for strength in ([0.0] if kind == NONE else strengths)
        if strength <= _most(kind)
    ]
    if not found:
        raise UsageError("--kinds and --strengths leave nothing: `floppy` has strengths up to 1")
    return found
