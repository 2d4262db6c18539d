"""Stands in for the program: answers from the truth beside the stack, mirrored and turned by a known rotation.

python fake_clarice.py run STACK -o RUN --seed S --method M   (seed 13 fails; seed 14 gives noise for a map)
python fake_clarice.py abinitio STACK -o OUT --method M --denoiser D --seed S   (likewise)
python fake_clarice.py refine STACK --map OUT/abinitio.mrc -o REFINED --seed S   (the map as it is)
python fake_clarice.py denoise STACK --method M -o OUT
python fake_clarice.py classify STACK -o OUT --classes K --seed S
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from clarice.geometry.so3 import euler_to_matrix, matrix_to_euler, sphere_grid
from clarice.io.mrc import read_mrc, write_mrc
from clarice.io.star import floats, read_star, write_star
from clarice.metrics.registration import HALF_TURN, apply_superposition

ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
TURN = euler_to_matrix(np.array([[40.0, 70.0, 110.0]]))[0]


def rotations_of(blocks: dict, path: Path) -> np.ndarray:
    return euler_to_matrix(np.stack([floats(blocks["particles"], name, str(path)) for name in ANGLES], axis=1))


def denoise(stack: Path, folder: Path, pixel_size: float, method: str) -> None:
    """The clean images; those of `wiener` at half their height."""
    images = read_mrc(stack.parent / "clean.mrcs")[0]
    write_mrc(folder / "denoised.mrcs", images * np.float32(0.5 if method == "wiener" else 1), pixel_size)
    truth = read_star(stack.parent / "truth.star")
    names = [f"{row + 1:06d}@denoised.mrcs" for row in range(len(truth["particles"]))]
    table = truth["particles"].assign(rlnImageName=names)
    write_star(folder / "denoised.star", {"optics": truth["optics"], "particles": table})


def run(stack: Path, folder: Path, seed: int, method: str) -> None:
    pixel_size = first_map(stack, folder, seed)
    write_mrc(folder / "map.mrc", read_mrc(folder / "abinitio.mrc")[0], pixel_size, is_volume=True)
    denoise(stack, folder, pixel_size, method)
    (folder / "fsc.json").write_text(json.dumps({"resolution_angstrom": {"0.143": 3 * pixel_size}}))
    stages = [{"name": name, "seconds": 0.01} for name in ("denoise", "ab initio", "refine")]
    (folder / "run.json").write_text(json.dumps({"stages": stages}))


def first_map(stack: Path, folder: Path, seed: int) -> float:
    """A map and poses; its pixel size."""
    if seed == 13:
        sys.exit(f"clarice: {stack} holds nothing but bad luck")
    folder.mkdir(parents=True)
    volume, pixel_size = read_mrc(stack.parent / "map.mrc")
    found = apply_superposition(volume, TURN, np.array([1.0, -0.5, 0.5]), mirrored=True)
    if seed == 14:
        found = np.random.default_rng(0).normal(size=found.shape).astype(np.float32)
    write_mrc(folder / "abinitio.mrc", found, pixel_size, is_volume=True)
    truth = read_star(stack.parent / "truth.star")
    euler = matrix_to_euler(HALF_TURN @ rotations_of(truth, stack) @ TURN.T)
    table = truth["particles"].assign(**dict(zip(ANGLES, euler.T, strict=True)))
    write_star(folder / "particles.star", {"optics": truth["optics"], "particles": table[::-1]})
    return pixel_size


def classify(stack: Path, folder: Path, classes: int) -> None:
    folder.mkdir(parents=True)
    truth = read_star(stack.parent / "truth.star")
    labels = np.argmax(rotations_of(truth, stack)[:, 2, :] @ sphere_grid(classes).T, axis=1) + 1
    table = truth["particles"].assign(rlnClassNumber=labels)
    write_star(folder / "class_members.star", {"optics": truth["optics"], "particles": table})


def main(command: str, stack: str, *words: str) -> None:
    """One call of the program."""
    source = Path(stack)
    options = dict(zip(words[::2], words[1::2], strict=True))
    if command == "run":
        run(source, Path(options["-o"]), int(options["--seed"]), options["--method"])
    elif command == "abinitio":
        if options["--method"] == "common-lines":
            assert options["--denoiser"]
        first_map(source, Path(options["-o"]), int(options["--seed"]))
    elif command == "refine":
        start = Path(options["--map"])
        first_map(source, Path(options["-o"]), int(options["--seed"]))
        (Path(options["-o"]) / "abinitio.mrc").unlink()
        write_mrc(Path(options["-o"]) / "map.mrc", *read_mrc(start), is_volume=True)
    elif command == "denoise":
        made = Path(options["-o"])
        made.mkdir()
        denoise(source, made, read_mrc(source.parent / "map.mrc")[1], options["--method"])
    else:
        classify(source, Path(options["-o"]), int(options["--classes"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
