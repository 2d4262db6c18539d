"""Hidden coefficients: conjugate pairs stay together, and errors on them are unbiased."""

from __future__ import annotations

import pytest
import torch

from clarice.training.split_coefficients import drawn_mask, multiplicity, unseen_error


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("box", [16, 17])
def test_a_masked_image_stays_real(box: int) -> None:
    mask = drawn_mask(box, 3, 0.6, generator())
    images = torch.randn((3, box, box), generator=generator(2))
    kept = torch.fft.irfft2(torch.fft.rfft2(images) * mask, s=(box, box))
    again = torch.fft.rfft2(kept)
    assert torch.allclose(again, torch.fft.rfft2(images) * mask, atol=1e-4)  # nothing was mixed


@pytest.mark.parametrize("box", [16, 17])
def test_the_share_is_that_of_the_whole_transform(box: int) -> None:
    mask = drawn_mask(box, 200, 0.7, generator())
    assert multiplicity(box).sum() * box == box * box
    share = (mask * multiplicity(box)).sum(dim=(-2, -1)) / box**2
    assert float(share.mean()) == pytest.approx(0.7, abs=0.01)
    assert not torch.equal(mask[0], mask[1])


@pytest.mark.parametrize("box", [16, 17])
def test_the_error_of_the_truth_is_the_noise_and_that_of_nothing_the_signal_more(box: int) -> None:
    count = 300
    clean = torch.randn((count, box, box), generator=generator(3)) * 0.5
    transfer = torch.rand((count, box, box // 2 + 1), generator=generator(4))
    signal = torch.fft.irfft2(torch.fft.rfft2(clean) * transfer, s=(box, box))
    # A real image's self-conjugate coefficients have real transfers here, so the model holds exactly.
    noisy = signal + torch.randn((count, box, box), generator=generator(5))
    shown = drawn_mask(box, count, 0.5, generator(6))
    truth = unseen_error(clean, noisy, transfer, shown)
    nothing = unseen_error(torch.zeros_like(clean), noisy, transfer, shown)
    assert float(truth.mean()) == pytest.approx(1, abs=0.02)
    assert float(nothing.mean() - truth.mean()) == pytest.approx(float(signal.square().mean()), abs=0.02)


def test_copying_the_noise_that_is_shown_gains_nothing() -> None:
    """The least-squares answer to what is shown is the image itself: on what is hidden it is no better than nothing."""
    noisy = torch.randn((200, 16, 16), generator=generator(7))
    shown = drawn_mask(16, 200, 0.8, generator(8))
    copied = torch.fft.irfft2(torch.fft.rfft2(noisy) * shown, s=(16, 16))
    ones = torch.ones(shown.shape)
    assert float(unseen_error(copied, noisy, ones, shown).mean()) == pytest.approx(1, abs=0.02)
    assert float(unseen_error(copied, noisy, ones, ~shown).mean()) < 0.1  # where it was shown, it looks perfect
