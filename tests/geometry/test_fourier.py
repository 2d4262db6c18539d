"""Centred transforms against plain Fourier sums; resampling against band-limited truth; shells by loops."""

from __future__ import annotations

import math

import pytest
import torch
from tests.geometry.blobs import blob_image, blob_volume, fourier_sum, relative_error, seeded

from clarice.geometry import fourier


@pytest.mark.parametrize("box", [8, 9])
@pytest.mark.parametrize("ndim", [2, 3])
def test_centred_transform_is_the_plain_sum(box: int, ndim: int) -> None:
    array = torch.randn((2, *(box,) * ndim), generator=seeded())
    forward, backward = (
        (fourier.centred_fft2, fourier.centred_ifft2) if ndim == 2 else (fourier.centred_fft3, fourier.centred_ifft3)
    )
    axis = (torch.arange(box) - box // 2) / box
    q = torch.stack(torch.meshgrid(*[axis] * ndim, indexing="ij"), dim=-1).reshape(-1, ndim).flip(-1)
    expected = fourier_sum(array, q).reshape(array.shape)
    torch.testing.assert_close(forward(array).to(torch.complex128), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(backward(forward(array)).real, array)


@pytest.mark.parametrize(
    ("old", "new"), [(8, 12), (8, 13), (9, 12), (9, 14), (12, 8), (13, 8), (12, 9), (13, 9), (8, 8)]
)
def test_resize_keeps_the_centre_where_it_is(old: int, new: int) -> None:
    x = torch.randn((2, old, old), generator=seeded())
    resized = fourier.resize_centred(x, new, 2)
    assert resized.shape == (2, new, new)
    for i in range(new):
        for j in range(new):
            y, z = i - new // 2 + old // 2, j - new // 2 + old // 2
            inside = 0 <= y < old and 0 <= z < old
            expected = x[:, y, z] if inside else torch.zeros(2)
            assert torch.equal(resized[:, i, j], expected)


@pytest.mark.parametrize(("old", "new"), [(32, 48), (32, 47), (33, 48), (33, 21), (32, 21), (40, 24), (41, 24)])
def test_fourier_resize_samples_the_same_picture(old: int, new: int) -> None:
    """A blob wide enough to survive the crop, sampled `new` times a side: values and centre stay."""

    def gaussian(box: int, ndim: int) -> torch.Tensor:
        axis = (torch.arange(box) - box // 2) * (old / box)
        offsets = (1.5, -2.0, 0.5)[:ndim]
        total = sum(
            ((axis - offset) ** 2).reshape([-1 if d == i else 1 for d in range(ndim)])
            for i, offset in enumerate(offsets)
        )
        return torch.exp(-total / (2 * 3.0**2))

    for ndim in (2, 3):
        found = fourier.fourier_resize(gaussian(old, ndim)[None], new, ndim)[0]
        torch.testing.assert_close(found, gaussian(new, ndim), rtol=0, atol=2e-3)


@pytest.mark.parametrize("box", [16, 17])
def test_fourier_resize_there_and_back(box: int) -> None:
    volume = blob_volume(box)
    back = fourier.fourier_resize(fourier.fourier_resize(volume, 2 * box, 3), box, 3)
    odd = box % 2 == 1  # an even box loses half of its Nyquist plane to the real part
    torch.testing.assert_close(back, volume, rtol=0, atol=1e-5 if odd else 3e-3)
    assert fourier.fourier_resize(volume, box, 3) is volume


@pytest.mark.parametrize("box", [6, 7])
def test_frequencies_and_shells_by_loops(box: int) -> None:
    fy, fx = fourier.frequency_grid(box)
    for i in range(box):
        for j in range(box):
            assert fy[i, j].item() == pytest.approx((i - box // 2) / box)
            assert fx[i, j].item() == pytest.approx((j - box // 2) / box)
    for ndim in (2, 3):
        shells, radii = fourier.shell_index(box, ndim), fourier.radius_grid(box, ndim)
        values = torch.randn((3, *(box,) * ndim), generator=seeded())
        means = fourier.shell_mean(values, ndim)
        assert means.shape == (3, box // 2 + 1)
        sums: list[list[torch.Tensor]] = [[] for _ in range(box * 2)]
        for index in torch.cartesian_prod(*[torch.arange(box)] * ndim).tolist():
            radius = math.dist(index, [box // 2] * ndim)
            assert radii[tuple(index)].item() == pytest.approx(radius, abs=1e-5)
            assert shells[tuple(index)].item() == round(radius)
            sums[round(radius)].append(values[(slice(None), *index)])
        for shell in range(box // 2 + 1):
            torch.testing.assert_close(means[:, shell], torch.stack(sums[shell]).mean(dim=0))


def test_shell_mean_takes_complex_and_unbatched_values() -> None:
    image = blob_image(16, torch.zeros(4, 3).numpy())
    spectrum = fourier.centred_fft2(image)
    means = fourier.shell_mean(spectrum, 2)
    assert means.dtype == torch.complex64
    assert means[0] == spectrum[8, 8]
    assert relative_error(means.real, fourier.shell_mean(spectrum.real, 2)) < 1e-6


@pytest.mark.parametrize("box", [16, 17])
@pytest.mark.parametrize("ndim", [2, 3])
def test_up_to_radius_keeps_what_lies_inside_and_nothing_beyond(box: int, ndim: int) -> None:
    image = torch.randn((box,) * ndim, generator=torch.Generator().manual_seed(0))
    transform = fourier.centred_fft2 if ndim == 2 else fourier.centred_fft3
    before, after = transform(image), transform(fourier.up_to_radius(image, 5.0, ndim))
    radius = fourier.radius_grid(box, ndim)
    torch.testing.assert_close(after[radius <= 4.5], before[radius <= 4.5], rtol=1e-4, atol=1e-4)
    assert float(after[radius >= 5.5].abs().max()) < 1e-4
