"""The pool: which specimen stands where, and that building ahead changes nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tests.training.small_sets import small_pool

from clarice.core.errors import UsageError
from clarice.geometry.interpolated_slices import oversampled_spectrum
from clarice.training.specimen_pool import SpecimenPool
from clarice.training.specimens import SpecimenSettings, make_specimen

CPU = torch.device("cpu")


def test_one_slot_after_the_other_gets_a_new_specimen() -> None:
    pool = small_pool()  # three slots, one replaced every two batches
    assert pool.numbers(0).tolist() == pool.numbers(1).tolist() == [0, 1, 2]
    assert pool.numbers(2).tolist() == [3, 1, 2]
    assert pool.numbers(4).tolist() == [3, 4, 2]
    assert pool.numbers(8).tolist() == [6, 4, 5]


@pytest.mark.parametrize("slots", [1, 4, 7])
def test_every_specimen_has_its_turn_and_none_comes_back(slots: int) -> None:
    pool = small_pool(slots=slots, replace_every=1)
    standing = [pool.numbers(position) for position in range(5 * slots)]
    for before, after in itertools.pairwise(standing):
        changed = np.flatnonzero(before != after)
        assert len(changed) == 1
        assert after[changed[0]] == max(before) + 1
        assert changed[0] == after[changed[0]] % slots


@pytest.mark.parametrize("workers", [1, 2])
def test_what_stands_in_a_slot_is_the_specimen_of_that_number(workers: int) -> None:
    pool = small_pool(workers=workers)
    pool.expect([9, 4, 1])  # of these only 4 is asked for
    table, pixel_sizes = pool.spectra(4, np.array([1]), CPU)
    specimen = make_specimen(pool.settings, 4, None)
    assert torch.equal(table[1], oversampled_spectrum(specimen.volume))
    assert pixel_sizes[1] == specimen.pixel_size_angstrom


def test_specimens_are_built_once_while_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    make = make_specimen

    def counted(settings: SpecimenSettings, number: int, structures: None) -> object:
        built.append(number)
        return make(settings, number, structures)

    monkeypatch.setattr("clarice.training.specimen_pool.make_specimen", counted)
    pool = small_pool()
    for position in range(4):
        numbers = [*pool.numbers(position), *pool.numbers(position + 1)]
        pool.spectra(position, np.arange(3), CPU)
        pool.expect(numbers)
    pool.spectra(4, np.arange(3), CPU)
    assert sorted(built) == [0, 1, 2, 3, 4]


def test_what_specimens_are_made_from_is_said() -> None:
    assert "procedural molecules only" in small_pool().description


@pytest.mark.parametrize("options", [{"slots": 0}, {"replace_every": 0}, {"workers": 0}])
def test_numbers_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        SpecimenPool(SpecimenSettings(seed=1), None, **options)
