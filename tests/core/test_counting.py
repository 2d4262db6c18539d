"""Numbers agree with their nouns."""

from __future__ import annotations

from clarice.core.counting import counted


def test_one_is_singular_and_everything_else_plural() -> None:
    assert [counted(number, "image file") for number in (0, 1, 2)] == ["0 image files", "1 image file", "2 image files"]
    assert [counted(number, "class", "classes") for number in (1, 20)] == ["1 class", "20 classes"]
