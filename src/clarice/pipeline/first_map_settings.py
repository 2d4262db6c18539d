"""What a user may decide about a first map, and what each way of finding one makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from clarice.abinitio import climb, refinement
from clarice.abinitio.grey_scale import compared_radius
from clarice.abinitio.line_scores import LineSettings
from clarice.core.errors import UsageError
from clarice.denoise.registry import DEFAULT_METHOD
from clarice.geometry.so3 import symmetry_rotations
from clarice.pipeline import memory
from clarice.pipeline.stages import Estimate

# Particles denoised for each that is laid by its lines: a joint denoiser is better with more of them.
DENOISED_FOR_EACH = 4
# A map is judged by particles that it was not made of, if there are so many.
FEWEST_HELD_OUT = 50


class Method(StrEnum):
    """How a first map is found."""

    PROJECTION_MATCHING = "projection-matching"
    COMMON_LINES = "common-lines"
    MOMENTS = "moments"
    LEARNED = "learned"
    BOTH = "both"


@dataclass(frozen=True)
class FirstMapSettings:
    """Particle diameter, method, random starts, point group, largest shift and seed.

    Common lines lay at most `images` particles, denoised by `denoiser` as four times as many are; moments are of these,
    or of nearly all where all are denoised already. With several `classes`, or a `junk_share` of particles expected to
    show none of them, projection matching finds as many maps together.
    """

    diameter_px: float
    method: Method = Method.BOTH
    starts: int = 4
    images: int = 500
    denoiser: str = DEFAULT_METHOD
    symmetry: str = "C1"
    max_shift_px: float = 4.0
    seed: int = 0
    classes: int = 1
    junk_share: float = 0.0

    def insist_on_sense(self) -> None:
        """Raises UsageError for a method that knows nothing of point groups, or of several structures."""
        if self.method in (Method.MOMENTS, Method.LEARNED) and self.symmetry.upper() != "C1":
            raise UsageError(f"--symmetry {self.symmetry} is not for a map by moments: find it in C1, or another way")
        if self.sorts and self.method in (Method.COMMON_LINES, Method.MOMENTS, Method.LEARNED):
            raise UsageError(
                f"--classes and --junk are for projection matching: leave out --method {self.method.value}"
            )

    @property
    def denoises(self) -> bool:
        """Whether denoised particles have a part in the map."""
        return self.method is not Method.PROJECTION_MATCHING and not self.sorts

    @property
    def sorts(self) -> bool:
        """Whether particles are to be told apart by what they show."""
        return self.matching().sorts

    def matching(self) -> climb.Settings:
        """As projection matching takes them."""
        return climb.Settings(
            self.diameter_px,
            starts=self.starts,
            symmetry=self.symmetry,
            max_shift_px=self.max_shift_px,
            seed=self.seed,
            classes=self.classes,
            junk_share=self.junk_share,
        )

    def lines(self) -> LineSettings:
        """As the search for common lines takes them."""
        return LineSettings(self.diameter_px, max_shift_px=self.max_shift_px)

    def laying(self, box: int, radius_px: float) -> refinement.Settings:
        """How particles of `box` px are laid on a map that holds rings up to `radius_px`.

        No finer than views are looked at.
        """
        return refinement.Settings(
            self.diameter_px,
            symmetry=self.symmetry,
            max_shift_px=self.max_shift_px,
            start_radius_px=min(radius_px, compared_radius(box, self.diameter_px)),
            seed=self.seed,
        )

    def estimate(self, count: int, input_box: int, box: int, *, denoised_before: bool = False) -> Estimate:
        """What the work takes for a stack of `count` particles in the working box `box`."""
        by_matching = memory.first_map(count, input_box, box, self.starts)
        if self.sorts:
            return memory.sorted_maps(count, input_box, box, self.starts, self.classes)
        if not self.denoises:
            return by_matching
        by_lines = memory.first_map_by_lines(
            count,
            input_box,
            box,
            min(count, self.images),
            min(count, self.images * DENOISED_FOR_EACH),
            self.lines().cells(box),
            self.starts,
            len(symmetry_rotations(self.symmetry)),
            denoised_before=denoised_before,
        )
        if self.method is Method.COMMON_LINES:
            return by_lines
        if self.method in (Method.MOMENTS, Method.LEARNED):
            return memory.first_map_by_moments(by_lines, self.starts)
        larger = max(by_lines.memory_mb, by_matching.memory_mb)
        return Estimate(by_lines.seconds + by_matching.seconds, larger, by_lines.disk_mb)
