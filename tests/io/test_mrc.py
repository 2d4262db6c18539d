"""MRC files against the mrcfile library, and the odd ones no library wrote."""

from __future__ import annotations

import gzip
import io
import os
import struct
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray

from clarice.core.errors import InputError, OutputError
from clarice.io.mrc import MrcSource, MrcStackWriter, inspect_mrc, read_mrc, write_mrc
from clarice.io.mrc_header import make_header


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("box", [8, 9])
@pytest.mark.parametrize(("dtype", "mode"), [("i1", 0), ("i2", 1), ("f4", 2), ("u2", 6), ("f2", 12)])
def test_every_mode_as_mrcfile_writes_it(tmp_path: Path, dtype: str, mode: int, box: int) -> None:
    values = np.random.default_rng(1).integers(0, 100, (5, box, box)).astype(dtype)
    with mrcfile.new(tmp_path / "a.mrcs") as file:
        file.set_data(values)
        file.set_image_stack()
        file.voxel_size = 1.5
    source = MrcSource.open(tmp_path / "a.mrcs")
    assert (source.header.mode, len(source), source.box) == (mode, 5, box)
    assert source.header.pixel_size_angstrom == pytest.approx(1.5)
    assert source.header.warnings == ()
    rows = np.array([4, 0, 4])
    np.testing.assert_array_equal(source.read(rows), values[rows].astype(np.float32))
    assert source.read(rows).dtype == np.float32


@pytest.mark.parametrize("mode", [1, 2, 6, 12])
def test_big_endian(tmp_path: Path, mode: int) -> None:
    kind = {1: ">i2", 2: ">f4", 6: ">u2", 12: ">f2"}[mode]
    values = np.arange(3 * 16).reshape(3, 4, 4)
    header = bytearray(1024)
    struct.pack_into(">10i", header, 0, 4, 4, 3, mode, 0, 0, 0, 4, 4, 3)
    struct.pack_into(">6f", header, 40, 8, 8, 6, 90, 90, 90)
    struct.pack_into(">3i", header, 64, 1, 2, 3)
    header[208:214] = b"MAP \x11\x11"
    (tmp_path / "b.mrcs").write_bytes(bytes(header) + values.astype(kind).tobytes())
    source = MrcSource.open(tmp_path / "b.mrcs")
    np.testing.assert_array_equal(source.read(np.arange(3)), values)
    assert source.header.pixel_size_angstrom == pytest.approx(2.0)


def test_unsigned_bytes_of_imod(tmp_path: Path) -> None:
    header = bytearray(make_header((1, 2, 2), 0, 1.0, False, (0, 0, 0, 0), ""))
    struct.pack_into("<2i", header, 152, 1146047817, 0)
    (tmp_path / "u.mrc").write_bytes(bytes(header) + bytes([0, 127, 128, 255]))
    assert MrcSource.open(tmp_path / "u.mrc").read(np.array([0])).ravel().tolist() == [0, 127, 128, 255]


@pytest.mark.parametrize("is_volume", [True, False])
@pytest.mark.parametrize("mode", ["float32", "float16"])
def test_written_files_satisfy_mrcfile(tmp_path: Path, mode: str, is_volume: bool) -> None:
    values = noise(8, 8, 8) * 3 + 1
    path = tmp_path / "w.mrc"
    write_mrc(path, values, 2.5, mode=mode, is_volume=is_volume)  # type: ignore[arg-type]
    assert mrcfile.validate(path, print_file=io.StringIO())
    with mrcfile.open(path) as file:
        stored = file.data.astype(np.float32)
        assert file.is_volume() == is_volume
        assert file.is_image_stack() != is_volume
        assert float(file.voxel_size.x) == pytest.approx(2.5)
        assert float(file.header.dmin) == pytest.approx(stored.min(), rel=1e-6)
        assert float(file.header.dmax) == pytest.approx(stored.max(), rel=1e-6)
        assert float(file.header.dmean) == pytest.approx(stored.mean(), rel=1e-5)
        assert float(file.header.rms) == pytest.approx(stored.std(), rel=1e-5)
    np.testing.assert_allclose(stored, values, rtol=2e-3 if mode == "float16" else 0)


def test_streamed_stack_equals_one_written_at_once(tmp_path: Path) -> None:
    values = noise(7, 6, 6) + 10
    with MrcStackWriter(tmp_path / "s.mrcs", 6, 1.25) as writer:
        for start in (0, 3, 5):
            writer.append(values[start : {0: 3, 3: 5, 5: 7}[start]])
        assert not (tmp_path / "s.mrcs").exists()
    write_mrc(tmp_path / "t.mrcs", values, 1.25)
    streamed, whole = inspect_mrc(tmp_path / "s.mrcs"), inspect_mrc(tmp_path / "t.mrcs")
    assert streamed == whole
    a, b = (tmp_path / "s.mrcs").read_bytes(), (tmp_path / "t.mrcs").read_bytes()
    np.testing.assert_allclose(np.frombuffer(a[76:88], "<f4"), np.frombuffer(b[76:88], "<f4"), rtol=1e-6)
    assert a[1024:] == b[1024:]


def test_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with MrcStackWriter(tmp_path / "s.mrcs", 6, 1.0) as writer:
            writer.append(noise(2, 6, 6))
            writer.append(noise(2, 5, 5))

    with pytest.raises(OutputError, match="its box is 6"):
        fail()
    with pytest.raises(OutputError, match="empty"), MrcStackWriter(tmp_path / "s.mrcs", 6, 1.0):
        pass
    assert os.listdir(tmp_path) == []


def test_values_beyond_float16_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="use float32"):
        write_mrc(tmp_path / "h.mrc", np.full((2, 2), 1e5), 1.0, mode="float16")
    with pytest.raises(OutputError, match="must be positive"):
        write_mrc(tmp_path / "h.mrc", np.ones((2, 2)), 0.0)


def test_truncated_file_names_bytes(tmp_path: Path) -> None:
    write_mrc(tmp_path / "t.mrcs", noise(4, 8, 8), 1.0)
    raw = (tmp_path / "t.mrcs").read_bytes()
    (tmp_path / "t.mrcs").write_bytes(raw[:-10])
    with pytest.raises(InputError, match=r"t\.mrcs is truncated: .* need 2048 bytes, the file has 2038"):
        inspect_mrc(tmp_path / "t.mrcs")


def test_headers_that_ask_for_terabytes_are_refused(tmp_path: Path) -> None:
    header = make_header((2**23, 2**23, 2**23), 2, 1.0, False, (0, 0, 0, 0), "")
    (tmp_path / "huge.mrcs").write_bytes(header + b"\0" * 64)
    with pytest.raises(InputError, match="truncated"):
        MrcSource.open(tmp_path / "huge.mrcs")
    (tmp_path / "huge.mrc.gz").write_bytes(gzip.compress(header + b"\0" * 64))
    with pytest.raises(InputError, match="truncated"):
        read_mrc(tmp_path / "huge.mrc.gz")


@pytest.mark.parametrize(("mode", "word"), [(4, "complex"), (101, "4-bit"), (3, "complex")])
def test_modes_without_images_are_named(tmp_path: Path, mode: int, word: str) -> None:
    (tmp_path / "m.mrc").write_bytes(make_header((1, 2, 2), mode, 1.0, False, (0, 0, 0, 0), "") + bytes(64))
    with pytest.raises(InputError, match=word):
        inspect_mrc(tmp_path / "m.mrc")


def test_map_with_turned_axes_is_turned_back(tmp_path: Path) -> None:
    values = noise(4, 5, 6)
    header = bytearray(make_header((6, 5, 4), 2, 1.0, True, (0, 0, 0, 0), ""))
    struct.pack_into("<3i", header, 64, 3, 2, 1)
    stored = np.ascontiguousarray(values.transpose(2, 1, 0))  # sections along x, columns along z
    (tmp_path / "z.mrc").write_bytes(bytes(header) + stored.tobytes())
    np.testing.assert_array_equal(read_mrc(tmp_path / "z.mrc")[0], values)


def test_missing_pixel_size_is_an_error(tmp_path: Path) -> None:
    header = bytearray(make_header((1, 2, 2), 2, 1.0, False, (0, 0, 0, 0), ""))
    header[40:52] = bytes(12)
    (tmp_path / "p.mrc").write_bytes(bytes(header) + bytes(16))
    with pytest.raises(InputError, match="--pixel-size"):
        read_mrc(tmp_path / "p.mrc")
    assert read_mrc(tmp_path / "p.mrc", 3.0)[1] == 3.0


def test_odd_headers_are_read_with_warnings(shared_data: Path) -> None:
    path = shared_data / "particles/relion31_filament_5/relion31.mrcs"
    source = MrcSource.open(path)
    assert any("MAP" in warning for warning in source.header.warnings)
    with pytest.warns(RuntimeWarning), mrcfile.open(path, permissive=True) as file:
        np.testing.assert_array_equal(source.read(np.arange(5)), file.data)


def test_gzipped_map_reads_as_the_plain_one(shared_data: Path, tmp_path: Path) -> None:
    packed = shared_data / "maps/rotavirus_vp6_96_1.23A.mrc.gz"
    (tmp_path / "plain.mrc").write_bytes(gzip.decompress(packed.read_bytes()))
    volume, size = read_mrc(packed)
    assert volume.shape == (96, 96, 96)
    np.testing.assert_array_equal(volume, read_mrc(tmp_path / "plain.mrc")[0])
    assert 1 < size < 1.5
