"""Images of a folder or a data set that the models have answered already, as rows of another item of embeddings.

One image that comes, goes or moves makes a folder, or a split of a set, another item. Its other images are found by
content (`tiles/item/content.py`) in the items of the same model, of which each such item keeps the `digest` of its
rows; an answer is the same whatever is asked beside it, so a copied row is the row that would be computed.

Shapes: n chosen tiles of a sample, D channels of an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import ArrayWriter, MappedArray, balanced_rows
from pipeline.base.errors import HistillError
from pipeline.base.store import Ref, Store
from pipeline.evaluate.selection import Sample
from pipeline.tiles.item.content import DIGEST_NBYTES, NOWHERE, Digests, Found, as_digests, look_for
from pipeline.tiles.item.meta import IMAGES, read_meta
from pipeline.tiles.item.reader import TileReader

ARRAY, DIGEST_ARRAY = "embedding", "digest"
CHUNK_ROWS = 4096
_DIGEST_CHUNK_ROWS = 1 << 20


@dataclass(frozen=True)
class Known:
    """Which rows of a sample all of some models have answered, and each model's answers with those rows filled in."""

    sample: Sample
    there_n: NDArray[np.bool_]
    answers: tuple[NDArray[np.float32], ...] = ()

    @property
    def asked(self) -> Sample:
        """The tiles that have to be answered."""
        return self.sample.take(np.flatnonzero(~self.there_n))

    @property
    def n_known(self) -> int:
        return int(self.there_n.sum())

    def whole(self, fresh: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Each model's answers to all tiles, (n, D); `fresh` are those to `asked`, empty where nothing was asked."""
        if not self.n_known:
            return list(fresh)
        for whole_nD, fresh_mD in zip(self.answers, fresh, strict=False):
            whole_nD[~self.there_n] = fresh_mD
        return list(self.answers)


def known(sample: Sample, refs: Sequence[Ref], store: Store) -> Known:
    """Of items `refs` that the store lacks, one a model, all of this sample. Nothing is looked for of a slide."""
    none = Known(sample, np.zeros(len(sample.rows), bool))
    if not is_images(sample):
        return none
    wanted_n = digests(sample)
    found = [look_for(wanted_n, _among(ref, store)) for ref in refs]
    found = [_of_whole_items(of_net, ref, store) for of_net, ref in zip(found, refs, strict=True)]
    there_n = np.logical_and.reduce([of_net.there for of_net in found])
    if not there_n.any():
        return none
    return Known(sample, there_n, tuple(_filled(f, there_n, ref, store) for f, ref in zip(found, refs, strict=True)))


def is_images(sample: Sample) -> bool:
    """Whether its tiles are images of a folder or a data set."""
    return read_meta(sample.tiles).kind in IMAGES


def digests(sample: Sample) -> Digests:
    """Of its tiles, (n,)."""
    return TileReader(sample.tiles).digests[sample.rows]


def write_digests(folder: Path, sample: Sample) -> None:
    """Beside its embeddings."""
    of_row_nB = np.frombuffer(digests(sample).tobytes(), np.uint8).reshape(-1, DIGEST_NBYTES)
    _write(folder / DIGEST_ARRAY, of_row_nB, _DIGEST_CHUNK_ROWS)


def write_answers(folder: Path, answer_nD: NDArray[np.float32]) -> None:
    """The embeddings themselves."""
    _write(folder / ARRAY, answer_nD, CHUNK_ROWS)


def _write(path: Path, values: NDArray[np.float32] | NDArray[np.uint8], most_rows: int) -> None:
    writer = ArrayWriter(path, values.shape, balanced_rows(len(values), most_rows), values.dtype)
    for chunk in range(writer.n_chunks):
        rows = writer.rows(chunk)
        writer.write(chunk, values[rows.start : rows.stop])


def _among(ref: Ref, store: Store) -> Iterator[tuple[str, Digests]]:
    folders = store.recipes(ref.kind, ref.recipe)
    for path in sorted(path for folder in folders for path in folder.glob(f"[!.]*/{DIGEST_ARRAY}")):
        try:
            array = MappedArray(path)
            yield path.parent.name, as_digests(array.slice(0, len(array)).tobytes())
        except HistillError:
            continue


def _of_whole_items(found: Found, ref: Ref, store: Store) -> Found:
    """What lies in items whose files are as they were committed."""
    damaged = [i for i, name in enumerate(found.sources) if store.faults(Ref(ref.kind, ref.recipe, name))]
    source_W = np.where(np.isin(found.source_W, damaged), NOWHERE, found.source_W)
    return Found(found.sources, source_W.astype(np.int32), found.row_W)


def _filled(found: Found, there_n: NDArray[np.bool_], ref: Ref, store: Store) -> NDArray[np.float32]:
    out_nD: NDArray[np.float32] | None = None
    for i, name in enumerate(found.sources):
        at = np.flatnonzero(there_n & (found.source_W == i))
        array = MappedArray(store.path(Ref(ref.kind, ref.recipe, name)) / ARRAY)
        if out_nD is None:
            out_nD = np.empty((len(there_n), *array.shape[1:]), np.float32)
        out_nD[at] = array.take(found.row_W[at])
    assert out_nD is not None
    return out_nD
