"""Memory that is written over and over."""

from __future__ import annotations

import torch

from clarice.core.scratch import LARGEST_KEPT_BYTES, scratch

CPU = torch.device("cpu")


def test_a_name_has_one_memory_that_grows() -> None:
    with torch.inference_mode():
        first = scratch("test", (2, 3), CPU)
    first.fill_(1)  # also outside of that mode
    smaller, other = scratch("test", (4,), CPU), scratch("another", (4,), CPU)
    assert smaller.data_ptr() == first.data_ptr() != other.data_ptr()
    larger = scratch("test", (5, 7), CPU)
    assert larger.shape == (5, 7)
    assert larger.is_contiguous()
    assert first.sum() == 6  # what is still held is not freed


def test_very_much_memory_is_not_held() -> None:
    kept = scratch("large", (3,), CPU)
    size = LARGEST_KEPT_BYTES // 4 + 1
    assert scratch("large", (size,), CPU).shape == (size,)
    assert scratch("large", (3,), CPU).data_ptr() == kept.data_ptr()
