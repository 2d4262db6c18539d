"""Defocus groups: drawn from a table or a model, shared by runs of particles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clarice.core.errors import InputError
from clarice.physics.ctf import ctf
from clarice.physics.defocus import (
    defocus_groups,
    group_of_particle,
    optics_of_groups,
    read_defocus_table,
    unit_optics,
)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_groups_are_equal_runs_in_order() -> None:
    group = group_of_particle(1000, 50)
    np.testing.assert_array_equal(np.bincount(group), np.full(50, 20))
    assert np.all(np.diff(group) >= 0)
    np.testing.assert_array_equal(group_of_particle(3, 50), [0, 1, 2])


def test_rows_of_a_table_come_without_repeats_while_they_last(tmp_path: Path) -> None:
    table = np.zeros((40, 4))
    table[:, 1] = np.repeat(np.arange(20), 2) * 1000.0
    table[:, 2] = table[:, 1] + 100
    np.savez(tmp_path / "t.npz", ctf=table, columns=np.array(["D", "DefU", "DefV", "DefAng"]))
    rows = read_defocus_table(tmp_path / "t.npz")
    assert len(rows) == 20
    drawn = defocus_groups(20, generator(), rows)
    assert len(np.unique(drawn[:, 0])) == 20
    assert len(defocus_groups(50, generator(), rows)) == 50


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_defocus_table(tmp_path / "none.npz")
    np.savez(tmp_path / "t.npz", ctf=np.zeros((3, 2)), columns=np.array(["a", "b"]))
    with pytest.raises(InputError, match="DefU"):
        read_defocus_table(tmp_path / "t.npz")
    (tmp_path / "junk.npz").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"junk\.npz"):
        read_defocus_table(tmp_path / "junk.npz")


def test_the_model_is_plausible_and_seeded() -> None:
    drawn = defocus_groups(500, generator())
    mean = drawn[:, :2].mean(axis=1)
    assert mean.min() >= 8000
    assert mean.max() <= 38700
    assert abs(mean.mean() - 20200) < 1000
    np.testing.assert_array_equal(drawn, defocus_groups(500, generator()))


def test_particles_take_the_defocus_of_their_group() -> None:
    groups = np.array([[1000.0, 900.0, 10.0], [2000.0, 1900.0, 20.0]])
    optics = optics_of_groups(
        groups,
        np.array([0, 1, 1]),
        voltage_kv=300.0,
        spherical_aberration_mm=2.7,
        amplitude_contrast=0.1,
        bfactor_angstrom2=30.0,
    )
    np.testing.assert_array_equal(optics.defocus_u_angstrom, [1000, 2000, 2000])
    np.testing.assert_array_equal(optics.bfactor_angstrom2, [30, 30, 30])


def test_unit_optics_have_a_ctf_of_one() -> None:
    torch.testing.assert_close(ctf(unit_optics(2, 300.0), 16, 3.0), torch.ones(2, 16, 16))


def test_the_table_of_a_real_set_reads(shared_data: Path) -> None:
    rows = read_defocus_table(shared_data / "formats" / "ctf_EMPIAR-10028_cryodrgn.npz")
    assert rows.shape == (1081, 3)
