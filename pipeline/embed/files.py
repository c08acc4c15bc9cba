"""Where `histill embed` writes: one row an image, in the order asked for, as HDF5, NumPy's npz or Parquet.

    source      string       the image's file, or the tiles item's folder
    row         int64        the tile's row in a tiles item, else 0
    embedding   (D) float32  in the teacher's space; with --width D is that nested size, in the student's own
    patch       (T, D) float16, with --dense: patch tokens in the teacher's space, T = h * w in row-major order

HDF5 and npz hold them as arrays (N, …), and `grid` (h, w) as HDF5's attribute of `patch` or npz's array. Parquet holds
`embedding` as a list of D and `patch` as one of T * D, `grid` in the schema's metadata. HDF5 and Parquet are written
batch by batch; npz is gathered in memory, at 0.4 MB an image for ViT-L's patch tokens.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.base.errors import EmbedError

_CHUNK_NBYTES = 1 << 20
Answers = tuple[NDArray[np.float32], NDArray[np.float16] | None]
"""(embedding_ND, patch_NTD or None) of the next N images."""
Names = Sequence[tuple[str, int]]
Write = Callable[[Names, Answers], None]
"""(source, row) of the next N images, and what was answered to them."""


@contextmanager
def open_file(out: Path, most: int, width: int, grid: tuple[int, int] | None) -> Iterator[Write]:
    """Yields `write(names, answers)`, to be called for at most so many images; commits `out` at the end.

    `grid` (h, w) is None without patch tokens. Raises `EmbedError` for a suffix that is none of the three.
    """
    if out.suffix not in FORMATS:
        raise EmbedError(
            f"no such format: {out.suffix or 'no suffix'}", where=str(out), fix=f"use {', '.join(FORMATS)}"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{os.getpid()}{out.suffix}")
    try:
        with FORMATS[out.suffix](part, most, width, grid) as write:
            yield write
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _h5(path: Path, most: int, width: int, grid: tuple[int, int] | None) -> Iterator[Write]:
    with h5py.File(path, "w") as file:
        shapes: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {"embedding": ((width,), np.float32)}
        if grid is not None:
            shapes["patch"] = (grid[0] * grid[1], width), np.float16
        for name, (shape, dtype) in shapes.items():
            rows = max(1, min(most, _CHUNK_NBYTES // (int(np.prod(shape)) * np.dtype(dtype).itemsize)))
            file.create_dataset(name, (0, *shape), dtype, maxshape=(most, *shape), chunks=(rows, *shape))
        if grid is not None:
            file["patch"].attrs["grid"] = grid
        named: list[tuple[str, int]] = []

        def write(names: Names, answers: Answers) -> None:
            done = len(named)
            named.extend(names)
            for name, values in zip(shapes, answers, strict=False):
                file[name].resize(len(named), axis=0)
                file[name][done:] = values

        yield write
        file.create_dataset("source", data=[source for source, _ in named], dtype=h5py.string_dtype())
        file.create_dataset("row", data=np.array([row for _, row in named], np.int64))


@contextmanager
def _npz(path: Path, most: int, width: int, grid: tuple[int, int] | None) -> Iterator[Write]:
    parts: list[Answers] = []
    names: list[tuple[str, int]] = []

    def write(more: Names, answers: Answers) -> None:
        names.extend(more)
        parts.append(answers)

    yield write
    arrays: dict[str, NDArray[np.generic]] = {
        "source": np.array([source for source, _ in names]),
        "row": np.array([row for _, row in names], np.int64),
        "embedding": np.concatenate([embedding for embedding, _ in parts]),
    }
    if grid is not None:
        arrays |= {"patch": np.concatenate([patch for _, patch in parts if patch is not None]), "grid": np.array(grid)}
    np.savez(path, allow_pickle=False, **arrays)


@contextmanager
def _parquet(path: Path, most: int, width: int, grid: tuple[int, int] | None) -> Iterator[Write]:
    fields = [("source", pa.string()), ("row", pa.int64()), ("embedding", pa.list_(pa.float32(), width))]
    if grid is not None:
        fields.append(("patch", pa.list_(pa.float16(), grid[0] * grid[1] * width)))
    schema = pa.schema(fields, metadata={"grid": json.dumps(grid), "width": str(width)})
    with pq.ParquetWriter(path, schema) as writer:

        def write(names: Names, answers: Answers) -> None:
            columns = [pa.array([source for source, _ in names]), pa.array([row for _, row in names], pa.int64())]
            given = [values for values in answers if values is not None]
            for field, values in zip(list(schema)[2:], given, strict=True):
                columns.append(pa.FixedSizeListArray.from_arrays(values.reshape(-1), type=field.type))
            writer.write_table(pa.table(columns, schema=schema))

        yield write


FORMATS = {".h5": _h5, ".npz": _npz, ".parquet": _parquet}
