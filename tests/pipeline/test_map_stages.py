"""The stages of the map hand their functions what belongs to the rows that were selected."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from clarice.core.progress import Progress, silent
from clarice.pipeline import map_stages
from clarice.pipeline.first_map_settings import FirstMapSettings


class StoppedError(Exception):
    """What the stand-in for the search ends with."""


def test_denoised_images_are_those_of_the_selected_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search counts in the selection, the files in the whole stack."""
    selection, asked = [2, 5, 6, 9], []
    whole = SimpleNamespace(subset=lambda rows: ("the rows", rows.tolist()))
    files = SimpleNamespace(read=lambda rows: asked.append(rows.tolist()))
    monkeypatch.setattr(map_stages, "open_prepared", lambda _work: (whole, None))
    monkeypatch.setattr(map_stages.DenoisedFiles, "of", lambda *_arguments: files)

    def search(particles: object, settings: FirstMapSettings, progress: Progress, denoised: Any) -> None:
        assert (particles, settings.starts, progress) == (("the rows", selection), 7, silent)
        denoised(np.array([0, 2, 3]))
        raise StoppedError

    monkeypatch.setattr(map_stages, "find_first_map", search)
    contents = {"selection.json": {"rows": selection}, map_stages.RECORD: {}}
    work = SimpleNamespace(input=Path, read_json=contents.__getitem__, progress=silent)
    with pytest.raises(StoppedError):
        map_stages.abinitio(FirstMapSettings(20.0, starts=7)).function(work)  # type: ignore[arg-type]
    assert asked == [[2, 6, 9]]
