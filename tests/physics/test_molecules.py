"""Procedural molecules: mass, shape, symmetry, packing, speed of making."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.spatial import cKDTree

from clarice.core.errors import UsageError
from clarice.geometry.so3 import symmetry_rotations
from clarice.physics.atoms import Atoms
from clarice.physics.molecules import Shape, make_molecule


def mass_kda(atoms: Atoms) -> float:
    """Mass by scattering: 0.168 Å per Dalton of protein without hydrogen's share."""
    return float(atoms.scattering_mass().sum()) / 0.168 / 1000


def principal_extents(atoms: Atoms) -> np.ndarray:
    """Standard deviations along the principal axes, largest first."""
    values: np.ndarray = np.linalg.svd(atoms.positions_angstrom, compute_uv=False)
    return values / np.sqrt(len(atoms))


@pytest.mark.parametrize("mass", [20.0, 80.0, 300.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_mass_is_about_what_was_asked(mass: float, seed: int) -> None:
    assert mass_kda(make_molecule(seed, mass_kda=mass)) == pytest.approx(mass, rel=0.3 if mass < 50 else 0.2)


def test_the_same_seed_gives_the_same_molecule() -> None:
    first, second = make_molecule(4, mass_kda=100), make_molecule(4, mass_kda=100)
    np.testing.assert_array_equal(first.positions_angstrom, second.positions_angstrom)
    np.testing.assert_array_equal(first.weight, second.weight)
    assert len(make_molecule(5, mass_kda=100)) != len(first)


@pytest.mark.parametrize("symmetry", ["C2", "C5", "D3", "T"])
def test_an_assembly_has_its_symmetry(symmetry: str) -> None:
    atoms = make_molecule(3, mass_kda=250, symmetry=symmetry)
    tree = cKDTree(atoms.positions_angstrom)
    for operator in symmetry_rotations(symmetry):
        distance, partner = tree.query(atoms.positions_angstrom @ operator.T)
        assert np.max(distance) < 1e-6
        np.testing.assert_allclose(atoms.weight[partner], atoms.weight)
        np.testing.assert_allclose(atoms.b_factor[partner], atoms.b_factor)


def test_without_symmetry_no_rotation_maps_it_onto_itself() -> None:
    atoms = make_molecule(3, mass_kda=250)
    tree = cKDTree(atoms.positions_angstrom)
    for operator in symmetry_rotations("D2")[1:]:
        assert np.median(tree.query(atoms.positions_angstrom @ operator.T)[0]) > 1.0


def test_pseudo_atoms_do_not_pile_up() -> None:
    atoms = make_molecule(6, mass_kda=200)
    nearest = cKDTree(atoms.positions_angstrom).query(atoms.positions_angstrom, k=2)[0][:, 1]
    assert np.quantile(nearest, 0.01) > 0.4
    # A protein packs a residue into 134 Å³, with three pseudo-atoms each: some 20 within 7 Å, never hundreds.
    within = cKDTree(atoms.positions_angstrom).query_ball_point(atoms.positions_angstrom, 7.0, return_length=True)
    assert 15 < np.median(within) < 60
    assert np.max(within) < 100


def test_shapes_look_their_part() -> None:
    options: dict[str, Shape] = {name: name for name in ("compact", "elongated", "ring", "hollow")}  # type: ignore[misc]
    extents = {name: principal_extents(make_molecule(8, mass_kda=500, shape=name)) for name in options}
    assert extents["elongated"][0] / extents["elongated"][1] > extents["compact"][0] / extents["compact"][1]
    assert extents["elongated"][0] / extents["elongated"][2] > 1.8
    assert extents["compact"][0] / extents["compact"][2] < 1.8
    assert extents["ring"][1] / extents["ring"][2] > 1.4  # flat
    for name, inside in (("ring", True), ("hollow", True), ("compact", False)):
        radius = np.linalg.norm(make_molecule(8, mass_kda=500, shape=options[name]).positions_angstrom, axis=1)
        assert (np.mean(radius < 15) < 0.005) == inside, name


def test_sizes_range_widely_by_seed() -> None:
    masses = [mass_kda(make_molecule(seed)) for seed in range(12)]
    assert min(masses) < 80
    assert max(masses) > 400


def test_the_largest_is_made_in_about_a_second() -> None:
    started = time.process_time()
    make_molecule(2, mass_kda=1000, shape="compact")
    assert time.process_time() - started < 4


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"mass_kda": 5}, "5 kDa"),
        ({"shape": "cube"}, "cube"),
        ({"symmetry": "Q3"}, "Q3"),
        ({"seed": -1}, "-1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        make_molecule(**{"seed": 1, **options})  # type: ignore[arg-type]
