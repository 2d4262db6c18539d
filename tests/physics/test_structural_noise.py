"""Structural noise in simulated sets: each kind is there, where it belongs, and only where it is asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clarice.core.errors import UsageError
from clarice.physics.domains import outer_domain, with_turned, without
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import MapPotential, SimulationSettings, simulate
from clarice.physics.structural_noise import StructuralNoise, kinds, other_shapes

MOLECULE = make_molecule(3, mass_kda=60)
SETTINGS = SimulationSettings(particles=40, box=32, seed=4, snr=0.3, defocus_groups=4)
PLAIN = simulate(MOLECULE, SETTINGS)


def with_structure(**strengths: float) -> np.ndarray:
    """What structural noise adds to the images."""
    made = simulate(MOLECULE, replace(SETTINGS, structural=StructuralNoise(**strengths)))
    np.testing.assert_array_equal(made.clean, PLAIN.clean)
    np.testing.assert_array_equal(made.poses.rotations, PLAIN.poses.rotations)
    return made.images - PLAIN.images


@pytest.mark.parametrize("kind", kinds())
def test_each_kind_adds_to_the_images_and_leaves_clean_ones_and_other_draws_alone(kind: str) -> None:
    if kind == "floppy":  # another signal, and so a slightly other scale
        made = simulate(MOLECULE, replace(SETTINGS, structural=StructuralNoise(floppy=1)))
        ratio = made.scale / PLAIN.scale
        assert ratio == pytest.approx(1, rel=0.1)
        np.testing.assert_allclose(made.clean, PLAIN.clean * ratio, rtol=1e-4, atol=1e-5)
        assert np.abs(made.images - PLAIN.images).max() > 0.1
        return
    added = with_structure(**{kind: 1.0})
    assert float(np.abs(added).max()) > 0.3
    assert float(np.abs(added).std(axis=(1, 2)).std()) > 0  # each image has its own


@pytest.mark.parametrize("kind", ["neighbours", "carbon", "ice"])
def test_what_lies_in_the_specimen_is_seen_through_the_ctf(kind: str) -> None:
    """At the origin of Fourier space only amplitude contrast is left of it."""
    bare = replace(SETTINGS, noise="none", ctf=False, max_shift_px=0)
    potential, seen = (
        simulate(MOLECULE, replace(bare, ctf=ctf, structural=StructuralNoise(**{kind: 1.0}))).images
        - simulate(MOLECULE, replace(bare, ctf=ctf)).images
        for ctf in (False, True)
    )
    # Both sets are scaled to the same SNR, the one with a CTF being much the larger in volts.
    share = np.abs(seen.mean(axis=(1, 2))) / seen.std(axis=(1, 2)).clip(min=1e-6)
    whole = np.abs(potential.mean(axis=(1, 2))) / potential.std(axis=(1, 2)).clip(min=1e-6)
    there = potential.std(axis=(1, 2)) > 0.01
    assert np.median(share[there]) < 0.5 * np.median(whole[there])


def test_strength_scales_what_is_added() -> None:
    once, twice = with_structure(carbon=0.5), with_structure(carbon=1.0)
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-3, atol=1e-4)


def test_neighbours_leave_the_middle_free() -> None:
    bare = replace(SETTINGS, noise="none", ctf=False)
    added = (
        simulate(MOLECULE, replace(bare, structural=StructuralNoise(neighbours=4))).images
        - simulate(MOLECULE, bare).images
    )
    power = np.square(added).mean(axis=0)
    assert power[14:19, 14:19].mean() < 0.05 * power[[0, 0, -1, -1], [0, -1, 0, -1]].mean()


def test_the_same_settings_give_the_same_set() -> None:
    strengths = StructuralNoise(neighbours=1, carbon=1, ice=1, floppy=0.5, gradient=1, streaks=1, hot_pixels=1)
    whole = simulate(MOLECULE, replace(SETTINGS, structural=strengths)).images
    again = simulate(MOLECULE, replace(SETTINGS, structural=strengths)).images
    np.testing.assert_array_equal(whole, again)


@pytest.mark.parametrize(
    ("strengths", "words"),
    [({"carbon": -1.0}, "carbon=-1 must be a number of at least 0"), ({"floppy": 1.5}, "floppy=1.5 must lie between")],
)
def test_strengths_that_cannot_be_are_refused(strengths: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        StructuralNoise(**strengths)
    with pytest.raises(UsageError, match="ice=nan"):
        StructuralNoise(ice=float("nan"))


def test_a_map_has_no_domains_to_move() -> None:
    settings = replace(SETTINGS, structural=StructuralNoise(floppy=0.5))
    with pytest.raises(UsageError, match="floppy needs the atoms of a structure"):
        simulate(MapPotential(torch.rand((16, 16, 16)), 4.0), settings)


def test_domains_are_turned_about_where_they_hang_or_left_out() -> None:
    rng = np.random.default_rng(0)
    domain = outer_domain(MOLECULE, 0.2, rng)
    assert len(domain) == int(0.2 * len(MOLECULE))
    assert len(without(MOLECULE, domain)) == len(MOLECULE) - len(domain)
    turned = with_turned(MOLECULE, domain, 40.0, rng)
    rest = np.setdiff1d(np.arange(len(MOLECULE)), domain)
    np.testing.assert_array_equal(turned.positions_angstrom[rest], MOLECULE.positions_angstrom[rest])
    before, after = (atoms.positions_angstrom[domain] for atoms in (MOLECULE, turned))
    moved = np.linalg.norm(after - before, axis=1)
    assert moved.min() < 1e-9  # the hinge
    assert moved.max() > 3
    np.testing.assert_allclose(  # as a rigid body
        np.linalg.norm(after - after[0], axis=1), np.linalg.norm(before - before[0], axis=1), atol=1e-9
    )
    lengths = [len(shape) for shape in other_shapes(MOLECULE, rng)]
    assert lengths[0] == lengths[2] == len(MOLECULE)
    assert lengths[1] < len(MOLECULE)
