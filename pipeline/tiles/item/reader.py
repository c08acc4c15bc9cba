"""Reads one slide's tiles from the store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.base.arrays import MappedArray, spans_of
from pipeline.base.errors import CorruptItem
from pipeline.base.types import Rows
from pipeline.tiles.item.content import Digests, as_digests, digest_of
from pipeline.tiles.item.meta import JPEG_ARRAY, META_FILE, OFFSETS_ARRAY, TABLE_FILE, Meta, read_meta
from pipeline.tiles.pixels import FILTER, decode_jpeg

if TYPE_CHECKING:
    import pyarrow as pa


class TileReader:
    """The tiles of one item folder, by row. Pickles only its path; files are opened and mapped when first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._table: pa.Table | None = None
        self._held: pa.Table | None = None
        self._asked: frozenset[str] = frozenset()

    def __reduce__(self) -> tuple[type[TileReader], tuple[Path]]:
        return TileReader, (self.folder,)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where each tile starts in the JPEG bytes, and the last one ends; (N + 1,)."""
        # A view of the map, not a copy: over 20 million tiles they are 160 MB that all processes share. It is not
        # kept: the map could not be given up.
        return np.asarray(self._offsets.slice(0, len(self._offsets)))

    def jpeg(self, row: int) -> bytes:
        """The tile's JPEG file."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} in {self.folder}")
        start, stop = self._offsets.slice(row, row + 2).tolist()
        if not 0 <= start < stop <= len(self._jpeg):
            what = f"its offsets {start}-{stop} lie outside {len(self._jpeg)} bytes"
            raise CorruptItem(what, where=f"{self.folder}, row {row}", fix="histill store verify")
        return self._jpeg.slice(start, stop).tobytes()

    def prepare(self, rows: Rows) -> None:
        """Have tiles at hand before they are read, where the item lies in a bucket."""
        offsets = self.offsets
        self._jpeg.prepare((int(offsets[start]), int(offsets[stop])) for start, stop in spans_of(rows))

    def image(self, row: int, side_px: int | None = None, resample: Image.Resampling = FILTER) -> NDArray[np.uint8]:
        """The tile's pixels, (H, W, 3) uint8 RGB; with `side_px` (side_px, side_px, 3), see `decode_jpeg`."""
        try:
            return decode_jpeg(self.jpeg(row), side_px, resample)
        except ValueError as error:
            where, fix = f"{self.folder}, row {row}", "histill store verify"
            raise CorruptItem(f"the tile does not decode: {error}", where=where, fix=fix) from None

    @property
    def table(self) -> pa.Table:
        """Place, scores, label and source of each tile (columns: see writer.py), one row a tile."""
        # Here, since whoever reads pictures alone, as a training does, needs none of its 30 MB.
        import pyarrow.parquet as pq

        if self._table is None:
            self._table = pq.read_table(self.folder / TABLE_FILE)
        return self._table

    @property
    def places(self) -> NDArray[np.int64]:
        """Each tile's left and top edge in level-0 pixels, (N, 2). Raises `CorruptItem`."""
        columns = self._columns("x_l0", "y_l0")
        return np.stack([columns[name].to_numpy() for name in ("x_l0", "y_l0")], 1)

    @property
    def scales(self) -> NDArray[np.floating] | None:
        """um per pixel of each tile, (N,); None where all are of one scale. Raises `CorruptItem`."""
        table = self._columns("mpp")
        return table["mpp"].to_numpy() if table.column_names else None

    @property
    def sources(self) -> pa.ChunkedArray:
        """Where each tile comes from, string or null, (N,) (writer.py). Raises `CorruptItem`."""
        return self._columns("source")["source"]

    def rows_at(self, mpp: float | None) -> NDArray[np.int64]:
        """The rows of that scale, um per pixel; all where the tiles are of one. Raises `CorruptItem`."""
        mpp_N = self.scales
        return np.arange(len(self), dtype=np.int64) if mpp_N is None else np.flatnonzero(mpp_N == mpp)

    def hold(self, *names: str) -> None:
        """Read these columns at once and keep them, for whoever asks for several. Raises `CorruptItem`."""
        self._held, self._asked = self._columns(*names), frozenset(names)

    def _columns(self, *names: str) -> pa.Table:
        """Those columns of the table that it has; not kept. Of a small file threads are most of the cost.

        Raises `CorruptItem`.
        """
        import pyarrow.parquet as pq

        # Columns that the table does not have were looked for as well.
        if self._held is not None and self._asked.issuperset(names):
            return self._held.select([name for name in names if name in self._held.column_names])

        with self._damage_told(TABLE_FILE), pq.ParquetFile(self.folder / TABLE_FILE) as file:
            found = [name for name in names if name in file.schema_arrow.names]
            table = file.read(columns=found, use_threads=False)
            if len(table) != len(self):
                raise ValueError(f"{len(table)} rows of {len(self)} tiles")
            return table

    @contextlib.contextmanager
    def _damage_told(self, name: str) -> Iterator[None]:
        """What reading one of the item's files raises, as `CorruptItem`."""
        try:
            yield
        except (OSError, ValueError) as error:
            where, fix = str(self.folder / name), "histill store verify"
            raise CorruptItem(f"cannot be read: {error}", where=where, fix=fix) from None

    @property
    def labels(self) -> list[str | None]:
        """Each tile's label, None where it has none."""
        meta = self.meta
        if not meta.labels:
            # Opening the table is most of what a slide of few tiles costs.
            return [None] * meta.n
        labels: list[str | None] = self.table["label"].to_pylist()
        return labels

    @property
    def digests(self) -> Digests:
        """Of each tile's JPEG (content.py), (N,); made of the files themselves where the table has no such column.

        Raises `CorruptItem`.
        """
        table = self._columns("digest")
        if table.column_names:
            column = table["digest"].combine_chunks()
            return as_digests(memoryview(column.buffers()[1]))[column.offset : column.offset + len(column)]
        return as_digests(b"".join(digest_of(self.jpeg(row)) for row in range(len(self))))

    @property
    def meta(self) -> Meta:
        """meta.json: what was dropped, and of a slide its geometry (`SlideMeta`). Raises `CorruptItem`."""
        with self._damage_told(META_FILE):
            return read_meta(self.folder)

    @cached_property
    def _offsets(self) -> MappedArray:
        return MappedArray(self.folder / OFFSETS_ARRAY)

    @cached_property
    def _jpeg(self) -> MappedArray:
        return MappedArray(self.folder / JPEG_ARRAY)
