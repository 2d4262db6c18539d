"""Trained networks as methods: every row once and in order, halves apart, any box, neighbourhoods that are alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.denoise.sampling_weights import write_random_weights

from clarice.core.errors import InputError
from clarice.core.particles import ArraySource, ParticleSet
from clarice.denoise.angular_attention import MeasuredRings
from clarice.denoise.learned import denoise_alone, denoise_jointly
from clarice.denoise.neighbourhoods import invariants, neighbourhoods
from clarice.denoise.network_input import from_network, network_input, resized_transfer
from clarice.denoise.notes import Notebook, Notes
from clarice.denoise.polar_transformer import DenoisedRings, PolarTransformer, PolarTransformerSize
from clarice.denoise.registry import Denoiser, denoise_all, get_denoiser
from clarice.denoise.trained import TrainedNetwork, load_trained, trained_network
from clarice.io.weights import weights_path, write_weights
from clarice.physics.noisy_set import NoisySet, white_set

SIZES = {
    "polar-transformer": {
        "box": 24, "n_angles": 32, "real_rings": 9, "fourier_rings": 7, "channels": 16, "heads": 2,
        "blocks_before": 1, "attention_blocks": 2, "blocks_after": 1,
    },
    "dncnn": {"layers": 4, "channels": 8},
    "unet": {"channels": 8, "levels": 3},
}  # fmt: skip


@pytest.fixture
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of small random networks, in the folder that the environment names."""
    from clarice.denoise.networks import network_kind

    monkeypatch.setenv("CLARICE_WEIGHTS", str(tmp_path))
    for name, size in SIZES.items():
        torch.manual_seed(2)
        network = network_kind(name).build(dict(size))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        recipe = {"network": {"name": name, **size, "box": 24}} if name == "polar-transformer" else None
        card = {"recipe": recipe or {"network": {"name": name, **size}}}
        write_weights(tmp_path / f"{name}.safetensors", network.state_dict(), card)
    return tmp_path


def noisy_set(count: int, box: int = 24, half_set: NDArray[np.int64] | None = None, seed: int = 1) -> NoisySet:
    images = np.random.default_rng(seed).normal(size=(count, box, box)).astype(np.float32)
    return white_set(ParticleSet(ArraySource(images), 3.0, half_set=half_set))


def joint() -> TrainedNetwork:
    return trained_network("polar-transformer")


@pytest.mark.usefixtures("weights_folder")
def test_a_small_stack_is_one_set() -> None:
    noisy, trained = noisy_set(20), joint()
    result = denoise_all(denoise_jointly(noisy, trained, size=32), 20, 24)
    network = trained.network
    with torch.no_grad():
        expected = network(noisy.images(np.arange(20))[None]).images[0].numpy()
    assert np.abs(result - expected).max() < 0.02 * np.abs(expected).max()  # the method may run in bfloat16


@pytest.mark.usefixtures("weights_folder")
def test_a_large_stack_comes_in_row_order_each_row_once() -> None:
    noisy = noisy_set(70)
    rows = [row for part, _ in denoise_jointly(noisy, joint(), size=16) for row in part]
    assert rows == list(range(70))


def telling(given: NoisySet, notes: Notes, *, progress: object = None) -> object:
    return denoise_jointly(given, joint(), size=16, notes=notes)


@pytest.mark.usefixtures("weights_folder")
@pytest.mark.parametrize("halves_apart", [False, True])
def test_every_image_names_its_sources_and_its_error(halves_apart: bool) -> None:
    half = np.random.default_rng(3).integers(1, 3, 40)
    noisy, notes = noisy_set(40, half_set=half), Notebook(40, sources_wanted=16)
    method = Denoiser("joint", "", None, telling)  # type: ignore[arg-type]
    denoise_all(method(noisy, halves_apart=halves_apart, notes=notes), 40, 24)
    found = notes.found
    assert notes.has_sources
    there = found.row >= 0
    assert np.allclose(found.weight.sum(axis=1) + found.kept, 1, atol=1e-3)  # no set here has more than 16 sources
    assert (found.weight[~there] == 0).all()
    assert (found.row != np.arange(40)[:, None]).all()
    assert (np.diff(found.weight, axis=1) <= 1e-7).all()
    assert np.abs(found.angle_deg).max() <= 180
    if halves_apart:
        assert (half[found.row] == half[:, None])[there].all()
    assert notes.error_by_shell is not None
    assert notes.error_by_shell.shape == (40, 13)
    assert (notes.error_by_shell > 0).all()


@pytest.mark.usefixtures("weights_folder")
def test_a_turned_copy_is_named_with_its_angle() -> None:
    """Attention that looks for the same content finds the copy, and says how far it is turned."""
    trained = joint()
    images = 8 * np.random.default_rng(4).normal(size=(6, 24, 24)).astype(np.float32)
    images[:, 0] = images[:, :, 0] = 0
    images[4, 1:, 1:] = np.rot90(images[1, 1:, 1:], -1)  # from +x towards +y, by 90°
    network = trained.network
    assert isinstance(network, PolarTransformer)
    with torch.no_grad():
        for block in network.attention:
            attention = block.attend
            attention.project.weight[:32] *= 10  # type: ignore[union-attr, index]
            attention.project.weight[16:32] = attention.project.weight[:16]  # type: ignore[union-attr, index]
            attention.measured_weight.zero_()  # type: ignore[union-attr, operator]
            attention.believed_weight.zero_()  # type: ignore[union-attr, operator]
    notes = Notebook(6, sources_wanted=1)
    list(denoise_jointly(white_set(ParticleSet(ArraySource(images), 3.0)), trained, notes=notes))
    assert notes.found.row[4, 0] == 1
    assert notes.found.row[1, 0] == 4
    assert notes.found.angle_deg[4, 0] == pytest.approx(90, abs=6)
    assert notes.found.angle_deg[1, 0] == pytest.approx(-90, abs=6)


@pytest.mark.usefixtures("weights_folder")
def test_half_sets_never_see_each_other() -> None:
    half = np.tile([1, 2], 24)
    noisy = noisy_set(48, half_set=half)
    changed_images = noisy.images(np.arange(48)).numpy().copy()
    changed_images[half == 2] += 5
    changed = white_set(ParticleSet(ArraySource(changed_images), 3.0, half_set=half))

    def method(given: NoisySet, *, progress: object = None) -> object:
        return denoise_jointly(given, joint(), size=16)

    apart = Denoiser("joint", "", method)  # type: ignore[arg-type]
    before = denoise_all(apart(noisy, halves_apart=True), 48, 24)
    after = denoise_all(apart(changed, halves_apart=True), 48, 24)
    assert np.array_equal(before[half == 1], after[half == 1])
    assert not np.array_equal(before[half == 2], after[half == 2])


@pytest.mark.usefixtures("weights_folder")
@pytest.mark.parametrize("name", ["dncnn", "unet"])
def test_single_image_networks_see_one_image_at_a_time(name: str) -> None:
    trained = trained_network(name)
    all_rows = denoise_all(denoise_alone(noisy_set(130, 64), trained), 130, 64)
    one = denoise_all(denoise_alone(noisy_set(130, 64).subset(np.array([129])), trained), 1, 64)
    assert np.abs(all_rows[129] - one[0]).max() < 0.02 * np.abs(one).max()


@pytest.mark.usefixtures("weights_folder")
@pytest.mark.parametrize("box", [17, 36])
def test_other_boxes_are_brought_to_that_of_the_network_and_back(box: int) -> None:
    result = denoise_all(denoise_jointly(noisy_set(6, box), joint()), 6, box)
    assert result.shape == (6, box, box)
    assert np.isfinite(result).all()
    assert result.std() > 0


@pytest.mark.usefixtures("weights_folder")
@pytest.mark.parametrize("box", [17, 36])
def test_the_error_told_has_the_shells_of_the_set_s_own_box(box: int) -> None:
    notes, own = Notebook(6), Notebook(6)
    denoise_all(denoise_jointly(noisy_set(6, box), joint(), notes=notes), 6, box)
    denoise_all(denoise_jointly(noisy_set(6), joint(), notes=own), 6, 24)
    assert notes.error_by_shell is not None
    assert own.error_by_shell is not None
    assert notes.error_by_shell.shape == (6, box // 2 + 1)
    if box > 24:
        assert (notes.error_by_shell[:, 13:] == notes.error_by_shell[:, 12:13]).all()
    # The same field of view: a coefficient's error is of the same size, whatever the box.
    assert np.median(notes.error_by_shell[:, :9] / own.error_by_shell[:, :9]) == pytest.approx(1, abs=0.5)


@pytest.mark.usefixtures("weights_folder")
def test_a_set_that_memory_cannot_hold_is_denoised_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, sizes = PolarTransformer.denoise_rings, []

    def with_little_memory(network: PolarTransformer, measured: MeasuredRings, allowed: None) -> DenoisedRings:
        sizes.append(measured.rings.shape[1])
        if sizes[-1] > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(network, measured, allowed)

    monkeypatch.setattr(PolarTransformer, "denoise_rings", with_little_memory)
    notes = Notebook(30)
    rows = [row for part, _ in denoise_jointly(noisy_set(30), joint(), size=32, notes=notes) for row in part]
    assert rows == list(range(30))
    assert sizes == [30, 15, 8, 7, 15, 8, 7]
    assert notes.has_sources


@pytest.mark.usefixtures("weights_folder")
def test_particles_of_neither_half_cannot_be_kept_apart() -> None:
    method = Denoiser("joint", "", lambda given, **_: denoise_jointly(given, joint()))
    with pytest.raises(InputError, match="row 3 belongs to neither half set"):
        method(noisy_set(4, half_set=np.array([1, 2, 0, 1])), halves_apart=True)


def test_a_trained_method_without_weights_says_where_they_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLARICE_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match=r"there are no weights .*unet\.safetensors"):
        get_denoiser("unet")


@pytest.mark.parametrize(("old", "box"), [(24, 16), (25, 16), (16, 25), (15, 24), (24, 24)])
def test_resized_images_keep_noise_of_variance_one_and_what_is_known_of_the_filter(old: int, box: int) -> None:
    noisy = noisy_set(200, old)
    images, transfer = network_input(noisy, np.arange(200), box)
    if box == old:
        assert transfer is None
        return
    assert transfer is not None
    power = torch.fft.rfft2(images).abs().square().mean(dim=0) / box**2
    known = transfer[0] == 1
    assert power[known].mean() == pytest.approx(1, abs=0.05)
    if box > old and old % 2:
        assert torch.allclose(from_network(images, old), noisy.images(np.arange(200)), atol=1e-4)
        assert power[~known].mean() < 0.2


def test_a_filter_keeps_its_value_at_every_shared_frequency() -> None:
    fine = torch.arange(24)[:, None] * 100.0 + torch.arange(13)
    coarse = resized_transfer(fine[None], 24, 16)[0]
    for ky in range(-7, 8):
        for kx in range(8):
            assert coarse[ky % 16, kx] == fine[ky % 24, kx]
    wide = resized_transfer(coarse[None], 16, 24)[0]
    assert wide[3, 4] == coarse[3, 4]
    assert coarse[8].max() == coarse[:, 8].max() == 0
    assert wide[10, 4] == 0
    assert wide[3, 10] == 0


def test_turned_images_have_the_same_features() -> None:
    rings = torch.randn(3, 32, 7)
    area = torch.rand(7)
    assert torch.allclose(invariants(rings, area), invariants(rings.roll(5, 1), area), atol=1e-5)
    assert not torch.allclose(invariants(rings, area), invariants(rings.flip(2), area), atol=1e-2)


def test_neighbourhoods_are_alike_bounded_and_cover_all_rows() -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 4, 1000)
    features = (10 * np.eye(4)[kind] @ rng.normal(size=(4, 30)) + rng.normal(size=(1000, 30))).astype(np.float32)
    groups = neighbourhoods(features, 150)
    assert sorted(int(row) for rows in groups for row in rows) == list(range(1000))
    assert max(map(len, groups)) <= 150
    assert min(map(len, groups)) >= 100
    purity = sum(int(np.bincount(kind[rows]).max()) for rows in groups) / 1000
    assert purity > 0.8


def test_missing_and_foreign_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLARICE_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"nowhere/polar-transformer\.safetensors"):
        trained_network("polar-transformer")
    monkeypatch.setenv("CLARICE_WEIGHTS", str(tmp_path))
    path = weights_path("unet")
    assert path.parent == tmp_path
    write_weights(path, {"other": torch.zeros(2)}, {"recipe": {"network": {"name": "unet"}}})
    with pytest.raises(InputError, match=r"unet\.safetensors does not hold"):
        load_trained(path)


def test_a_folder_of_one_network_leaves_the_others_as_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLARICE_WEIGHTS", raising=False)
    shipped = weights_path("polar-cnn")
    write_random_weights(tmp_path)
    monkeypatch.setenv("CLARICE_WEIGHTS", str(tmp_path))
    assert weights_path("polar-transformer").parent == tmp_path
    assert weights_path("polar-cnn") == shipped


@pytest.mark.usefixtures("weights_folder")
def test_the_network_reads_its_size_from_the_card() -> None:
    trained = joint()
    assert isinstance(trained.network, PolarTransformer)
    assert trained.network.size == PolarTransformerSize(**SIZES["polar-transformer"])
    assert trained.box == 24
