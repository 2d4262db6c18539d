"""Pictures of the protocol `abinitio`: first and refined maps of each cell, kept while rows are measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clarice.benchmark.map_pictures import TRUTH, Shown, ShownMap, draw_curves, draw_maps
from clarice.benchmark.protocol import LaidMap, SimulatedStack
from clarice.metrics.map_files import read_cube

# The maps of a method that are shown, in the names of files.
FIRST, REFINED = "first", "refined"
# Structures in a picture: more are too many to look at.
_MOST_STRUCTURES = 12


def stack_name(entry: str, seed: int, ctf: str, snr: float) -> str:
    """A stack's folder: peers that go on in a later call find their files by it."""
    return f"{entry}_seed{seed}_ctf-{ctf}_snr-{snr:g}"


def _folder(work: Path, stack: str) -> Path:
    return work / "abinitio" / "shown" / stack


def keep_map(work: Path, stack: SimulatedStack, method: str, stage: str, laid: LaidMap) -> None:
    """Keeps a map of `method` as the pictures show it, and the truth beside it."""
    folder, size = _folder(work, stack.folder.name), stack.pixel_size_angstrom
    ShownMap.of(laid.volume, laid.curve, size).save(folder / f"{method}-{stage}.npz")
    if not (folder / f"{TRUTH}.npz").exists():
        truth = read_cube(stack.true_map).values
        ShownMap.of(truth, np.ones(len(laid.curve)), size).save(folder / f"{TRUTH}.npz")


def draw_cell(
    work: Path, out: Path, ctf: str, snr: float, entries: Sequence[str], seed: int, methods: Sequence[str]
) -> list[Path]:
    """Maps and curves of a cell's structures as PNG in `out`, of those that were measured; returns their paths."""
    drawn: list[Path] = []
    for stage in (FIRST, REFINED):
        shown = _shown(work, [stack_name(entry, seed, ctf, snr) for entry in entries], entries, methods, stage)
        found = [method for method in methods if any(method in maps for maps in shown.values())]
        if found:
            name = f"abinitio-{stage}-snr-{snr:g}-ctf-{ctf}"
            draw_maps(shown, found, out / f"{name}.png")
            draw_curves(shown, found, out / f"{name}-fsc.png")
            drawn += [out / f"{name}.png", out / f"{name}-fsc.png"]
    return drawn


def _shown(work: Path, stacks: Sequence[str], entries: Sequence[str], methods: Sequence[str], stage: str) -> Shown:
    shown: dict[str, dict[str, ShownMap]] = {}
    for stack, entry in zip(stacks, entries, strict=True):
        files = {TRUTH: _folder(work, stack) / f"{TRUTH}.npz"}
        files |= {method: _folder(work, stack) / f"{method}-{stage}.npz" for method in methods}
        maps = {name: ShownMap.load(path) for name, path in files.items() if path.is_file()}
        if len(maps) > 1 and TRUTH in maps and len(shown) < _MOST_STRUCTURES:
            shown[entry] = maps
    return shown
