"""Structures of the protocol `denoise`: molecules without data, one a cluster with it, and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from clarice.benchmark.denoise_subjects import LEAST_ATOMS, PROCEDURAL, choose_subjects
from clarice.core.errors import UsageError


def test_without_data_molecules_stand_in() -> None:
    name, subjects = choose_subjects(["molecule-105"], None)
    assert name == PROCEDURAL
    assert [subject.entry for subject in subjects] == ["molecule-105"]


def test_test_and_validation_structures_stay_apart(shared_data: Path) -> None:
    _, test = choose_subjects(None, shared_data)
    _, validation = choose_subjects(None, shared_data, validation=True)
    assert len(test) >= 20
    assert len(validation) == 8
    assert not {subject.entry for subject in test} & {subject.entry for subject in validation}
    assert all(len(subject.atoms) >= LEAST_ATOMS for subject in test + validation)


def test_entries_of_the_other_collection_are_refused(shared_data: Path) -> None:
    assert choose_subjects(["1BXN"], shared_data)[1][0].entry.lower() == "1bxn"
    with pytest.raises(UsageError, match="--validation"):
        choose_subjects(["1qvr"], shared_data)
    with pytest.raises(UsageError, match="is not in validation"):
        choose_subjects(["1bxn"], shared_data, validation=True)
