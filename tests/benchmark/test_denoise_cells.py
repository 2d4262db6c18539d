"""The grid of the protocol `denoise`: which cells there are, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from clarice.benchmark.denoise_cells import CELL_KEYS, CTFS, NOISES, Grid, Sheet
from clarice.core.errors import UsageError


def test_one_image_is_the_single_setting_and_the_others_have_more() -> None:
    sheets = Grid().sheets()
    assert [sheet.size for sheet in sheets if sheet.setting == "single"] == [1]
    assert {sheet.size for sheet in sheets if sheet.setting != "single"} == {8, 32, 128, 512}
    assert len(sheets) == 13


def test_the_full_grid_has_every_cell_once() -> None:
    grid = Grid(noises=NOISES, ctfs=CTFS)
    keys = {tuple(cell.key()[key] for key in CELL_KEYS) for sheet in grid.sheets() for cell in grid.cells(sheet)}
    names = {cell.name for sheet in grid.sheets() for cell in grid.cells(sheet)}
    assert len(keys) == len(names) == 13 * 5 * 2 * 3


def test_views_and_ctf() -> None:
    assert [Sheet(name, 32, "off").views for name in ("directional", "general", "all-different")] == [1, 8, 0]
    assert [Sheet("general", 32, ctf).with_ctf for ctf in CTFS] == [False, True, True]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings": ["tea"]}, "--settings"),
        ({"settings": []}, "--settings"),
        ({"noises": ["pink"]}, "--noise"),
        ({"ctfs": ["maybe"]}, "--ctf"),
        ({"sizes": [0]}, "--sizes"),
        ({"snrs": [0.0]}, "--snr"),
        ({"settings": ["single"], "sizes": [8]}, "leave nothing"),
        ({"settings": ["general"], "sizes": [1]}, "leave nothing"),
    ],
)
def test_what_the_protocol_does_not_know_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Grid(**changes)
