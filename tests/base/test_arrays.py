"""The array fast path: what is mapped is what zarr reads."""

from __future__ import annotations

import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.arrays import ArrayWriter, BytesWriter, MappedArray, balanced_rows
from pipeline.base.errors import CorruptItem

DTYPES = ("int8", "uint8", "float16", "float32", "int64")


def write(path: Path, values: np.ndarray, chunk_rows: int) -> None:
    writer = ArrayWriter(path, values.shape, chunk_rows, values.dtype, {"mu": [1.5]})
    for chunk in range(writer.n_chunks):
        rows = writer.rows(chunk)
        writer.write(chunk, values[rows.start : rows.stop])


@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    chunk_rows=st.integers(1, 9),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_the_mapped_read_equals_the_zarr_read(
    shape: list[int], chunk_rows: int, dtype: str, seed: int, data: st.DataObject
) -> None:
    values = (np.random.default_rng(seed).normal(size=shape) * 50).astype(dtype)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        write(path, values, chunk_rows)
        array, mapped = zarr.open_array(str(path), mode="r"), MappedArray(path)
        np.testing.assert_array_equal(array[:], values)
        assert dict(array.attrs) == mapped.attributes == {"mu": [1.5]}
        start = data.draw(st.integers(0, len(values)))
        stop = data.draw(st.integers(start, len(values)))
        np.testing.assert_array_equal(mapped.slice(start, stop), array[start:stop])
        rows = np.array(data.draw(st.lists(st.integers(0, len(values) - 1), max_size=12)), np.int64)
        np.testing.assert_array_equal(mapped.take(rows), values[rows])
        if len(shape) > 1:
            at = data.draw(st.integers(0, shape[1] - 1))
            np.testing.assert_array_equal(mapped.take(rows, at=at), values[rows, at])


@given(n=st.integers(1, 10_000), target=st.integers(1, 2_000))
def test_balanced_chunks_hold_all_rows_with_less_than_a_row_a_chunk_of_padding(n: int, target: int) -> None:
    rows = balanced_rows(n, target)
    chunks = -(-n // rows)
    assert rows <= target and chunks * rows >= n
    assert chunks * rows - n < chunks


def test_a_mapped_array_pickles_only_its_path(tmp_path: Path) -> None:
    values = np.arange(100_000, dtype=np.int64)
    write(tmp_path / "a", values, 1000)
    mapped = MappedArray(tmp_path / "a")
    mapped.slice(0, 100_000)
    data = pickle.dumps(mapped)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).slice(500, 1500), values[500:1500])


def test_rows_outside_the_array_are_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a", np.arange(10), 4)
    mapped = MappedArray(tmp_path / "a")
    for bad in ([-1], [10]):
        with pytest.raises(IndexError):
            mapped.take(np.array(bad))
    with pytest.raises(IndexError):
        mapped.slice(5, 11)


def test_a_missing_or_short_chunk_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a", np.arange(10), 4)
    file = tmp_path / "a" / "c" / "1"
    file.write_bytes(file.read_bytes()[:8])
    with pytest.raises(CorruptItem, match="chunk 1"):
        MappedArray(tmp_path / "a").slice(4, 6)
    file.unlink()
    with pytest.raises(CorruptItem, match="chunk 1"):
        MappedArray(tmp_path / "a").slice(4, 6)


def test_values_of_another_shape_or_type_are_refused(tmp_path: Path) -> None:
    writer = ArrayWriter(tmp_path / "a", (10, 2), 4, np.int8)
    for values in (np.zeros((4, 3), np.int8), np.zeros((4, 2), np.int16), np.zeros((3, 2), np.int8)):
        with pytest.raises(ValueError, match="chunk 0"):
            writer.write(0, values)


@given(parts=st.lists(st.binary(max_size=40), min_size=1, max_size=20), chunk_nbytes=st.integers(1, 64))
def test_appended_bytes_are_an_ordinary_array(parts: list[bytes], chunk_nbytes: int) -> None:
    whole = b"".join(parts)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        writer = BytesWriter(path, chunk_nbytes)
        for part in parts:
            writer.append(part)
            assert len(writer) <= len(whole)
        if not whole:
            with pytest.raises(ValueError, match="no bytes"):
                writer.close()
            return
        writer.close()
        array, mapped = zarr.open_array(str(path), mode="r"), MappedArray(path)
        assert array[:].tobytes() == mapped.slice(0, len(mapped)).tobytes() == whole
        assert array.chunks == (min(chunk_nbytes, len(whole)),)


def test_maps_are_bounded_and_reading_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.base.maps._most", lambda: 3)
    values, found = np.arange(40, dtype=np.int64).reshape(20, 2), []
    for name in ("a", "b"):
        write(tmp_path / name, values, 2)
        found.append(MappedArray(tmp_path / name))
    for _ in range(2):
        for array in found:
            assert np.array_equal(array.take(np.arange(19, -1, -1)), values[::-1])
    assert sum(len(array._maps) for array in found) <= 3
