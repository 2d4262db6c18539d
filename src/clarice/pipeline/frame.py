"""The lengths that frame the work in three dimensions: working box, particle diameter, largest shift."""

from __future__ import annotations

import math
from dataclasses import dataclass

from clarice.abinitio.refinement import SHARED_CYCLES
from clarice.core.errors import UsageError
from clarice.core.particles import ParticleSet
from clarice.pipeline.prepare import checked_box

# A particle is taken to fill this share of its box unless its diameter is given.
DEFAULT_DIAMETER_SHARE = 0.7
# Off-centre picks: shifts up to this share of the box are looked for.
DEFAULT_SHIFT_SHARE = 1 / 16
# Of smaller particles the halves of a refinement share all waves, up to Nyquist, from the start.
LEAST_DIAMETER_PX = 2 * SHARED_CYCLES


@dataclass(frozen=True)
class Frame:
    """Lengths in working pixels."""

    working_box: int
    diameter_px: float
    max_shift_px: float

    @classmethod
    def of(
        cls,
        particles: ParticleSet,
        working_box: int | None = None,
        diameter_angstrom: float | None = None,
        max_shift_angstrom: float | None = None,
    ) -> Frame:
        """What the user says, and defaults for the rest. Raises UsageError for lengths the box cannot hold.

        So it does for a particle of so few pixels that no structure shows. Raises InputError for boxes too small to
        work in.
        """
        field = particles.box * particles.pixel_size_angstrom
        diameter = DEFAULT_DIAMETER_SHARE * field if diameter_angstrom is None else diameter_angstrom
        if not (math.isfinite(diameter) and 0 < diameter <= field):
            raise UsageError(f"--diameter {diameter:g} Å must lie between 0 and the box, {field:.0f} Å wide")
        shift = DEFAULT_SHIFT_SHARE * field if max_shift_angstrom is None else max_shift_angstrom
        if not (math.isfinite(shift) and 0 <= shift < field / 4):
            raise UsageError(f"--max-shift {shift:g} Å must lie between 0 and a quarter of the box, {field / 4:.0f} Å")
        box = checked_box(particles, working_box)
        if diameter * box / field < LEAST_DIAMETER_PX:
            raise UsageError(
                f"--diameter {diameter:g} Å is {diameter * box / field:.1f} px in the working box, too few to show a "
                f"structure: pass {math.ceil(LEAST_DIAMETER_PX * field / box)} Å or more, or a larger working box"
            )
        return cls(box, diameter * box / field, shift * box / field)
