"""What a Zarr v3 array looks like on disk: its metadata, and in which file and where in it each chunk lies.

Chunks are uncompressed and flat C-order, and the grid runs along the first axis only. Two forms, both ordinary Zarr:

    a chunk a file      c/<i>/0/0 …, or c.<i>.0.0 with the separator "."
    chunks in a shard   one file of several chunks end to end (Zarr's codec `sharding_indexed`), then the index: offset
                        and size of each, 16 bytes, and its CRC-32C; all chunks lie in order, so that what is before the
                        index is as flat as one large chunk, while others read one small chunk at a time

The metadata is written here and not by zarr, which takes milliseconds an array; a test holds the two equal, byte for
byte.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.errors import CorruptItem
from pipeline.base.types import Json

METADATA_FILE = "zarr.json"
CHUNK_SUMS = "chunk_crc32"
"""Attribute of an array in shards: the CRC-32 of each chunk's rows."""
_LITTLE: dict[str, Json] = {"name": "bytes", "configuration": {"endian": "little"}}
_EMPTY = (1 << 64) - 1
"""Offset and size, in a shard's index, of a chunk that is not there."""
VERIFY = "histill store verify"


def balanced_rows(n: int, target: int) -> int:
    """Rows a chunk so that chunks are equal: 1,500 rows, at most 1,024 a chunk, are 2 x 750 and need no padding."""
    return max(1, math.ceil(n / max(1, math.ceil(n / target))))


@dataclass(frozen=True)
class ArrayForm:
    """`shape` (n, …) in chunks of `chunk_rows` rows, `chunks_a_file` of them in a shard (1: each in its own file)."""

    shape: tuple[int, ...]
    chunk_rows: int
    dtype: np.dtype[Any]
    attributes: Mapping[str, Json] = field(default_factory=dict)
    dims: tuple[str, ...] = ()
    chunks_a_file: int = 1
    separator: str = "/"

    @property
    def row_nbytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def n_chunks(self) -> int:
        return math.ceil(self.shape[0] / self.chunk_rows)

    @property
    def n_files(self) -> int:
        return math.ceil(self.n_chunks / self.chunks_a_file)

    def rows(self, chunk: int) -> range:
        """The rows that a chunk holds, padding left out."""
        return range(chunk * self.chunk_rows, min(self.shape[0], (chunk + 1) * self.chunk_rows))

    @property
    def file_rows(self) -> int:
        """Rows a file, padding included."""
        return self.chunk_rows * self.chunks_a_file

    def chunks_in(self, number: int) -> int:
        """Chunks of a file that are there: the last shard may have fewer."""
        return min(self.chunks_a_file, self.n_chunks - number * self.chunks_a_file)

    def data_nbytes(self, number: int) -> int:
        """Bytes of a file before its index."""
        return self.chunks_in(number) * self.chunk_rows * self.row_nbytes

    def file(self, number: int) -> str:
        """Name of a file of the array, relative to it: Zarr's default chunk key."""
        return self.separator.join(["c", str(number), *["0"] * (len(self.shape) - 1)])

    def number(self, name: str) -> int:
        """Which file of the array that is. Raises `ValueError` for what is none."""
        parts = name.replace("/", ".").split(".")
        if parts[0] != "c" or len(parts) != len(self.shape) + 1:
            raise ValueError(f"{name} is no chunk")
        return int(parts[1])

    def index(self, number: int) -> bytes:
        """What stands at the end of a shard; nothing of a chunk in a file of its own."""
        if self.chunks_a_file == 1:
            return b""
        nbytes, there = self.chunk_rows * self.row_nbytes, self.chunks_in(number)
        places = [(i * nbytes, nbytes) if i < there else (_EMPTY, _EMPTY) for i in range(self.chunks_a_file)]
        index = b"".join(struct.pack("<2Q", *place) for place in places)
        return index + struct.pack("<I", _crc32c(index))

    def metadata(self) -> dict[str, Json]:
        """zarr.json as zarr itself writes it."""
        wide: dict[str, Json] = _LITTLE if self.dtype.itemsize > 1 else {"name": "bytes"}
        codecs: list[Json] = [wide]
        if self.chunks_a_file > 1:
            shard: dict[str, Json] = {
                "chunk_shape": [self.chunk_rows, *self.shape[1:]],
                "codecs": [wide],
                "index_codecs": [_LITTLE, {"name": "crc32c"}],
                "index_location": "end",
            }
            codecs = [{"name": "sharding_indexed", "configuration": shard}]
        grid: dict[str, Json] = {"chunk_shape": [self.file_rows, *self.shape[1:]]}
        told: dict[str, Json] = {
            "shape": list(self.shape),
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": grid},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": self.separator}},
            "fill_value": 0.0 if self.dtype.kind == "f" else 0,
            "codecs": codecs,
            "attributes": dict(self.attributes),
        }
        if self.dims:
            told["dimension_names"] = list(self.dims)
        return told | {"zarr_format": 3, "node_type": "array", "storage_transformers": []}


def metadata_text(metadata: Mapping[str, Json], indent: int | None = 2) -> bytes:
    """zarr.json as a file; the 2 is zarr's own, None is thirty times as quick to write and to read."""
    return json.dumps(metadata, indent=indent).encode()


def read_form(path: Path) -> ArrayForm:
    """Of an array's folder. Raises `CorruptItem` for one that is missing, broken, or cannot be mapped."""
    try:
        told = json.loads((path / METADATA_FILE).read_bytes())
    except FileNotFoundError:
        raise CorruptItem("array metadata is missing", where=str(path), fix=VERIFY) from None
    except ValueError as error:
        raise CorruptItem(f"array metadata is broken: {error}", where=str(path), fix=VERIFY) from None
    codecs, file_rows = told["codecs"], int(told["chunk_grid"]["configuration"]["chunk_shape"][0])
    chunk_rows = file_rows
    if [codec["name"] for codec in codecs] == ["sharding_indexed"]:
        inner = codecs[0]["configuration"]
        chunk_rows, codecs = int(inner["chunk_shape"][0]), inner["codecs"]
    if [codec["name"] for codec in codecs] != ["bytes"]:
        raise CorruptItem("compressed arrays cannot be mapped", where=str(path), fix="read it with zarr.open")
    return ArrayForm(
        shape=tuple(int(side) for side in told["shape"]),
        chunk_rows=chunk_rows,
        dtype=np.dtype(told["data_type"]),
        attributes=told.get("attributes", {}),
        dims=tuple(told.get("dimension_names") or ()),
        chunks_a_file=file_rows // chunk_rows,
        separator=told["chunk_key_encoding"].get("configuration", {}).get("separator", "/"),
    )


@cache
def _table() -> tuple[int, ...]:
    """Of CRC-32C (Castagnoli), reflected."""
    found = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        found.append(byte)
    return tuple(found)


def _crc32c(data: bytes) -> int:
    crc, table = 0xFFFFFFFF, _table()
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
