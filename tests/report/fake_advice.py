"""The advice of a run, as the pipeline writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_advice(folder: Path) -> None:
    """Three ranges of defocus, the first without much signal; a resolution that more particles improve."""
    (folder / "advice.json").write_text(json.dumps(made_advice()), encoding="utf-8")


def made_advice() -> dict[str, Any]:
    """The content of `advice.json`."""
    ranges = ((6e3, 1.2e4, 300, 0.02, 0.97), (1.2e4, 1.8e4, 500, 0.08, 1.02), (1.8e4, 2.4e4, 400, 0.1, 1.0))
    groups = [
        {"least_angstrom": least, "most_angstrom": most, "particles": count, "snr": snr(value, scale)}
        for least, most, count, value, scale in ranges
    ]
    resolutions = ((0.25, 12.6), (0.5, 11.4), (1.0, 10.3), (2.0, 9.4), (4.0, 8.8), (10.0, 8.4))
    return {
        "classes": {"asked": 24, "advised": 60, "sentence": "21 of 24 classes were kept: --classes 60 would suit."},
        "neighbours": None,
        "snr": {
            "finest_angstrom": 20.16,
            "whole": snr(0.07, 1.0),
            "groups": groups,
            "sentence": "To 20 Å, power of signal over noise is 0.07 ± 0.003 in the box.",
        },
        "resolution": {
            "particles": 1000,
            "predictions": [
                {
                    "ratio": ratio,
                    "particles": round(1000 * ratio),
                    "resolution_angstrom": value,
                    "error_angstrom": 0.1,
                    "limited": ratio == 10.0,
                }
                for ratio, value in resolutions
            ],
            "sentence": "1,000 particles give 10.3 Å; 4,000 would give 8.8 Å.",
        },
        "views": {"seen_share": 0.9, "least_sampled": 0.6},
        "collect": [
            {"topic": "particles", "sentence": "More particles pay: four times as many."},
            {"topic": "defocus", "sentence": "At 0.60–1.20 µm particles have less than half."},
        ],
    }


def snr(value: float, scale: float) -> dict[str, float]:
    """An SNR as it is written."""
    return {"value": value, "error": 0.004, "scale": scale, "scale_error": 0.02, "read": 300}
