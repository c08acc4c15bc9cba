"""What is written is what is read, through maps as through zarr."""

from __future__ import annotations

import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from made.slides import tissue_picture

from pipeline.base.errors import CorruptItem
from pipeline.tiles.item.meta import Meta
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.item.writer import TileWriter
from pipeline.tiles.pixels import encode_jpeg


@given(jpegs=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=40))
def test_every_tile_is_the_slice_between_its_offsets(jpegs: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        writer = TileWriter(Path(folder))
        for i, jpeg in enumerate(jpegs):
            writer.append(jpeg, x_l0=i, label=None if i % 2 else "odd")
        writer.close(Meta(kind="file", tile_px=1))
        reader = TileReader(Path(folder))
        offsets = zarr.open_array(f"{folder}/offsets", mode="r")[:]
        end_to_end = zarr.open_array(f"{folder}/jpeg", mode="r")[:]
        assert end_to_end.tobytes() == b"".join(jpegs)
        assert len(reader) == len(jpegs) and offsets[-1] == len(end_to_end)
        np.testing.assert_array_equal(reader.offsets, offsets)
        for i, jpeg in enumerate(jpegs):
            assert reader.jpeg(i) == jpeg == end_to_end[offsets[i] : offsets[i + 1]].tobytes()
        assert reader.table["row"].to_pylist() == list(range(len(jpegs)))
        assert reader.meta.n == len(jpegs) and reader.meta.labels == {"odd": (len(jpegs) + 1) // 2}


def write(folder: Path) -> TileReader:
    writer = TileWriter(folder)
    for seed in range(3):
        writer.append(encode_jpeg(tissue_picture(64, 64, seed), 95))
    writer.close(Meta(kind="file", tile_px=1))
    return TileReader(folder)


def test_a_reader_pickles_only_its_path(tmp_path: Path) -> None:
    reader = write(tmp_path)
    before = reader.image(2, 32)
    assert len(reader.labels) == 3
    data = pickle.dumps(reader)
    assert len(data) < 400
    np.testing.assert_array_equal(pickle.loads(data).image(2, 32), before)


def test_rows_outside_are_an_error(tmp_path: Path) -> None:
    reader = write(tmp_path)
    for row in (-1, 3):
        with pytest.raises(IndexError, match=str(row)):
            reader.jpeg(row)


def test_a_tile_with_flipped_bytes_is_named(tmp_path: Path) -> None:
    reader = write(tmp_path)
    file = tmp_path / "jpeg" / "c" / "0"
    data = bytearray(file.read_bytes())
    data[reader.offsets[1] : reader.offsets[1] + 40] = bytes(40)
    file.write_bytes(data)
    assert TileReader(tmp_path).image(0).shape == (64, 64, 3)
    with pytest.raises(CorruptItem, match="row 1"):
        TileReader(tmp_path).image(1)
