"""Zarr v3 groups and arrays that go out: uncompressed chunks, with the metadata of all of them in one place.

Written without the zarr library, whose start-up is a second; a test holds it equal to what that library reads. Numbers
are chunks of raw bytes, texts zarr's `string` with the codec `vlen-utf8`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.base.types import Array, Json

TEXT = "string"
_CHUNK_NBYTES, _TEXT_NBYTES = 8 << 20, 16


class ZarrStore:
    """A root group; `group` and `array` add what is in it by its path there, `close` writes the metadata of all."""

    def __init__(self, root: Path, attributes: Mapping[str, Json]) -> None:
        self._root, self._attributes = root, attributes
        self._nodes: dict[str, Mapping[str, Json]] = {}

    def group(self, path: str, attributes: Mapping[str, Json]) -> None:
        """A group below the root."""
        self._add(path, {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)})

    def array(
        self,
        path: str,
        values: Array | Sequence[str],
        attributes: Mapping[str, Json] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        """An array (n, …) of numbers or booleans, or a list of texts; `names` are those of its dimensions."""
        of_numbers = isinstance(values, np.ndarray)
        shape = values.shape if isinstance(values, np.ndarray) else (len(values),)
        kind = str(values.dtype) if isinstance(values, np.ndarray) else TEXT
        row = math.prod(shape[1:]) * (values.dtype.itemsize if isinstance(values, np.ndarray) else _TEXT_NBYTES)
        rows = max(1, min(shape[0], _CHUNK_NBYTES // max(1, row)))
        told = _told(kind, shape, [rows, *shape[1:]], attributes or {})
        self._add(path, {**told, "dimension_names": list(names)} if names else told)
        for chunk in range(math.ceil(shape[0] / rows)):
            part = values[chunk * rows : (chunk + 1) * rows]
            file = self._root.joinpath(path, "c", str(chunk), *["0"] * (len(shape) - 1))
            if of_numbers:
                _write_numbers(file, np.asarray(part), rows)
            else:
                _write(file, _packed([*part, *[""] * (rows - len(part))]))

    def parts(
        self,
        path: str,
        parts: Iterable[Array],
        of: tuple[Sequence[int], str, int],
        attributes: Mapping[str, Json],
        names: Sequence[str],
    ) -> None:
        """An array that need not fit in memory: `of` its shape, dtype and the rows of each part but the last."""
        shape, dtype, rows = of
        self._add(path, {**_told(dtype, shape, [rows, *shape[1:]], attributes), "dimension_names": list(names)})
        for chunk, part in enumerate(parts):
            _write_numbers(self._root.joinpath(path, "c", str(chunk), *["0"] * (len(shape) - 1)), part, rows)

    def text(self, path: str, text: str, attributes: Mapping[str, Json]) -> None:
        """An array without dimensions that holds one text."""
        self._add(path, _told(TEXT, (), [], attributes))
        _write(self._root / path / "c", _packed([text]))

    def close(self) -> None:
        """The root, with the metadata of all that is below it, as `zarr.consolidate_metadata` leaves it."""
        metadata: dict[str, Json] = {path: dict(told) for path, told in sorted(self._nodes.items())}
        root: dict[str, Json] = {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": dict(self._attributes),
            "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": metadata},
        }
        _write(self._root / "zarr.json", json.dumps(root, indent=1).encode())

    def _add(self, path: str, told: Mapping[str, Json]) -> None:
        self._nodes[path] = told
        _write(self._root / path / "zarr.json", json.dumps(told, indent=1).encode())


def _write_numbers(file: Path, part: Array, rows: int) -> None:
    """A chunk of so many rows, of which the part may have fewer."""
    missing = (rows - len(part)) * math.prod(part.shape[1:]) * part.dtype.itemsize
    _write(file, part.astype(part.dtype.newbyteorder("<")).tobytes() + bytes(missing))


def _told(kind: str, shape: Sequence[int], chunk: Sequence[int], attributes: Mapping[str, Json]) -> dict[str, Json]:
    """An array's metadata."""
    empty: dict[str, Json] = {TEXT: "", "bool": False}
    raw: dict[str, Json] = {"name": "bytes", "configuration": {"endian": "little"}}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": kind,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": empty.get(kind, 0),
        "codecs": [{"name": "vlen-utf8", "configuration": {}} if kind == TEXT else raw],
        "attributes": dict(attributes),
        "storage_transformers": [],
    }


def _packed(texts: Sequence[str]) -> bytes:
    """numcodecs' vlen-utf8: how many, then each with its length before it, all counts as little-endian 32 bits."""
    parts = [len(texts).to_bytes(4, "little")]
    for text in texts:
        data = text.encode()
        parts += [len(data).to_bytes(4, "little"), data]
    return b"".join(parts)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
