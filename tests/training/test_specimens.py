"""Specimens by number: the same volume every time, inside the box, as large and as complete as asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clarice.core.errors import UsageError
from clarice.geometry.fourier import radius_grid
from clarice.physics.atoms import Atoms
from clarice.training.specimens import SpecimenSettings, blurred, draw_atoms, make_specimen, without_a_part
from clarice.training.structures import training_structures

SETTINGS = SpecimenSettings(seed=2, box=24)


def test_a_number_is_always_the_same_specimen() -> None:
    one, again, other = (make_specimen(SETTINGS, number, None) for number in (4, 4, 5))
    assert torch.equal(one.volume, again.volume)
    assert one.pixel_size_angstrom == again.pixel_size_angstrom
    assert not torch.allclose(one.volume, other.volume)


@pytest.mark.parametrize("number", range(4))
def test_molecules_fill_the_box_as_asked(number: int) -> None:
    specimen = make_specimen(SETTINGS, number, None)
    atoms, _ = draw_atoms(SETTINGS, number, None)
    fill = atoms.diameter_angstrom() / specimen.pixel_size_angstrom / SETTINGS.box
    assert 0.45 <= fill <= 0.75
    assert float(specimen.volume.square().mean()) == pytest.approx(1.0, rel=1e-4)
    outside = radius_grid(SETTINGS.box, 3) > 0.5 * SETTINGS.box
    assert float(specimen.volume[outside].square().sum() / specimen.volume.square().sum()) < 0.005
    assert float(specimen.volume.sum()) > 0  # protein is bright


def cloud(count: int = 400) -> Atoms:
    points = np.random.default_rng(1).normal(size=(count, 3)) * 20
    return Atoms.of(points, np.full(count, 6), np.full(count, 23.0))


def test_a_missing_part_is_one_piece() -> None:
    atoms = cloud()
    kept = without_a_part(atoms, 0.2, np.random.default_rng(3))
    assert len(kept) == 320
    here = {tuple(point) for point in kept.positions_angstrom}
    gone = np.array([point for point in atoms.positions_angstrom if tuple(point) not in here])
    middle = gone.mean(axis=0)
    spread = np.linalg.norm(gone - middle, axis=1).mean()
    assert spread < 0.8 * np.linalg.norm(kept.positions_angstrom - kept.positions_angstrom.mean(axis=0), axis=1).mean()
    assert np.linalg.norm(middle) > 10  # off the centre


def test_blurring_adds_b_factor_in_steps() -> None:
    assert np.all(blurred(cloud(), 60.0).b_factor == 85.0)
    assert np.all(blurred(cloud(), 0.0).b_factor == 25.0)


def test_real_structures_complexes_and_molecules_all_occur(shared_data: Path) -> None:
    structures = training_structures(shared_data)
    assert structures is not None
    origins = [draw_atoms(SETTINGS, number, structures)[1] for number in range(40)]
    whole = [name for name in origins if name in structures.ids]
    molecules = [name for name in origins if name.startswith("molecule")]
    complexes = [name for name in origins if name not in whole and name not in molecules]
    assert min(len(whole), len(molecules), len(complexes)) >= 4
    for name in complexes:
        chains, group = name.split()
        assert set(chains.split("+")) <= set(structures.ids)
        assert group[0] in "CDTO"


@pytest.mark.parametrize(
    "options", [{"seed": -1}, {"box": 4}, {"least_fill": 0.8, "largest_fill": 0.5}, {"largest_fill": 1.2}]
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        SpecimenSettings(**{"seed": 1, **options})  # type: ignore[arg-type]
