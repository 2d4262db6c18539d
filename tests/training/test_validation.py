"""The fixed sets: what they hold, that they stay the same, and that training never sees their structures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clarice.core.errors import InputError, UsageError
from clarice.training.batches import SetBatch
from clarice.training.validation import SetKind, ValidationSettings, validation_sets

KINDS = (
    SetKind("single", images=1, views=0, snr=0.05, sets=5),
    SetKind("directional", images=12, views=1, snr=0.02),
    SetKind("general", images=12, views=3, snr=0.05, sets=2),
    SetKind("different", images=6, views=0, snr=0.05),
    SetKind("ctf", images=6, views=2, snr=0.05, ctf=True, max_shift_px=2.0),
    SetKind("empty", images=12, views=3, snr=0.02, empty=True),
)
SETTINGS = ValidationSettings(seed=1, box=24, structures=2, kinds=KINDS)


@pytest.fixture(scope="module")
def made() -> dict[str, SetBatch]:
    return validation_sets(SETTINGS, None)


def test_each_kind_has_its_sets(made: dict[str, SetBatch]) -> None:
    shapes = {name: tuple(batch.noisy.shape) for name, batch in made.items()}
    assert shapes == {
        "single": (10, 1, 24, 24),
        "directional": (2, 12, 24, 24),
        "general": (4, 12, 24, 24),
        "different": (2, 6, 24, 24),
        "ctf": (2, 6, 24, 24),
        "empty": (2, 12, 24, 24),
    }
    assert [name for name, batch in made.items() if batch.transfer is not None] == ["ctf"]
    for batch in made.values():
        assert batch.snr.shape == batch.power.shape == batch.noisy.shape[:1]


def test_views_are_as_many_as_asked(made: dict[str, SetBatch]) -> None:
    assert torch.all(made["directional"].view == 0)
    assert {len(row.unique()) for row in made["general"].view} <= {2, 3}
    assert {len(row.unique()) for row in made["different"].view} == {6}
    assert torch.all(made["empty"].view == -1)


def test_images_of_one_view_are_turned_copies(made: dict[str, SetBatch]) -> None:
    """Turning changes the image but not the sum over it."""
    clean = made["directional"].clean
    sums = clean.sum(dim=(-2, -1))
    assert torch.allclose(sums, sums.mean(dim=1, keepdim=True), rtol=1e-3)
    assert float((clean[:, 0] - clean[:, 1]).norm() / clean[:, 0].norm()) > 0.1


def test_power_noise_and_snr_are_as_said(made: dict[str, SetBatch]) -> None:
    for name in ("single", "directional", "general", "different"):
        batch = made[name]
        power = batch.clean.square().sum(dim=(-2, -1)).mean(dim=1)
        assert torch.allclose(batch.power, power, rtol=1e-4)
        assert float(power.mean()) / 24**2 == pytest.approx(float(batch.snr[0]), rel=1e-3)
        assert float((batch.noisy - batch.clean).var()) == pytest.approx(1.0, abs=0.08)
    assert torch.all(made["empty"].clean == 0)
    assert torch.all(made["empty"].power > 0)
    assert float(made["empty"].noisy.var()) == pytest.approx(1.0, abs=0.05)


def test_the_ctf_is_the_transfer(made: dict[str, SetBatch]) -> None:
    batch = made["ctf"]
    assert batch.transfer is not None
    passed = torch.fft.irfft2(torch.fft.rfft2(batch.clean) * batch.transfer, s=(24, 24))
    noise = batch.noisy - passed
    assert float(noise.var()) < float((batch.noisy - batch.clean).var())
    assert float(noise.var()) == pytest.approx(1.0, abs=0.1)


def same(one: dict[str, SetBatch], other: dict[str, SetBatch]) -> bool:
    return all(
        torch.equal(tensor, other[name].tensors()[part])
        for name, batch in one.items()
        for part, tensor in batch.tensors().items()
    )


def test_sets_are_kept_and_read_back(made: dict[str, SetBatch], tmp_path: Path) -> None:
    assert same(made, validation_sets(SETTINGS, None, tmp_path))
    (kept,) = tmp_path.glob("validation-*.pt")
    stamp = kept.stat().st_mtime_ns
    assert same(made, validation_sets(SETTINGS, None, tmp_path))
    assert kept.stat().st_mtime_ns == stamp
    kept.write_bytes(kept.read_bytes()[:1000])
    assert same(made, validation_sets(SETTINGS, None, tmp_path))


def test_other_settings_are_other_sets(made: dict[str, SetBatch], tmp_path: Path) -> None:
    few = (SetKind("general", images=12, views=3, snr=0.05, sets=2),)
    validation_sets(ValidationSettings(1, 24, 2, few), None, tmp_path)
    other = validation_sets(ValidationSettings(2, 24, 2, few), None, tmp_path)
    assert len(list(tmp_path.glob("validation-*.pt"))) == 2
    assert not torch.equal(other["general"].noisy, made["general"].noisy)


def test_real_sets_come_from_the_validation_structures(shared_data: Path) -> None:
    kinds = (SetKind("general", images=2, views=1, snr=0.1),)
    batch = validation_sets(ValidationSettings(structures=8, box=16, kinds=kinds), shared_data)["general"]
    assert batch.noisy.shape == (8, 2, 16, 16)
    with pytest.raises(UsageError, match="8 clusters"):
        validation_sets(ValidationSettings(structures=9, kinds=kinds), shared_data)


def test_empty_images_have_the_power_that_particles_would_have_had() -> None:
    kinds = (
        SetKind("single", images=1, views=0, snr=0.05, sets=3),
        SetKind("none", images=1, views=0, snr=0.05, sets=3, empty=True),
    )
    made = validation_sets(ValidationSettings(1, 24, 1, kinds), None)
    assert torch.all(made["none"].clean == 0)
    assert made["none"].power.shape == (3,)
    assert float(made["none"].power.mean()) == pytest.approx(float(made["single"].power.mean()), rel=1e-3)


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no structures"):
        validation_sets(SETTINGS, tmp_path)
    with pytest.raises(UsageError, match="at least 1"):
        SetKind("bad", images=0, views=1, snr=0.1)
    with pytest.raises(UsageError, match="same name"):
        ValidationSettings(kinds=(KINDS[0], KINDS[0]))
    with pytest.raises(UsageError, match="at least 1"):
        ValidationSettings(structures=0)
    for kinds in ((), (KINDS[-1],)):
        with pytest.raises(UsageError, match="has particles"):
            ValidationSettings(kinds=kinds)
