"""Reads arrays by mapping their files, or, of an item in a bucket, the bytes of their rows (`base.arrays.far`).

The law of that fast path: it skips work whose result is known and is never another algorithm; a test holds it equal to
what `zarr.open` reads.
"""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipeline.base.arrays.far import Span, far_of
from pipeline.base.arrays.form import CHUNK_SUMS, VERIFY, ArrayForm, read_form
from pipeline.base.errors import CorruptItem
from pipeline.base.maps import MapsOf, map_file
from pipeline.base.types import Array, Json, Rows


class MappedArray:
    """Reads an array through maps of its files. Pickles only its path; each process maps lazily for itself.

    `chunk_rows` are the rows of one file: one chunk, or a shard of several.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        form = read_form(path)
        self.shape, self.dtype, self.chunk_rows = form.shape, form.dtype, form.file_rows
        self.attributes: dict[str, Json] = dict(form.attributes)
        self._form = dataclasses.replace(form, attributes={})
        self._maps = MapsOf()
        far = far_of(path.parent)
        self._far = far if far is not None and far.holds(self._name(0)) else None

    def __reduce__(self) -> tuple[type[MappedArray], tuple[Path]]:
        return MappedArray, (self.path,)

    def __len__(self) -> int:
        return self.shape[0]

    def slice(self, start: int, stop: int) -> Array:
        """Rows start:stop, shape (stop - start, …); a view of the map where they lie in one chunk, else a copy."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"rows {start}:{stop} of {len(self)} in {self.path}")
        first, last = start // self.chunk_rows, max(start, stop - 1) // self.chunk_rows
        if start == stop:
            return np.empty((0, *self.shape[1:]), self.dtype)
        parts = []
        for chunk in range(first, last + 1):
            offset = chunk * self.chunk_rows
            parts.append(self._rows(chunk, max(start - offset, 0), min(stop - offset, self.chunk_rows)))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def take(self, rows: Rows, at: int | None = None) -> Array:
        """The given rows, in the given order, copied once; shape (len(rows), …).

        With `at`, only that index of the second axis is read and the axis is gone: one view of many.
        """
        rows = np.asarray(rows, np.int64)
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"row {rows.min()} or {rows.max()} is outside {len(self)} in {self.path}")
        out = np.empty((len(rows), *(self.shape[1:] if at is None else self.shape[2:])), self.dtype)
        chunks = rows // self.chunk_rows
        # Neighbouring rows of a chunk are one copy; numpy's own fancy index would copy each row twice, by way of a
        # temporary array, since the rows of a chunk may lie anywhere in `out`.
        cuts = np.flatnonzero((np.diff(rows) != 1) | (np.diff(chunks) != 0)) + 1
        for begin, end in itertools.pairwise((0, *cuts.tolist(), len(rows)) if len(rows) else ()):
            chunk = int(chunks[begin])
            first = int(rows[begin]) - chunk * self.chunk_rows
            values = self._rows(chunk, first, first + int(end - begin))
            out[begin:end] = values if at is None else values[:, at]
        return out

    def prepare(self, spans: Iterable[Span]) -> None:
        """Have rows at hand before they are read, in few requests, where they lie in a bucket; else it is nothing."""
        if self._far is None:
            return
        wanted: dict[int, list[Span]] = {}
        for start, stop in spans:
            for chunk in range(start // self.chunk_rows, (stop - 1) // self.chunk_rows + 1):
                offset, nbytes = chunk * self.chunk_rows, self._form.row_nbytes
                first, last = max(start - offset, 0), min(stop - offset, self.chunk_rows)
                wanted.setdefault(chunk, []).append((first * nbytes, last * nbytes))
        for chunk, of_bytes in wanted.items():
            self._far.prepare(self._name(chunk), of_bytes)

    def _name(self, number: int) -> str:
        """Of a file of the array in its item."""
        return f"{self.path.name}/{self._form.file(number)}"

    def _rows(self, number: int, first: int, stop: int) -> Array:
        """Rows of one file, counted from its own first."""
        if self._far is None:
            return self._chunk(number)[first:stop]
        nbytes = self._form.row_nbytes
        values = self._far.view(self._name(number), first * nbytes, stop * nbytes)
        return values.view(self.dtype).reshape(-1, *self.shape[1:])

    def _chunk(self, number: int) -> Array:
        values = self._maps.get(number)
        if values is None:
            nbytes, index = self._form.data_nbytes(number), self._form.index(number)
            try:
                mapped = map_file(self.path / self._form.file(number), nbytes + len(index))
            except (FileNotFoundError, ValueError) as error:
                raise CorruptItem(f"chunk {number}: {error}", where=str(self.path), fix=VERIFY) from None
            if mapped[nbytes:].tobytes() != index:
                what = f"chunk {number}: its parts do not lie in order, or its index is damaged"
                raise CorruptItem(what, where=str(self.path), fix=f"{VERIFY}, or read it with zarr.open")
            values = mapped[:nbytes].view(self.dtype).reshape(-1, *self.shape[1:])
            self._maps.keep(number, values)
        return values


def spans_of(rows: Rows) -> list[Span]:
    """The runs of neighbours among rows."""
    sorted_ = np.unique(rows)
    cuts = np.flatnonzero(np.diff(sorted_) != 1) + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(sorted_, cuts) if len(run)]


def rows_of_file(item: Path, name: str) -> range | None:
    """The rows that a file of an item holds, by its name in it (`patch/c.3.0.0.0`); None where it is no chunk.

    Of `jpeg`, whose rows are bytes, the tiles that `offsets` beside it puts there. Raises `CorruptItem` or `ValueError`
    where the metadata that would tell is broken itself.
    """
    array, _, key = name.partition("/")
    if not key.startswith(("c/", "c.")):
        return None
    form = read_form(item / array)
    start, stop = _differing(form, form.number(key), item / name)
    if array == "jpeg" and (item / "offsets").is_dir():
        offsets = MappedArray(item / "offsets")
        ends = offsets.slice(1, len(offsets))
        first, last = np.searchsorted(ends, (start, stop - 1), side="right")
        return range(int(first), int(last) + 1)
    return range(start, stop)


def _differing(form: ArrayForm, number: int, file: Path) -> tuple[int, int]:
    """First and last row of a file, or of those chunks of a shard that are not what they were."""
    first = number * form.chunks_a_file
    chunks = range(first, first + form.chunks_in(number))
    sums = form.attributes.get(CHUNK_SUMS)
    if isinstance(sums, list) and len(sums) == form.n_chunks and file.is_file():
        with open(file, "rb") as data:
            read = [data.read(form.chunk_rows * form.row_nbytes) for _ in chunks]
        own = [
            zlib.crc32(part[: len(form.rows(chunk)) * form.row_nbytes])
            for chunk, part in zip(chunks, read, strict=True)
        ]
        # Damage that no chunk shows is in the padding or the index: of all rows.
        chunks_there = [chunk for chunk, crc in zip(chunks, own, strict=True) if crc != sums[chunk]] or chunks
        return form.rows(chunks_there[0]).start, form.rows(chunks_there[-1]).stop
    return form.rows(chunks[0]).start, form.rows(chunks[-1]).stop
