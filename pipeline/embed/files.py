"""Where `histill embed` writes: one row an image, in the order asked for, as HDF5, NumPy's npz or Parquet.

    source      string       the image's file, or the tiles item's folder
    row         int64        the tile's row in a tiles item, else 0
    embedding   (D) float32  in the teacher's space
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

Answers = tuple[NDArray[np.float32], NDArray[np.float16] | None]
"""(embedding_ND, patch_NTD or None) of the next N images."""
Write = Callable[[Answers], None]
Names = Sequence[tuple[str, int]]


@contextmanager
def open_file(out: Path, names: Names, width: int, grid: tuple[int, int] | None) -> Iterator[Write]:
    """Yields `write(answers)`, to be called until all of `names` (source, row) are answered; commits `out` at the end.

    `grid` (h, w) is None without patch tokens. Raises `EmbedError` for a suffix that is none of the three.
    """
    if out.suffix not in FORMATS:
        raise EmbedError(
            f"no such format: {out.suffix or 'no suffix'}", where=str(out), fix=f"use {', '.join(FORMATS)}"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{os.getpid()}{out.suffix}")
    try:
        with FORMATS[out.suffix](part, names, width, grid) as write:
            yield write
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _h5(path: Path, names: Names, width: int, grid: tuple[int, int] | None) -> Iterator[Write]:
    with h5py.File(path, "w") as file:
        file.create_dataset("source", data=[source for source, _ in names], dtype=h5py.string_dtype())
        file.create_dataset("row", data=np.array([row for _, row in names], np.int64))
        embedding = file.create_dataset("embedding", (len(names), width), np.float32)
        if grid is not None:
            file.create_dataset("patch", (len(names), grid[0] * grid[1], width), np.float16).attrs["grid"] = grid
        done = 0

        def write(answers: Answers) -> None:
            nonlocal done
            embedding_ND, patch_NTD = answers
            embedding[done : done + len(embedding_ND)] = embedding_ND
            if patch_NTD is not None:
                file["patch"][done : done + len(embedding_ND)] = patch_NTD
            done += len(embedding_ND)

        yield write


@contextmanager
def _npz(path: Path, names: Names, width: int, grid: tuple[int, int] | None) -> Iterator[Write]:
    parts: list[Answers] = []
    yield parts.append
    arrays: dict[str, NDArray[np.generic]] = {
        "source": np.array([source for source, _ in names]),
        "row": np.array([row for _, row in names], np.int64),
        "embedding": np.concatenate([embedding for embedding, _ in parts]),
    }
    if grid is not None:
        arrays |= {"patch": np.concatenate([patch for _, patch in parts if patch is not None]), "grid": np.array(grid)}
    np.savez(path, allow_pickle=False, **arrays)


@contextmanager
def _parquet(path: Path, names: Names, width: int, grid: tuple[int, int] | None) -> Iterator[Write]:
    fields = [("source", pa.string()), ("row", pa.int64()), ("embedding", pa.list_(pa.float32(), width))]
    if grid is not None:
        fields.append(("patch", pa.list_(pa.float16(), grid[0] * grid[1] * width)))
    schema = pa.schema(fields, metadata={"grid": json.dumps(grid), "width": str(width)})
    done = 0
    with pq.ParquetWriter(path, schema) as writer:

        def write(answers: Answers) -> None:
            nonlocal done
            here = names[done : done + len(answers[0])]
            columns = [pa.array([source for source, _ in here]), pa.array([row for _, row in here], pa.int64())]
            given = [values for values in answers if values is not None]
            for field, values in zip(list(schema)[2:], given, strict=True):
                columns.append(pa.FixedSizeListArray.from_arrays(values.reshape(-1), type=field.type))
            writer.write_table(pa.table(columns, schema=schema))
            done += len(here)

        yield write


FORMATS = {".h5": _h5, ".npz": _npz, ".parquet": _parquet}
