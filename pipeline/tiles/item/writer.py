"""Writes one slide's tiles into an item folder of the store.

    tiles.parquet   row, x_l0, y_l0 (int64, level-0 pixels), tissue (float32, 0-1), sharpness, haematoxylin, eosin
                    (float32, see scores.py, stains.py), label, source (string or null), digest (16 bytes,
                    see content.py; the reader makes it where the column is not there)
                    mpp (float64), in items whose tiles are of several scales alone (`tiles.also_mpp`)
    jpeg/           uint8 (nbytes,): the tiles' JPEG files end to end
    offsets/        int64 (N + 1,): tile i is jpeg[offsets[i]:offsets[i + 1]]
    meta.json       geometry and what was dropped
    thumb.jpg, mosaic.jpg, and for slides overlay.jpg: for people (pictures.py)

Every tile is one slice, and the same input gives the same bytes.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.base.arrays import ArrayWriter, BytesWriter
from pipeline.base.files import write_json
from pipeline.tiles.item.content import DIGEST_NBYTES, digest_of
from pipeline.tiles.item.meta import JPEG_ARRAY, META_FILE, OFFSETS_ARRAY, TABLE_FILE, Meta

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
        ("digest", pa.binary(DIGEST_NBYTES)),
    ]
)

_MPP = pa.field("mpp", pa.float64())

_CODES = {pa.int64(): "q", pa.float32(): "f"}
"""Numbers are kept as such: as Python's own, millions of tiles would take a quarter of a KB each."""


@dataclass(frozen=True)
class Scores:
    """What is measured of a tile: share of tissue, sharpness, optical density of the two stains (see scores.py)."""

    tissue: float = 1.0
    sharpness: float = 0.0
    haematoxylin: float = 0.0
    eosin: float = 0.0


class TileWriter:
    """Takes tiles one after another; memory holds the table and one chunk of JPEG bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mpp = array("d")
        self._jpeg = BytesWriter(folder / JPEG_ARRAY)
        self._offsets = array("q", [0])
        self._numbers = {field.name: array(_CODES[field.type]) for field in _SCHEMA if field.type in _CODES}
        self._texts: dict[str, list[str | None]] = {"label": [], "source": []}
        self._digests = bytearray()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def append(
        self,
        jpeg: bytes,
        *,
        x_l0: int = 0,
        y_l0: int = 0,
        scores: Scores = Scores(),
        label: str | None = None,
        source: str | None = None,
    ) -> None:
        """The next tile: its JPEG file, its place in level-0 pixels, its scores, what is known of it."""
        numbers = (len(self), x_l0, y_l0, *astuple(scores))
        for column, number in zip(self._numbers.values(), numbers, strict=True):
            column.append(number)
        self._texts["label"].append(label)
        self._texts["source"].append(source)
        self._digests += digest_of(jpeg)
        self._jpeg.append(jpeg)
        self._offsets.append(len(self._jpeg))

    def are_of(self, mpp: float) -> None:
        """The tiles since the last such call are of that scale; called of all scales, or not at all."""
        self._mpp.extend([mpp] * (len(self) - len(self._mpp)))

    def close(self, meta: Meta) -> None:
        """Write what is pending, the table and meta.json (`meta`, with the counts of tiles and of each label)."""
        self._jpeg.close()
        offsets = np.frombuffer(self._offsets, np.int64)
        ArrayWriter(self.folder / OFFSETS_ARRAY, offsets.shape, len(offsets), np.int64).write(0, offsets)
        columns: dict[str, object] = {name: np.asarray(cells) for name, cells in self._numbers.items()}
        digests = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(DIGEST_NBYTES), len(self), [None, pa.py_buffer(bytes(self._digests))]
        )
        columns |= self._texts | {"digest": digests}
        schema = _SCHEMA
        if self._mpp:
            schema, columns = schema.append(_MPP), columns | {"mpp": np.asarray(self._mpp)}
        pq.write_table(pa.table(columns, schema=schema), self.folder / TABLE_FILE)
        labels = Counter(label for label in self._texts["label"] if label is not None)
        counted = meta.model_copy(update={"n": len(self), "labels": dict(labels)})
        write_json(self.folder / META_FILE, counted.model_dump(mode="json"), sync=False)
