"""`clarice simulate`: a complete, RELION-readable data set with its truth in side files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer

from clarice.cli.console import showing_progress, told
from clarice.cli.output_folder import keep_apart, make_folder
from clarice.cli.seed_option import seed_option
from clarice.cli.structural_option import StructuralOption, structural_noise
from clarice.core.counting import counted
from clarice.core.errors import OutputError, ResourceError, UsageError
from clarice.core.large_array import IN_MEMORY_BYTES
from clarice.geometry.so3 import symmetry_rotations
from clarice.metrics.map_files import read_cube
from clarice.physics.atoms import atoms_from_npz, read_structure
from clarice.physics.molecules import Shape, make_molecule
from clarice.physics.simulate import MapPotential, NoiseKind, SimulationSettings, Specimen, simulate
from clarice.physics.simulation_files import FILES, Contrast, write_simulation

# A folder with one of these beside its particles holds a simulated set, which may be made anew.
TRUTH = ("truth.star", "simulation.json")


def _specimen(
    structure: Path | None,
    map_file: Path | None,
    npz: Path | None,
    entry: str | None,
    molecule: int | None,
    mass_kda: float | None,
    shape: Shape | None,
    symmetry: str,
) -> tuple[Specimen, str]:
    """What to simulate, and its description: one source, a procedural molecule where none is named."""
    sources = {"--structure": structure, "--map": map_file, "--npz": npz, "--molecule": molecule}
    named = [option for option, value in sources.items() if value is not None]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} exclude each other: choose what to simulate")
    if named and named[0] != "--molecule":
        for option, given in (
            ("--symmetry", symmetry != "C1"),
            ("--mass-kda", mass_kda is not None),
            ("--shape", shape is not None),
        ):
            if given:
                raise UsageError(f"{option} shapes procedural molecules only: drop it or drop {named[0]}")
    if (npz is None) != (entry is None):
        raise UsageError("--npz FILE and --entry ID belong together: pass both")
    if structure is not None:
        return read_structure(structure), f"structure {structure.name}"
    if map_file is not None:
        volume = read_cube(map_file)
        return MapPotential(torch.from_numpy(volume.values), volume.pixel_size_angstrom), f"map {map_file.name}"
    if npz is not None and entry is not None:
        return atoms_from_npz(npz, entry), f"entry {entry} of {npz.name}"
    seed = 1 if molecule is None else molecule
    symmetry_rotations(symmetry)
    atoms = make_molecule(seed, mass_kda=mass_kda, symmetry=symmetry, shape=shape)
    return atoms, f"procedural molecule {seed}, {symmetry}"


_O = typer.Option
OutputOption = Annotated[Path, _O("-o", "--output", help="Folder to write the data set to.")]
StructureOption = Annotated[Path | None, _O(help="mmCIF or PDB file (.gz too) to simulate from.")]
MapOption = Annotated[Path | None, _O("--map", help="MRC map to simulate from, protein bright.")]
NpzOption = Annotated[Path | None, _O(help="Packed collection of structures; needs --entry.")]
EntryOption = Annotated[str | None, _O(help="Entry of the --npz collection.")]
MoleculeOption = Annotated[
    int | None, seed_option("Seed of a procedural molecule (the default, seed 1).", "--molecule")
]
MassOption = Annotated[float | None, _O(help="Mass of the molecule, 20–1000 kDa; drawn if absent.")]
ShapeOption = Annotated[Shape | None, _O(help="How the molecule's domains are arranged; drawn if absent.")]
SymmetryOption = Annotated[str, _O(help="Point group of the procedural molecule.")]
ParticlesOption = Annotated[int, _O(help="Number of particles.")]
BoxOption = Annotated[int, _O(help="Edge of the images, pixels.")]
PixelSizeOption = Annotated[
    float | None, _O(help="Å per pixel; if absent, the largest diameter fills 65 % of the box.")
]
SnrOption = Annotated[float, _O(help="Mean square of the noiseless CTF-applied image / noise variance.")]
ShiftOption = Annotated[float, _O(help="Shifts are uniform within ± this many pixels in x and y.")]
CtfOption = Annotated[bool, _O("--ctf/--no-ctf", help="Apply a CTF, or one that is 1 everywhere.")]
CtfTableOption = Annotated[
    Path | None, _O(help="Defocus table (.npz of ctf and columns); an embedded distribution if absent.")
]
DefocusGroupsOption = Annotated[int, _O(help="Number of micrographs, each with its own defocus.")]
VoltageOption = Annotated[float, _O(help="Acceleration voltage, kV.")]
AberrationOption = Annotated[float, _O(help="Spherical aberration, mm.")]
AmplitudeOption = Annotated[float, _O(help="Amplitude contrast, 0 to 1.")]
BfactorOption = Annotated[float, _O(help="B-factor of the CTF's envelope, Å².")]
NoiseOption = Annotated[NoiseKind, _O(help="Kind of noise; its variance a pixel is 1.")]
ContrastOption = Annotated[Contrast, _O(help="Whether protein is bright or dark in the files.")]
SeedOption = Annotated[int, seed_option("Seed of views, shifts, defocus and noise.")]


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("simulate")(command)


def command(
    output: OutputOption,
    structure: StructureOption = None,
    map_file: MapOption = None,
    npz: NpzOption = None,
    entry: EntryOption = None,
    molecule: MoleculeOption = None,
    mass_kda: MassOption = None,
    shape: ShapeOption = None,
    symmetry: SymmetryOption = "C1",
    particles: ParticlesOption = 2000,
    box: BoxOption = 64,
    pixel_size: PixelSizeOption = None,
    snr: SnrOption = 0.1,
    shift_px: ShiftOption = 3.0,
    ctf: CtfOption = True,
    ctf_table: CtfTableOption = None,
    defocus_groups: DefocusGroupsOption = 50,
    voltage_kv: VoltageOption = 300.0,
    spherical_aberration_mm: AberrationOption = 2.7,
    amplitude_contrast: AmplitudeOption = 0.1,
    bfactor: BfactorOption = 0.0,
    noise: NoiseOption = "white",
    structural: StructuralOption = None,
    contrast: ContrastOption = "bright",
    seed: SeedOption = 1,
) -> None:
    """Simulates a particle stack with known truth.

    Writes particles.star and particles.mrcs, and the truth beside them: truth.star, clean.mrcs, map.mrc and
    simulation.json.
    """
    settings = SimulationSettings(
        particles=particles,
        box=box,
        seed=seed,
        pixel_size_angstrom=pixel_size,
        snr=snr,
        max_shift_px=shift_px,
        ctf=ctf,
        noise=noise,
        voltage_kv=voltage_kv,
        spherical_aberration_mm=spherical_aberration_mm,
        amplitude_contrast=amplitude_contrast,
        bfactor_angstrom2=bfactor,
        defocus_groups=defocus_groups,
        ctf_table=ctf_table,
        structural=structural_noise(structural),
    )
    specimen, source = _specimen(structure, map_file, npz, entry, molecule, mass_kda, shape, symmetry)
    keep_apart(output, FILES, (structure, map_file, npz, ctf_table))
    _insist_on_own_set(output)
    _simulate_into(output, specimen, source, settings, contrast)


def _insist_on_own_set(output: Path) -> None:
    """Raises OutputError for a folder whose particles or map no simulation has made."""
    there = [name for name in FILES if os.path.exists(output / name)]
    if there and not any(name in there for name in TRUTH):
        raise OutputError(
            f"{output} holds {there[0]} that no simulation made (there is no {' or '.join(TRUTH)}), and that would be "
            "overwritten: name another folder"
        )


def _simulate_into(
    output: Path, specimen: Specimen, source: str, settings: SimulationSettings, contrast: Contrast
) -> None:
    make_folder(output)
    with showing_progress() as progress, ExitStack() as stack:
        image_bytes = 8 * settings.particles * settings.box**2  # noisy and clean, float32
        folder = stack.enter_context(_scratch(output, image_bytes)) if image_bytes > IN_MEMORY_BYTES else None
        simulated = simulate(specimen, settings, folder=folder, progress=progress)
        write_simulation(simulated, output, specimen=source, contrast=contrast, progress=progress)
    size = simulated.particles.pixel_size_angstrom
    told(
        f"{counted(settings.particles, 'particle')} of {source}, {settings.box} px at {size:.3f} Å "
        f"(Nyquist {2 * size:.2f} Å), SNR {settings.snr:g}, noise {settings.noise}: "
        f"{output / 'particles.star'}"
    )


@contextmanager
def _scratch(output: Path, image_bytes: int) -> Iterator[Path]:
    """A folder inside `output` that is gone afterwards; the disk must hold the images there and as stacks."""
    free = shutil.disk_usage(output).free
    if free < 2 * image_bytes:
        needed, left = (f"{size / 1e9:.1f} GB" for size in (2 * image_bytes, free))
        raise ResourceError(f"the disk of {output} has {left} free and this set needs {needed}: make room")
    try:
        folder = tempfile.TemporaryDirectory(dir=output, prefix=".simulating-")
    except OSError as error:
        raise OutputError(f"cannot write into {output}: {error.strerror or error}") from error
    with folder as name:
        yield Path(name)
