"""Endless molecules to train on: specimen number k of a seed is always the same volume.

Three sources: whole training structures, made-up complexes of their chains, and procedural molecules. Each is
varied in size, sharpness and completeness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation
from torch import Tensor

from clarice.core.errors import UsageError
from clarice.physics.atoms import Atoms
from clarice.physics.domains import outer_domain, without
from clarice.physics.molecules import make_molecule
from clarice.physics.potential import atoms_to_volume
from clarice.training.assemblies import pressed_together, symmetric_assembly
from clarice.training.structures import StructureCollection

# How often each source is drawn where training structures are at hand.
_SOURCE_ODDS = {"structure": 0.35, "complex": 0.4, "molecule": 0.25}
_GROUP_ODDS = {
    "C1": 0.25, "C2": 0.2, "C3": 0.12, "C4": 0.08, "C5": 0.04, "C6": 0.04, "C7": 0.03, "C8": 0.02,
    "D2": 0.08, "D3": 0.05, "D4": 0.03, "D5": 0.01, "D6": 0.01, "D7": 0.01, "T": 0.02, "O": 0.01,
}  # fmt: skip
_CHAINS_ODDS = (0.6, 0.25, 0.15)  # one, two or three chains in the asymmetric part of a complex
_MOLECULE_KDA = (30.0, 900.0)
_MOST_ATOMS = 200_000
# Augmentation: how often, and how much.
_MISSING_ODDS, _MISSING_SHARE = 0.15, (0.05, 0.25)
_BLUR_ODDS, _BLUR_B_FACTOR = 0.5, 100.0
# B-factors are rounded to this: a potential costs a decomposition of all different form factors, and few are quick.
_B_FACTOR_STEP = 5.0
# Nothing may reach farther from the centre than this share of the box.
_LARGEST_RADIUS = 0.48


@dataclass(frozen=True)
class SpecimenSettings:
    """What decides specimen number k: the seed, the box, and the share of it that the largest diameter fills."""

    seed: int
    box: int = 64
    least_fill: float = 0.5
    largest_fill: float = 0.75

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"the seed {self.seed} must not be negative")
        if self.box < 8:
            raise UsageError(f"the box of {self.box} must be at least 8 pixels")
        if not 0 < self.least_fill <= self.largest_fill <= 0.9:
            message = f"a molecule cannot fill {self.least_fill:g} to {self.largest_fill:g} of the box: choose 0 to 0.9"
            raise UsageError(message)


@dataclass(frozen=True)
class Specimen:
    """A molecule in its box: `volume` (L, L, L), of unit mean square, protein bright; `origin` says what it is."""

    number: int
    origin: str
    volume: Tensor
    pixel_size_angstrom: float


def draw_atoms(settings: SpecimenSettings, number: int, structures: StructureCollection | None) -> tuple[Atoms, str]:
    """The atoms of specimen `number`, augmented, and where they come from; procedural without structures."""
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, number, 1]))
    source = str(rng.choice(list(_SOURCE_ODDS), p=list(_SOURCE_ODDS.values())))
    if structures is None or source == "molecule":
        atoms, origin = _procedural(rng)
    elif source == "structure":
        entry = structures.draw_entry(rng)
        atoms, origin = structures.atoms(entry), structures.ids[entry]
    else:
        atoms, origin = _complex(structures, rng)
    if rng.random() < _MISSING_ODDS:
        atoms = without_a_part(atoms, rng.uniform(*_MISSING_SHARE), rng)
    extra = rng.uniform(0, _BLUR_B_FACTOR) if rng.random() < _BLUR_ODDS else 0.0
    turned = atoms.rotated(np.asarray(Rotation.random(rng=rng).as_matrix())).centred()
    return blurred(turned, extra), origin


def make_specimen(settings: SpecimenSettings, number: int, structures: StructureCollection | None) -> Specimen:
    """Specimen `number`: the same for the same settings and structures, whatever was made before."""
    atoms, origin = draw_atoms(settings, number, structures)
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, number, 2]))
    fill = rng.uniform(settings.least_fill, settings.largest_fill)
    radius = float(np.linalg.norm(atoms.positions_angstrom, axis=1).max())
    pixel_size = max(atoms.diameter_angstrom() / fill, radius / _LARGEST_RADIUS) / settings.box
    volume = atoms_to_volume(atoms, settings.box, pixel_size)
    return Specimen(number, origin, volume / volume.square().mean().sqrt(), pixel_size)


def without_a_part(atoms: Atoms, share: float, rng: np.random.Generator) -> Atoms:
    """The atoms without an outer domain of a share of them."""
    return without(atoms, outer_domain(atoms, share, rng))


def blurred(atoms: Atoms, b_factor_angstrom2: float) -> Atoms:
    """The atoms with that much more B-factor each, in whole steps."""
    b_factor = np.round((atoms.b_factor + b_factor_angstrom2) / _B_FACTOR_STEP) * _B_FACTOR_STEP
    return Atoms(atoms.positions_angstrom, atoms.atomic_number, b_factor, atoms.weight)


def _draw_group(rng: np.random.Generator) -> str:
    odds = np.array(list(_GROUP_ODDS.values()))
    return str(rng.choice(list(_GROUP_ODDS), p=odds / odds.sum()))


def _procedural(rng: np.random.Generator) -> tuple[Atoms, str]:
    group, seed = _draw_group(rng), int(rng.integers(2**31))
    mass = float(np.exp(rng.uniform(*np.log(_MOLECULE_KDA))))
    return make_molecule(seed, mass_kda=mass, symmetry=group), f"molecule {seed} {group}"


def _complex(structures: StructureCollection, rng: np.random.Generator) -> tuple[Atoms, str]:
    """One to three chains, from different draws of a cluster, copied under a point group."""
    count = int(rng.choice(3, p=_CHAINS_ODDS)) + 1
    chosen = [structures.draw_chain(rng) for _ in range(count)]
    body = pressed_together([structures.atoms(*one) for one in chosen], rng)
    group = _draw_group(rng)
    names = "+".join(structures.ids[entry] for entry, _ in chosen)
    atoms = symmetric_assembly(body, group, rng)
    # A whole virus without long chains can be drawn for a chain: too much to copy.
    return (atoms, f"{names} {group}") if len(atoms) <= _MOST_ATOMS else (body, f"{names} C1")
