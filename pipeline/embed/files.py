"""Where `histill embed` writes: one row an image, in the order asked for, as HDF5, NumPy's npz or Parquet.

    source      string       the image's file, or the tiles item's folder
    row         int64        the tile's row in a tiles item, else 0
    embedding   (D) float32  in the teacher's space; with --width D is that nested size, in the student's own
    patch       (T, D) float16, with --dense: patch tokens in the teacher's space, T = h * w in row-major order; with
                `--patch int8` int8, and `scale` (T) float16 (patch_form.py)

HDF5 and npz hold them as arrays (N, …); what it takes to read `patch` (`grid`, of int8 `mu`, `sigma` and
`rotation_block`) are its attributes in HDF5, arrays of the npz. Parquet holds `embedding` as a list of D, `patch` as
one of T * D, and `grid` and the others in the schema's metadata, as JSON. HDF5 and Parquet are written batch by batch;
npz is gathered in memory, at 0.4 MB an image for ViT-L's patch tokens, 0.2 MB as int8.
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

from pipeline.base.errors import EmbedError
from pipeline.base.types import Array, Json
from pipeline.embed.encoders.encoder import Answers
from pipeline.embed.patch_form import PATCH, PatchForm

_CHUNK_NBYTES = 1 << 20
Names = Sequence[tuple[str, int]]
Write = Callable[[Names, Answers], None]
"""(source, row) of the next N images, and what was answered to them."""


@contextmanager
def open_file(out: Path, most: int, width: int, form: PatchForm | None) -> Iterator[Write]:
    """Yields `write(names, answers)`, to be called for at most so many images; commits `out` at the end.

    `form` is None without patch tokens. Raises `EmbedError` for a suffix that is none of the three.
    """
    if out.suffix not in FORMATS:
        raise EmbedError(
            f"no such format: {out.suffix or 'no suffix'}", where=str(out), fix=f"use {', '.join(FORMATS)}"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{os.getpid()}{out.suffix}")
    try:
        with FORMATS[out.suffix](part, most, width, form) as write:
            yield write
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


def _arrays(width: int, form: PatchForm | None) -> dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]:
    """Shape and dtype of what is answered to one image, by name."""
    return {"embedding": ((width,), np.dtype(np.float32)), **({} if form is None else form.arrays)}


@contextmanager
def _h5(path: Path, most: int, width: int, form: PatchForm | None) -> Iterator[Write]:
    with h5py.File(path, "w") as file:
        arrays = _arrays(width, form)
        for name, (shape, dtype) in arrays.items():
            rows = max(1, min(most, _CHUNK_NBYTES // (int(np.prod(shape)) * dtype.itemsize)))
            file.create_dataset(name, (0, *shape), dtype, maxshape=(most, *shape), chunks=(rows, *shape))
        if form is not None:
            file[PATCH].attrs.update(form.attributes)
        named: list[tuple[str, int]] = []

        def write(names: Names, answers: Answers) -> None:
            done = len(named)
            named.extend(names)
            for name, values in zip(arrays, (answers.embedding_ND, *answers.patch), strict=True):
                file[name].resize(len(named), axis=0)
                file[name][done:] = values

        yield write
        file.create_dataset("source", data=[source for source, _ in named], dtype=h5py.string_dtype())
        file.create_dataset("row", data=np.array([row for _, row in named], np.int64))


@contextmanager
def _npz(path: Path, most: int, width: int, form: PatchForm | None) -> Iterator[Write]:
    parts: list[tuple[Array, ...]] = []
    names: list[tuple[str, int]] = []

    def write(more: Names, answers: Answers) -> None:
        names.extend(more)
        parts.append((answers.embedding_ND, *answers.patch))

    yield write
    found: dict[str, Array] = {
        "source": np.array([source for source, _ in names]),
        "row": np.array([row for _, row in names], np.int64),
    }
    found |= {name: np.concatenate(of) for name, of in zip(_arrays(width, form), zip(*parts, strict=True), strict=True)}
    if form is not None:
        found |= {name: np.array(value) for name, value in form.attributes.items()}
    np.savez(path, allow_pickle=False, **found)


@contextmanager
def _parquet(path: Path, most: int, width: int, form: PatchForm | None) -> Iterator[Write]:
    fields = [("source", pa.string()), ("row", pa.int64())]
    fields += [
        (name, pa.list_(pa.from_numpy_dtype(dtype), int(np.prod(shape))))
        for name, (shape, dtype) in _arrays(width, form).items()
    ]
    told: dict[str, Json] = {"grid": None, "width": width, **({} if form is None else form.attributes)}
    schema = pa.schema(fields, metadata={name: json.dumps(value) for name, value in told.items()})
    with pq.ParquetWriter(path, schema) as writer:

        def write(names: Names, answers: Answers) -> None:
            columns = [pa.array([source for source, _ in names]), pa.array([row for _, row in names], pa.int64())]
            for field, values in zip(list(schema)[2:], (answers.embedding_ND, *answers.patch), strict=True):
                columns.append(pa.FixedSizeListArray.from_arrays(values.reshape(-1), type=field.type))
            writer.write_table(pa.table(columns, schema=schema))

        yield write


FORMATS = {".h5": _h5, ".npz": _npz, ".parquet": _parquet}
