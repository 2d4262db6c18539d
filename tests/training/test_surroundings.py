"""Structural noise of training sets: in as many of them as asked for, the same however they are shared out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clarice.core.errors import UsageError
from clarice.training.batches import EndlessSets, SetBatch
from clarice.training.set_draws import SetSettings, draw_sets
from clarice.training.specimen_pool import SpecimenPool
from clarice.training.specimens import SpecimenSettings
from clarice.training.surroundings import KINDS, draw_strengths


def sets(share: float, **changes: object) -> EndlessSets:
    settings = SetSettings(
        seed=3, images_per_batch=32, sizes=(8,), size_weights=(1.0,), structural_share=share, **changes
    )
    pool = SpecimenPool(SpecimenSettings(3, box=24), slots=4, replace_every=50)
    return EndlessSets(settings, pool, torch.device("cpu"))


def test_so_many_sets_carry_it_and_each_at_least_one_kind() -> None:
    strengths = draw_strengths(5000, 0.3, torch.Generator().manual_seed(1))
    carrying = strengths.any(axis=1)
    assert carrying.mean() == pytest.approx(0.3, abs=0.02)
    present = strengths[carrying] > 0
    assert present.mean(axis=0) == pytest.approx(np.full(len(KINDS), 0.5), abs=0.05)  # 0.4, or picked of six
    assert strengths[strengths > 0].min() > 0.25 - 1e-9
    assert strengths.max() < 2 + 1e-9


def test_without_it_batches_are_what_they_were() -> None:
    assert draw_sets(SetSettings(seed=1), 5, 4).strengths is None


@pytest.mark.parametrize("ctf_share", [0.0, 1.0])
def test_it_adds_to_the_noisy_images_alone(ctf_share: float) -> None:
    shares = {"ctf_share": ctf_share, "poisson_share": 0.0}
    plain, made = sets(0.0, **shares).batch(7), sets(1.0, **shares).batch(7)
    for name, values in plain.tensors().items():
        if name != "noisy":
            torch.testing.assert_close(values, made.tensors()[name])
    added = (made.noisy - plain.noisy).abs().amax(dim=(1, 2, 3))
    assert (added > 0.05).all()


def test_empty_images_carry_it_too() -> None:
    """Or a network would take carbon for the sign of a particle."""
    shares = {"empty_set_share": 1.0, "some_empty_share": 0.0, "poisson_share": 0.0}
    plain, made = sets(0.0, **shares).batch(2), sets(1.0, **shares).batch(2)
    assert not made.clean.any()
    assert ((made.noisy - plain.noisy).abs().amax(dim=(1, 2, 3)) > 0.05).all()


def test_processes_share_out_the_same_images() -> None:
    whole = sets(0.5).batch(3)
    parts = [sets(0.5).batch(3, rank, 2) for rank in (0, 1)]
    together = torch.empty_like(whole.noisy)
    together[0::2], together[1::2] = parts[0].noisy, parts[1].noisy
    torch.testing.assert_close(together, whole.noisy)


def test_the_same_position_gives_the_same_batch() -> None:
    def noisy(endless: EndlessSets) -> SetBatch:
        return endless.batch(4)

    once, again = noisy(sets(0.7)), noisy(sets(0.7))
    torch.testing.assert_close(once.noisy, again.noisy, rtol=0, atol=0)


def test_a_share_must_be_one() -> None:
    with pytest.raises(UsageError, match="structural_share must lie between 0 and 1"):
        SetSettings(seed=1, structural_share=1.5)
