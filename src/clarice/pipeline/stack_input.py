"""The stack a job starts from: which files, and what the user says about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from os.path import abspath
from pathlib import Path
from typing import Any

from clarice.core.particles import ParticleSet
from clarice.io.stack import files_behind, open_particles
from clarice.pipeline.fingerprint import fingerprint_value
from clarice.pipeline.stages import IMMATERIAL


@dataclass(frozen=True)
class StackInput:
    """A particle stack and the options that say how to read it.

    `images` are the image files behind the table: they are listed so that a change in any of them is noticed. `root`
    only says where they are found.
    """

    table: Path
    images: tuple[Path, ...] = ()
    root: str | None = field(default=None, metadata=IMMATERIAL)
    passthrough: tuple[Path, ...] = ()
    pixel_size_angstrom: float | None = None
    optics_group: int | None = None

    @classmethod
    def of(
        cls,
        table: Path,
        root: Path | None = None,
        passthrough: tuple[Path, ...] = (),
        pixel_size_angstrom: float | None = None,
        optics_group: int | None = None,
    ) -> StackInput:
        """The input as the user names it, with its image files found. Raises InputError when it cannot be opened."""
        place = None if root is None else str(root)
        bare = cls(table, (), place, tuple(passthrough), pixel_size_angstrom, optics_group)
        behind = files_behind(bare.open().images)
        images = () if behind is None else tuple(Path(file.path) for file in behind[0].files)
        return cls(table, images, place, tuple(passthrough), pixel_size_angstrom, optics_group)

    def whereabouts(self) -> str:
        """A fingerprint of where the images lie, for stages that write it into tables."""
        return fingerprint_value([abspath(path) for path in self.images])

    def as_arguments(self) -> dict[str, Any]:
        """How the user named it, in JSON types."""
        return {
            "stack": str(self.table),
            "root": self.root,
            "passthrough": [str(path) for path in self.passthrough],
            "pixel_size_angstrom": self.pixel_size_angstrom,
            "optics_group": self.optics_group,
        }

    def open(self) -> ParticleSet:
        """The particles, images unread."""
        return open_particles(
            self.table, self.root, self.passthrough or None, self.pixel_size_angstrom, self.optics_group
        )
