"""Fixed sets that training is judged on: validation structures, imaged the exact way, kept on disk.

The structures share no cluster with those trained on. Without a folder of data, procedural molecules that training
never draws stand in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from torch import Tensor

from clarice.core.errors import InputError, UsageError
from clarice.core.progress import Progress, silent
from clarice.io.atomic import writing
from clarice.physics.atoms import Atoms
from clarice.physics.ctf import ctf_at, rfft_frequency_grid
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulatedSet, SimulationSettings, default_pixel_size, simulate
from clarice.physics.structural_noise import StructuralNoise, kinds
from clarice.physics.turned_views import turned_views
from clarice.training.batches import SetBatch
from clarice.training.structures import StructureCollection

# Changes when the sets of the same settings change.
_FORMAT = 3
_FILE = "validation.npz"
# 40 kDa at 14.1 Da a non-hydrogen atom.
_LEAST_ATOMS = 2840
# Below this pixel size the CTF spreads particles over several boxes.
LEAST_CTF_PIXEL_ANGSTROM = 2.5
# Procedural stand-ins: seeds beyond those of training, kDa and symmetry.
_STAND_INS = ((450.0, "C1"), (310.0, "D3"), (165.0, "C2"), (60.0, "C1"), (250.0, "C1"), (120.0, "C4"))
_FIRST_SEED = 2**31


@dataclass(frozen=True)
class SetKind:
    """`sets` sets a structure of `images` images each, from `views` views (0: every image its own) turned at random.

    With `ctf`, structures whose pixel is small are left out. Of an `empty` set only the noise is there. `structural`:
    strengths of structural noise by kind.
    """

    name: str
    images: int
    views: int
    snr: float
    sets: int = 1
    ctf: bool = False
    max_shift_px: float = 0.0
    empty: bool = False
    structural: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := set(self.structural) - set(kinds()):
            raise UsageError(f"validation set {self.name}: there is no structural noise {min(unknown)!r}")
        if self.images < 1 or self.sets < 1 or self.views < 0:
            raise UsageError(f"validation set {self.name}: images and sets must be at least 1, and views at least 0")


SMALL_KINDS = (
    SetKind("single-snr0.05", images=1, views=0, snr=0.05, sets=16),
    SetKind("directional-32-snr0.02", images=32, views=1, snr=0.02),
    SetKind("general-128-snr0.02", images=128, views=8, snr=0.02),
    SetKind("general-128-snr0.05", images=128, views=8, snr=0.05),
    SetKind("all-different-128-snr0.05", images=128, views=0, snr=0.05),
    SetKind("general-128-snr0.05-ctf", images=128, views=8, snr=0.05, ctf=True, max_shift_px=3.0),
    SetKind("empty-128-snr0.02", images=128, views=8, snr=0.02, empty=True),
)


@dataclass(frozen=True)
class ValidationSettings:
    """What is validated on: the kinds of sets, for the largest structure of each of `structures` clusters."""

    seed: int = 1
    box: int = 64
    structures: int = 3
    kinds: Sequence[SetKind] = SMALL_KINDS

    def __post_init__(self) -> None:
        if self.structures < 1:
            raise UsageError(f"validation structures {self.structures} must be at least 1")
        if len({kind.name for kind in self.kinds}) < len(self.kinds):
            raise UsageError("two kinds of validation sets have the same name: give each its own")
        if all(kind.empty for kind in self.kinds):
            raise UsageError("no kind of validation sets has particles in it: add one to judge by")


@dataclass(frozen=True)
class ValidationSubject:
    """A structure to validate on: its name and its centred atoms."""

    entry: str
    atoms: Atoms


def validation_sets(
    settings: ValidationSettings, data: Path | None, cache: Path | None = None, progress: Progress = silent
) -> dict[str, SetBatch]:
    """The sets of each kind by name, B = structures × sets, on the CPU; the same for the same settings and data.

    With a folder `cache` they are kept there and read back next time.

    Raises InputError when the data folder has no validation structures, UsageError when a kind has no structure fit
    for it, OutputError when the cache cannot be written.
    """
    collection = _collection(data)
    path = None if cache is None else cache / f"validation-{_digest(settings, collection)}.pt"
    kept = None if path is None else _read(path, settings)
    if kept is not None:
        return kept
    subjects = validation_subjects(settings.structures, data)
    made: dict[str, SetBatch] = {}
    for number, kind in enumerate(settings.kinds, start=1):
        parts = [
            one
            for subject in subjects
            if not kind.ctf or default_pixel_size(subject.atoms, settings.box) >= LEAST_CTF_PIXEL_ANGSTROM
            for one in _sets_of(subject, kind, settings)
        ]
        if not parts:
            raise UsageError(f"validation set {kind.name}: no structure has pixels of 2.5 Å; take more structures")
        made[kind.name] = _joined(parts)
        progress("validation sets", number, len(settings.kinds))
    if path is not None:
        with writing(path) as temporary:
            torch.save({name: batch.tensors() for name, batch in made.items()}, temporary)
    return made


def _collection(data: Path | None) -> Path | None:
    if data is None:
        return None
    for path in (data / "structures" / _FILE, data / _FILE):
        if path.is_file():
            return path
    raise InputError(f"{data} holds no structures/{_FILE}: name the folder that does, or none for procedural molecules")


def _digest(settings: ValidationSettings, collection: Path | None) -> str:
    content = b"" if collection is None else collection.read_bytes()
    words = json.dumps([_FORMAT, asdict(settings), hashlib.sha256(content).hexdigest()], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def validation_subjects(count: int, data: Path | None) -> list[ValidationSubject]:
    """The largest validation structure of each of `count` clusters, or as many molecules without a folder `data`.

    Raises InputError when the folder has no validation structures, UsageError when there are not so many.
    """
    collection = _collection(data)
    if collection is None:
        if count > len(_STAND_INS):
            raise UsageError(f"there are {len(_STAND_INS)} molecules to validate on, not {count}")
        seeds = range(_FIRST_SEED, _FIRST_SEED + count)
        made = [
            make_molecule(seed, mass_kda=kda, symmetry=s) for seed, (kda, s) in zip(seeds, _STAND_INS, strict=False)
        ]
        return [ValidationSubject(f"molecule-{seed}", atoms) for seed, atoms in zip(seeds, made, strict=True)]
    entries = StructureCollection(collection)
    largest = entries.largest_of_clusters(_LEAST_ATOMS)
    if count > len(largest):
        raise UsageError(f"{collection} holds {len(largest)} clusters of 40 kDa, not {count}")
    return [ValidationSubject(entries.ids[one], entries.atoms(one).centred()) for one in largest[:count]]


def _sets_of(subject: ValidationSubject, kind: SetKind, settings: ValidationSettings) -> list[SetBatch]:
    """A structure's sets of one kind. Sets of one image are one simulation, whose SNR they have on average."""
    stacks, particles = (1, kind.sets) if kind.images == 1 else (kind.sets, kind.images)
    made = [_stack(subject, kind, settings, number, particles) for number in range(stacks)]
    if kind.images > 1:
        return made
    return [_apart(stack) for stack in made]


def _apart(stack: SetBatch) -> SetBatch:
    """One set of n images as n sets of one. Empty ones keep the set's power, which particles would have had."""
    each = {name: values.transpose(0, 1) for name, values in stack.tensors().items() if name not in ("snr", "power")}
    count = stack.view.shape[1]
    own = stack.clean[0].square().sum(dim=(-2, -1))
    each |= {"snr": stack.snr.expand(count), "power": torch.where(stack.view[0] >= 0, own, stack.power)}
    return SetBatch.of({name: values.contiguous() for name, values in each.items()})


def _stack(
    subject: ValidationSubject, kind: SetKind, settings: ValidationSettings, number: int, particles: int
) -> SetBatch:
    words = f"{settings.seed} {subject.entry} {kind.name} {number}"
    seed = int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big")
    generator = torch.Generator().manual_seed(seed)
    shown = turned_views(particles, 0 if kind.images == 1 else kind.views, kind.max_shift_px, generator)
    view = shown.view
    simulation = SimulationSettings(
        particles,
        settings.box,
        seed,
        snr=kind.snr,
        ctf=kind.ctf,
        max_shift_px=kind.max_shift_px,
        structural=StructuralNoise(**kind.structural),
    )
    made = simulate(subject.atoms, simulation, poses=shown.poses)
    noisy, clean = torch.from_numpy(made.images)[None], torch.from_numpy(made.clean)[None]
    power = clean.square().sum(dim=(-2, -1)).mean(dim=1)
    if kind.empty:
        noisy = torch.randn(noisy.shape, generator=generator)
        clean, view = torch.zeros_like(clean), np.full_like(view, -1)
    return SetBatch(
        noisy,
        clean,
        _transfer(made)[None] if kind.ctf else None,
        torch.from_numpy(view)[None],
        torch.from_numpy(shown.angle_rad).float()[None],
        torch.tensor([kind.snr]),
        power,
    )


def _transfer(made: SimulatedSet) -> Tensor:
    fy, fx = rfft_frequency_grid(made.settings.box)
    pixel, optics = made.particles.pixel_size_angstrom, made.particles.optics
    if optics is None:
        raise ValueError("a simulated set carries its optics")
    return ctf_at(optics, fx / pixel, fy / pixel)


def _joined(parts: Sequence[SetBatch]) -> SetBatch:
    each = [part.tensors() for part in parts]
    return SetBatch.of({name: torch.cat([one[name] for one in each]) for name in each[0]})


def _read(path: Path, settings: ValidationSettings) -> dict[str, SetBatch] | None:
    """The kept sets, None where they are missing or damaged: they are then made again."""
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        return {kind.name: SetBatch.of(kept[kind.name]) for kind in settings.kinds}
    except (OSError, RuntimeError, EOFError, UnpicklingError, KeyError, TypeError):
        return None
