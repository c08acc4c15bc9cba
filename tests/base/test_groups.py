"""A group of arrays: what zarr reads of it as a whole, and a writer that is killed between chunks."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.arrays import ArrayForm, GroupWriter, MappedArray, rows_of_file
from pipeline.base.arrays.form import metadata_text
from pipeline.base.errors import CorruptItem

TOLD = {"teacher": {"name": "t"}, "units": {"x": "px"}}


def forms(n: int, rows: int, a_file: int) -> dict[str, ArrayForm]:
    return {
        "cls": ArrayForm((n, 2, 3), rows, np.dtype(np.float16), {"grid": [1, 1]}, ("tile", "view", "d"), a_file, "."),
        "patch": ArrayForm((n, 2, 4, 3), rows, np.dtype(np.int8), {}, ("tile", "view", "token", "d"), a_file, "."),
    }


def values_of(arrays: dict[str, ArrayForm]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.integers(-99, 99, form.shape).astype(form.dtype) for name, form in arrays.items()}


def writer_of(
    folder: Path, arrays: dict[str, ArrayForm], told: dict[str, object] = TOLD, *, resumable: bool = True
) -> GroupWriter:
    n = arrays["cls"].shape[0]
    x_l0 = ArrayForm((n,), n, np.dtype(np.int64), {}, ("tile",), separator=".")
    return GroupWriter(folder, arrays, {"x_l0": (x_l0, np.arange(n))}, told, resumable=resumable)  # type: ignore[arg-type]


def write(writer: GroupWriter, arrays: dict[str, ArrayForm], values: dict[str, np.ndarray], chunks: list[int]) -> None:
    for chunk in chunks:
        rows = arrays["cls"].rows(chunk)
        writer.write(chunk, {name: of[rows.start : rows.stop] for name, of in values.items()})


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 23), rows=st.integers(1, 9), a_file=st.integers(1, 4), resumable=st.booleans(), data=st.data())
def test_what_zarr_reads_and_what_is_mapped_is_what_was_written(
    n: int, rows: int, a_file: int, resumable: bool, data: st.DataObject
) -> None:
    arrays = forms(n, rows, a_file)
    values = values_of(arrays)
    with TemporaryDirectory() as name:
        folder = Path(name)
        writer = writer_of(folder, arrays, resumable=resumable)
        write(writer, arrays, values, data.draw(st.permutations(writer.missing())))
        writer.close()
        group = zarr.open(str(folder), mode="r")
        assert sorted(group) == ["cls", "patch", "x_l0"] and dict(group.attrs) == TOLD
        consolidated = zarr.open_consolidated(str(folder), mode="r")
        for array, expected in values.items():
            np.testing.assert_array_equal(group[array][:], expected)
            np.testing.assert_array_equal(consolidated[array][:], expected)
            mapped = MappedArray(folder / array)
            np.testing.assert_array_equal(mapped.slice(0, n), expected)
            chosen = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=9)), np.int64)
            np.testing.assert_array_equal(mapped.take(chosen, at=1), expected[chosen, 1])
            assert group[array].metadata.dimension_names == arrays[array].dims
        assert not (folder / "journal").exists()


@pytest.mark.parametrize("a_file", [1, 3])
@pytest.mark.parametrize("dtype", ["int8", "float16", "float32", "int64", "uint8"])
def test_metadata_is_what_zarr_itself_writes(a_file: int, dtype: str, tmp_path: Path) -> None:
    for separator, dims in ((".", ("a", "b")), ("/", ())):
        form = ArrayForm((5, 3), 2, np.dtype(dtype), {"mu": [1.5, 2]}, dims, a_file, separator)
        path = tmp_path / f"own{len(dims)}"
        zarr.create_array(
            str(path),
            shape=form.shape,
            chunks=(2, 3),
            shards=None if a_file == 1 else (2 * a_file, 3),
            dtype=form.dtype,
            compressors=None,
            filters=None,
            fill_value=0,
            attributes=dict(form.attributes),
            dimension_names=dims or None,
            chunk_key_encoding={"name": "default", "separator": separator},
        )
        assert (path / "zarr.json").read_bytes() == metadata_text(form.metadata())


def test_a_killed_writer_goes_on_after_the_chunks_that_its_journal_names(tmp_path: Path) -> None:
    arrays = forms(11, 3, 2)
    values = values_of(arrays)
    write(writer_of(tmp_path, arrays), arrays, values, [0, 2])
    with open(tmp_path / "journal", "ab") as journal:
        journal.write(b"3 12 1")
    again = writer_of(tmp_path, arrays)
    assert again.missing() == [1, 3], "a line without its end is none"
    write(again, arrays, values, [1, 3])
    again.close()
    for name, expected in values.items():
        np.testing.assert_array_equal(zarr.open(str(tmp_path), mode="r")[name][:], expected)


def test_what_another_form_or_another_version_left_is_begun_again(tmp_path: Path) -> None:
    arrays = forms(11, 3, 2)
    write(writer_of(tmp_path, arrays), arrays, values_of(arrays), [0])
    (tmp_path / "cls" / "c" / "0").mkdir(parents=True)
    assert writer_of(tmp_path, arrays, {"teacher": "another"}).missing() == [0, 1, 2, 3]
    assert sorted(path.name for path in (tmp_path / "cls").iterdir()) == ["zarr.json"]


def test_a_group_is_not_closed_before_it_is_whole(tmp_path: Path) -> None:
    arrays = forms(11, 3, 2)
    writer = writer_of(tmp_path, arrays)
    write(writer, arrays, values_of(arrays), [0, 1])
    with pytest.raises(ValueError, match=r"chunks \[2, 3\]"):
        writer.close()


def test_the_rows_of_a_file_are_those_of_its_shard_and_a_damaged_index_is_said(tmp_path: Path) -> None:
    arrays = forms(11, 3, 2)
    writer = writer_of(tmp_path, arrays)
    write(writer, arrays, values_of(arrays), writer.missing())
    writer.close()
    assert rows_of_file(tmp_path, "patch/c.1.0.0.0") == range(6, 11)
    assert rows_of_file(tmp_path, "x_l0/c.0") == range(11) and rows_of_file(tmp_path, "patch/zarr.json") is None
    file = tmp_path / "patch" / "c.0.0.0.0"
    data = bytearray(file.read_bytes())
    data[3 * 24 + 5] ^= 1
    file.write_bytes(data)
    assert rows_of_file(tmp_path, "patch/c.0.0.0.0") == range(3, 6)
    data[-25] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptItem, match="index is damaged"):
        MappedArray(tmp_path / "patch").slice(0, 2)
