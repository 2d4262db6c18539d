"""A small set of images of a procedural molecule, for the tests of the protocol `denoise`."""

from __future__ import annotations

from pathlib import Path

from clarice.benchmark.denoise_cells import Cell, Sheet
from clarice.benchmark.denoise_sets import ImageSet, SignalStore, with_noise
from clarice.benchmark.structures import load_subject

ENTRY = "molecule-105"


def store(folder: Path, setting: str = "general", size: int = 24, ctf: str = "off", sets: int = 1) -> SignalStore:
    return SignalStore(Sheet(setting, size, ctf), sets, 1, 32, None, folder)


def made(
    folder: Path,
    snr: float = 0.5,
    noise: str = "gaussian",
    setting: str = "general",
    size: int = 24,
    ctf: str = "off",
) -> ImageSet:
    signals = next(store(folder, setting, size, ctf).signals(load_subject(ENTRY, None)))
    return with_noise(signals, Cell(Sheet(setting, size, ctf), noise, snr), 1)
