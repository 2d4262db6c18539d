"""A true verdict on every real file: a readable stack, something else by its name, or broken and how."""

from __future__ import annotations

from pathlib import Path

import pytest

from clarice.pipeline.preflight import check_file

MODEL, SAMPLING, OPTIMISER = "RELION model file", "RELION sampling file", "RELION optimiser file"
NUMPY, FSC, SPIDER, IMAGIC = "NumPy array", "FSC curve", "SPIDER", "Imagic"
# file: (kind, words of the verdict)
EXPECTED: dict[str, tuple[str, str]] = {
    "formats/aspire_ref/orient_est_clmatrix.npy": ("not particles", NUMPY),
    "formats/aspire_ref/orient_est_rots.npy": ("not particles", NUMPY),
    "formats/aspire_ref/orient_est_shifts.npy": ("not particles", NUMPY),
    "formats/aspire_ref/relion_proj_batch_pfac3.mrcs": ("particles", "24 particles of 64 px at 3.54 Å"),
    "formats/aspire_ref/rln_proj_65.mrcs": ("needs an option", "--pixel-size"),
    "formats/aspire_ref/rln_proj_65_shifted.mrcs": ("needs an option", "--contrast"),
    "formats/bdb/TcdA1-0187_frames_ptcls.bdb": ("not particles", "Berkeley database"),
    "formats/box/sample.box": ("not particles", "BOX"),
    "formats/box/sample.coord": ("not particles", "table of coordinates"),
    "formats/cs/4k_dataset.cs": ("not particles", "0 rows"),
    "formats/cs/cryosparc_P12_J24_001_particles.cs": ("images missing", "lists 2019 particles"),
    "formats/ctf_EMPIAR-10028_cryodrgn.npz": ("not particles", "zip archive"),
    "formats/ctf_EMPIAR-10049_cryodrgn.npz": ("not particles", "zip archive"),
    "formats/fsc/EMPIAR-10024_iter0_fsc.xml": ("not particles", FSC),
    "formats/fsc/EMPIAR-10330_iter5_fsc.xml": ("not particles", FSC),
    "formats/fsc/EMPIAR-11120_iter0_fsc.xml": ("not particles", FSC),
    "formats/star/SOD_images.star.gz": ("images missing", "lists 6496 particles"),
    "formats/star/SOD_model.star.gz": ("not particles", MODEL),
    "formats/star/aspire_rib80s_run003_model_trunc.star": ("not particles", MODEL),
    "formats/star/aspire_rln_proj_65.star": ("needs an option", "_rlnImagePixelSize"),
    "formats/star/aspire_rln_proj_65_shifted.star": ("images missing", "lists 4 particles"),
    "formats/star/aspire_run_001_it025_optimiser.star": ("not particles", OPTIMISER),
    "formats/star/aspire_run_001_it025_sampling.star": ("not particles", SAMPLING),
    "formats/star/aspire_sample_data_model.star": ("not particles", MODEL),
    "formats/star/aspire_sample_incomplete_ctf_params.star": ("images missing", "lists 1 particle,"),
    "formats/star/aspire_sample_particles_relion30.star": ("images missing", "lists 17 particles"),
    "formats/star/aspire_sample_particles_relion31.star": ("images missing", "lists 17 particles"),
    "formats/star/aspire_sample_relion_autopick.star": ("not particles", "list of coordinate files"),
    "formats/star/aspire_sample_relion_coord.star": ("not particles", "picked coordinates"),
    "formats/star/aspire_sample_relion_one_image.star": ("images missing", "lists 1 particle,"),
    "formats/star/aspire_sample_relion_symmetry_group_D4.star": ("images missing", "lists 17 particles"),
    "formats/star/localrec_micrographs.star": ("not particles", "table of micrographs"),
    "formats/star/mtf_falcon2_300kV.star": ("not particles", "MTF"),
    "formats/star/mtf_k2_300kV.star": ("not particles", "MTF"),
    "formats/star/relion30_PfCRT.star": ("images missing", "lists 5 particles"),
    "formats/star/relion31_6opticsgroups.star": ("needs an option", "--optics-group"),
    "formats/star/relion_proj_batch_pfac3.star": ("images missing", "lists 24 particles"),
    "formats/star/relion_ref_it002_data.star": ("images missing", "lists 9 particles"),
    "formats/star/relion_ref_it002_model.star": ("not particles", MODEL),
    "formats/star/relion_ref_it002_optimiser.star": ("not particles", OPTIMISER),
    "formats/star/relion_ref_it002_sampling.star": ("not particles", SAMPLING),
    "formats/star/sphire_TcdA1-0187_frames_ptcls.star": ("images missing", "lists 22 particles"),
    "formats/star/sphire_TcdA1-0188_frames_ptcls.star": ("images missing", "lists 28 particles"),
    "formats/star/topaz_EMPIAR-10025_ctf_params.star": ("not particles", "table of micrographs"),
    "formats/star/topaz_EMPIAR-10025_particles.star.gz": ("images missing", "lists 1500 particles"),
    "formats/xmipp/singleImage.spi": ("not particles", SPIDER),
    "formats/xmipp/smallStack.hed": ("not particles", IMAGIC),
    "formats/xmipp/smallStack.img": ("not particles", IMAGIC),
    "formats/xmipp/smallStack.stk": ("not particles", SPIDER),
    "formats/xmipp/smallVolumeStack.stk": ("not particles", SPIDER),
    "formats/xmipp/symop.star": ("broken", "line 20"),
    "particles/apoferritin/particles.mrcs": ("particles", "1620 particles of 64 px at 3 Å"),
    "particles/apoferritin/particles.star": ("particles", "1620 particles of 64 px at 3 Å"),
    "particles/aspire_sample_17/sample.mrcs": ("needs an option", "--pixel-size"),
    "particles/aspire_sample_17/sample.star": ("broken", "line 20: 5 values"),
    "particles/bioem_tutorial/Model.pdb": ("not particles", "atomic model"),
    "particles/bioem_tutorial/OneImage.mrc": ("needs an option", "--pixel-size"),
    "particles/bioem_tutorial/TwoImages.mrc": ("needs an option", "--pixel-size"),
    "particles/empiar_10076_7/empiar_10076_7.cs": ("particles", "7 particles of 320 px at 1.31 Å"),
    "particles/empiar_10076_7/empiar_10076_7.mrc": ("needs an option", "--pixel-size"),
    "particles/empiar_10076_7/empiar_10076_7.star": ("particles", "7 particles of 320 px at 1.31 Å"),
    "particles/relion31_filament_5/relion31.mrcs": ("needs an option", "--contrast"),
    "particles/relion31_filament_5/relion31.star": ("needs an option", "--contrast"),
    "particles/relion31_filament_5/relion31.v2.star": ("needs an option", "--contrast"),
    "particles/sta_ribosome_tilts/ay19102021_L3_position6_ribo_it09_bin8_1.82A.mrcs": ("particles", "220 particles"),
    "particles/sta_ribosome_tilts/sta_testing.star": ("images missing", "lists 219 particles"),
    "particles/sta_ribosome_tilts/sta_testing_bin8.star": ("particles", "219 particles of 64 px at 1.96 Å"),
    "particles/trpv1_small_10/trpv1_small_stack.mrcs": ("particles", "10 particles of 48 px at 4.88 Å"),
    "particles/trpv1_small_10/trpv1_small_stack.star": ("images missing", "lists 10 particles"),
    "particles/trpv1_small_10/trpv1_volume.mrc": ("not particles", "a map of 48 × 48 × 48"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_verdict(shared_data: Path, name: str) -> None:
    kind, words = EXPECTED[name]
    verdict = check_file(shared_data / name)
    assert (verdict.kind, verdict.usable) == (kind, kind == "particles"), verdict.summary
    assert words in verdict.summary
    assert "\n" not in verdict.summary


def test_every_file_has_an_expectation(shared_data: Path) -> None:
    files = [path for folder in ("formats", "particles") for path in (shared_data / folder).rglob("*")]
    found = {str(path.relative_to(shared_data)) for path in files if path.is_file()}
    assert found == set(EXPECTED)


def test_missing_images_are_found_with_a_root(shared_data: Path) -> None:
    sample = shared_data / "formats/star"
    verdict = check_file(
        sample / "aspire_sample_incomplete_ctf_params.star", root=shared_data / "particles/aspire_sample_17"
    )
    assert not verdict.usable
    assert "_rlnVoltage" in verdict.problems[0]
    verdict = check_file(sample / "relion_proj_batch_pfac3.star", root=shared_data / "formats/aspire_ref")
    assert verdict.particles == 24
    assert verdict.contrast is not None
    assert verdict.contrast.sign == "bright"
