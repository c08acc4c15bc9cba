"""Whether the held-out tiles are really new: identical images are an error, images that nearly are a warning.

Identical: the same stored JPEG bytes (equal files, and equal pixels of any lossless format), or one is the other's
pixels, stored once more (a PNG made of a JPEG). Blank tiles do not count: two pieces of glass may well be equal. Nearly
identical: the teacher's nearest train tile is closer than `NEAR_COSINE` (standardised) AND their 64-bit difference
hashes differ in at most `NEAR_BITS` bits; either alone is common between different tiles of one tissue.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter

from pipeline.base.errors import EvaluationError
from pipeline.base.items import TRAIN
from pipeline.base.kept import Basis
from pipeline.base.types import Floats
from pipeline.evaluate.features import teacher_features
from pipeline.evaluate.run import Run
from pipeline.evaluate.selection import Sample, spread
from pipeline.measures.fidelity.embedding import Scale
from pipeline.measures.fidelity.neighbours import nearest
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.pixels import encode_jpeg, resize

NEAR_COSINE, NEAR_BITS = 0.98, 6
BLANK_DEVIATION = 4.0
"""Grey levels; tiles that vary less show no tissue."""


Pair = tuple[str, str]
"""A held-out tile and the train tile that it is, or nearly is."""


@dataclass(frozen=True)
class Copies:
    """What of a held-out split is not new: in train as well, nearly so, or there twice."""

    same: list[Pair]
    near: list[Pair]
    twice: list[Pair]


COPIES = TypeAdapter(Copies)


def copies(run: Run, train: Sequence[Sample], held: Mapping[str, Sequence[Sample]], quality: int) -> dict[str, Copies]:
    """The copies in each held-out split, kept in the store.

    Equal files are looked for among all train tiles, others in `evaluate.max_probe_tiles` of them. `quality` is the one
    at which pixels are stored as JPEG (`tiles.jpeg_quality`).
    """
    found, learnt, some = {}, run.tiles(train), spread(train, run.params.max_probe_tiles)
    for split, chosen in held.items():
        basis: Basis = {"train": learnt, "held": run.tiles(chosen), "jpeg_quality": quality}
        slot = run.slot("copies", COPIES, ("max_probe_tiles",), basis)
        found[split] = slot.find() or slot.keep(_copies(some, train, chosen, quality))
    return found


def _copies(some: Sequence[Sample], train: Sequence[Sample], held: Sequence[Sample], quality: int) -> Copies:
    """Equal files are looked for in `train`, others in `some`."""
    feature_ND = teacher_features(some)
    scale = Scale.of(feature_ND)
    same = identical(train, held)
    equal, near = near_duplicates(some, held, scale(feature_ND), scale(teacher_features(held)), quality)
    known = {name for name, _ in same}
    return Copies([*same, *(pair for pair in equal if pair[0] not in known)], near, repeated(held))


def check_images(seen: Mapping[str, Copies], noun: str, where: str, fix: str) -> list[str]:
    """Raise `EvaluationError` for an image that is in train and held out; warnings about those that nearly are.

    Warns too of images that are twice in one held-out split. `noun` is what a tile is called.
    """
    warnings = []
    for split, found in seen.items():
        same, near, twice = found.same, found.near, found.twice
        if same:
            what = f"{len(same)} {noun} of {split!r} are in {TRAIN!r} too (the first: {same[0][0]} is {same[0][1]})"
            raise EvaluationError(what, where=where, fix=fix)
        if near:
            pair = f"{near[0][0]} and {near[0][1]}"
            warnings.append(f"{split}: {len(near)} {noun} are nearly the same as one in {TRAIN} (such as {pair})")
        if twice:
            pair = f"{twice[0][0]} and {twice[0][1]}"
            warnings.append(f"{split}: {len(twice)} {noun} are there already (such as {pair}), and each counts")
    return warnings


def identical(train: Sequence[Sample], held: Sequence[Sample]) -> list[Pair]:
    """(held-out tile, train tile) of every pair of equal images, as `slide, tile row`; blank tiles left out.

    `train` may be all tiles that there are: it is read once, and only JPEG files as long as a held-out one are hashed.
    """
    lengths = np.unique(np.concatenate([_lengths(sample) for sample in held]))
    alike = [sample.take(np.flatnonzero(np.isin(_lengths(sample), lengths))) for sample in train]
    held_digests = list(_digests(held))
    wanted = {digest for _, digest, _, _ in held_digests}
    learnt = {digest: name for name, digest, _, _ in _digests(alike) if digest in wanted}
    return [
        (name, learnt[digest])
        for name, digest, reader, row in held_digests
        if digest in learnt and float(reader.image(row).std()) >= BLANK_DEVIATION
    ]


def repeated(samples: Sequence[Sample]) -> list[Pair]:
    """(tile, the tile before it that it equals) of a split's own copies; blank tiles left out."""
    times = Counter(length for sample in samples for length in _lengths(sample).tolist())
    alike = [s.take(np.flatnonzero([times[length] > 1 for length in _lengths(s).tolist()])) for s in samples]
    first: dict[bytes, str] = {}
    return [
        (name, first[digest])
        for name, digest, reader, row in _digests(alike)
        if first.setdefault(digest, name) != name and float(reader.image(row).std()) >= BLANK_DEVIATION
    ]


def near_duplicates(
    train: Sequence[Sample], held: Sequence[Sample], train_ND: Floats, held_ND: Floats, quality: int
) -> tuple[list[Pair], list[Pair]]:
    """Pairs that are the same picture in another file format, and pairs that nearly are the same.

    Embeddings are the teacher's, standardised.
    """
    index_N1, cosine_N1 = nearest(held_ND, train_ND, 1)
    close = np.flatnonzero(cosine_N1[:, 0] >= NEAR_COSINE)
    train_tiles, held_tiles = list(_tiles(train)), list(_tiles(held))
    equal: list[Pair] = []
    near: list[Pair] = []
    for i in close.tolist():
        (name, reader, row), (other, other_reader, other_row) = held_tiles[i], train_tiles[int(index_N1[i, 0])]
        images = reader.image(row), other_reader.image(other_row)
        hashes = [difference_hash(image_HWC) for image_HWC in images]
        if int((hashes[0] != hashes[1]).sum()) > NEAR_BITS:
            continue
        files = other_reader.jpeg(other_row), reader.jpeg(row)
        again = any(encode_jpeg(image_HWC, quality) == file for image_HWC, file in zip(images, files, strict=True))
        (equal if again and float(images[0].std()) >= BLANK_DEVIATION else near).append((name, other))
    return equal, near


def difference_hash(rgb_HWC: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """dHash: whether each cell of an 8 x 9 grey miniature is brighter than the one to its left, (64,)."""
    grey_HW = np.asarray(Image.fromarray(resize(rgb_HWC, (9, 8))).convert("L")).astype(np.int16)
    brighter: NDArray[np.bool_] = (np.diff(grey_HW, axis=1) > 0).ravel()
    return brighter


def _lengths(sample: Sample) -> NDArray[np.int64]:
    """Bytes of each tile's JPEG file, (n,)."""
    length_N: NDArray[np.int64] = np.diff(TileReader(sample.tiles).offsets)[sample.rows]
    return length_N


def _digests(samples: Sequence[Sample]) -> Iterator[tuple[str, bytes, TileReader, int]]:
    for name, reader, row in _tiles(samples):
        yield name, hashlib.sha256(reader.jpeg(row)).digest(), reader, row


def _tiles(samples: Sequence[Sample]) -> Iterator[tuple[str, TileReader, int]]:
    for sample in samples:
        reader = TileReader(sample.tiles)
        for i, row in enumerate(sample.rows.tolist()):
            yield sample.names[i] if sample.names else f"{sample.slide}, tile {row}", reader, row
