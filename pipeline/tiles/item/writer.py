"""Writes one slide's tiles into an item folder of the store.

    tiles.parquet   row, x_l0, y_l0 (int64, level-0 pixels), tissue (float32, 0-1), sharpness, haematoxylin, eosin
                    (float32, see scores.py, stains.py), label, source (string or null)
    jpeg/           uint8 (nbytes,): the tiles' JPEG files end to end
    offsets/        int64 (N + 1,): tile i is jpeg[offsets[i]:offsets[i + 1]]
    meta.json       geometry and what was dropped
    thumb.jpg, mosaic.jpg, and for slides overlay.jpg: for people (pictures.py)

Every tile is one slice, and the same input gives the same bytes.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.base.arrays import ArrayWriter, BytesWriter
from pipeline.base.files import write_json

TABLE_FILE, META_FILE, JPEG_ARRAY, OFFSETS_ARRAY = "tiles.parquet", "meta.json", "jpeg", "offsets"
_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("x_l0", pa.int64()),
        ("y_l0", pa.int64()),
        ("tissue", pa.float32()),
        ("sharpness", pa.float32()),
        ("haematoxylin", pa.float32()),
        ("eosin", pa.float32()),
        ("label", pa.string()),
        ("source", pa.string()),
    ]
)

_CODES = {pa.int64(): "q", pa.float32(): "f"}
"""Numbers are kept as such: as Python's own, millions of tiles would take a quarter of a KB each."""
_NUMBERS = frozenset(field.name for field in _SCHEMA if field.type in _CODES)


class TileWriter:
    """Takes tiles one after another; memory holds the table and one chunk of JPEG bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._jpeg = BytesWriter(folder / JPEG_ARRAY)
        self._offsets = array("q", [0])
        self._columns: dict[str, Any] = {
            field.name: array(_CODES[field.type]) if field.type in _CODES else [] for field in _SCHEMA
        }

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def append(
        self,
        jpeg: bytes,
        *,
        x_l0: int = 0,
        y_l0: int = 0,
        tissue: float = 1.0,
        sharpness: float = 0.0,
        stain: tuple[float, float] = (0.0, 0.0),
        label: str | None = None,
        source: str | None = None,
    ) -> None:
        """The next tile: its JPEG file, its place in level-0 pixels, its scores, what is known of it."""
        row = (len(self), x_l0, y_l0, tissue, sharpness, *stain, label, source)
        for column, value in zip(self._columns.values(), row, strict=True):
            column.append(value)
        self._jpeg.append(jpeg)
        self._offsets.append(len(self._jpeg))

    def close(self, meta: Mapping[str, Any]) -> None:
        """Write what is pending, the table and meta.json (`meta`, with the counts of tiles and of each label)."""
        self._jpeg.close()
        offsets = np.frombuffer(self._offsets, np.int64)
        ArrayWriter(self.folder / OFFSETS_ARRAY, offsets.shape, len(offsets), np.int64).write(0, offsets)
        columns = {name: np.asarray(cells) if name in _NUMBERS else cells for name, cells in self._columns.items()}
        pq.write_table(pa.table(columns, schema=_SCHEMA), self.folder / TABLE_FILE)
        labels = Counter(label for label in self._columns["label"] if label is not None)
        write_json(self.folder / META_FILE, {**meta, "n": len(self), "labels": dict(labels)})
