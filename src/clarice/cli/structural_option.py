"""The option that says what images show beside their particle: `--structural carbon=0.5`, once for each kind."""

from __future__ import annotations

from typing import Annotated

import typer

from clarice.core.errors import UsageError
from clarice.physics.structural_noise import StructuralNoise, kinds

StructuralOption = Annotated[
    list[str] | None,
    typer.Option(
        "--structural",
        metavar="KIND=STRENGTH",
        help=f"Structural noise, once for each kind: {', '.join(kinds())}.",
    ),
]


def structural_noise(words: list[str] | None) -> StructuralNoise:
    """The strengths that `words` such as "carbon=0.5" name. Raises UsageError."""
    strengths: dict[str, float] = {}
    for word in words or ():
        kind, _, strength = word.partition("=")
        if kind not in kinds():
            raise UsageError(f"--structural {word}: the kinds are {', '.join(kinds())}, as in --structural carbon=0.5")
        if kind in strengths:
            raise UsageError(f"--structural {word}: {kind} has a strength already, so leave one of them out")
        try:
            strengths[kind] = float(strength)
        except ValueError as error:
            raise UsageError(f"--structural {word}: give a number, as in --structural {kind}=0.5") from error
    return StructuralNoise(**strengths)
