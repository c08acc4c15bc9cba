"""Whether the held-out tiles are really new: identical images are an error, images that nearly are a warning.

Identical: the same stored JPEG bytes (equal files, and equal pixels of any lossless format), or one is the other's
pixels, stored once more (a PNG made of a JPEG). Blank tiles do not count: two pieces of glass may well be equal. Nearly
identical: the teacher's nearest train tile is closer than `NEAR_COSINE` (standardised) AND their 64-bit difference
hashes differ in at most `NEAR_BITS` bits; either alone is common between different tiles of one tissue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter

from pipeline.base.errors import EvaluationError
from pipeline.base.items import TRAIN
from pipeline.base.kept import Basis
from pipeline.base.progress import track
from pipeline.base.types import Floats
from pipeline.evaluate.answers.features import teacher_features
from pipeline.evaluate.answers.known_rows import digests
from pipeline.evaluate.run import Run
from pipeline.evaluate.selection import Sample, spread
from pipeline.measures.fidelity.embedding import Scale
from pipeline.measures.fidelity.neighbours import nearest
from pipeline.tiles.item.content import Digests, hex_of, look_for
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
    learnt = run.tiles(train)
    slots = {}
    for split, chosen in held.items():
        basis: Basis = {"train": learnt, "held": run.tiles(chosen), "jpeg_quality": quality}
        slots[split] = run.slot("copies", COPIES, ("max_probe_tiles",), basis)
    found = {split: kept for split, slot in slots.items() if (kept := slot.find()) is not None}
    missing = {split: chosen for split, chosen in held.items() if split not in found}
    if missing:
        made = _copies(spread(train, run.params.max_probe_tiles), train, missing, quality)
        found |= {split: slots[split].keep(of_split) for split, of_split in made.items()}
    return {split: found[split] for split in held}


def _copies(
    some: Sequence[Sample], train: Sequence[Sample], held: Mapping[str, Sequence[Sample]], quality: int
) -> dict[str, Copies]:
    """Equal files are looked for in `train`, others in `some`."""
    feature_ND = teacher_features(some)
    scale, found = Scale.of(feature_ND), {}
    scaled_ND, same_in = scale(feature_ND), identical(train, held)
    for split, chosen in held.items():
        same = same_in[split]
        equal, near = near_duplicates(some, chosen, scaled_ND, scale(teacher_features(chosen)), quality)
        known = {name for name, _ in same}
        found[split] = Copies([*same, *(pair for pair in equal if pair[0] not in known)], near, repeated(chosen))
    return found


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


def identical(train: Sequence[Sample], held: Mapping[str, Sequence[Sample]]) -> dict[str, list[Pair]]:
    """(held-out tile, train tile) of every pair of equal images, as `slide, tile row`, by split; blank ones left out.

    `train` may be all tiles that there are: it is read once, for the digests that each item keeps of its tiles.
    """
    wanted_W = np.concatenate([digests(sample) for chosen in held.values() for sample in chosen])
    with track("copies", len(train), "slides") as advance:

        def each() -> Iterator[tuple[str, Digests]]:
            # Of equal train tiles the last is named.
            for i in reversed(range(len(train))):
                yield str(i), digests(train[i])
                advance()

        learnt = look_for(wanted_W, each())
    pairs, at = {}, 0
    for split, chosen in held.items():
        pairs[split] = list[Pair]()
        for name, reader, row in _tiles(chosen):
            if learnt.there[at] and float(reader.image(row).std()) >= BLANK_DEVIATION:
                source = train[int(learnt.sources[learnt.source_W[at]])]
                pairs[split].append((name, _name(source, int(learnt.row_W[at]))))
            at += 1
    return pairs


def repeated(samples: Sequence[Sample]) -> list[Pair]:
    """(tile, the tile before it that it equals) of a split's own copies; blank tiles left out."""
    found = (digest for sample in samples for digest in hex_of(digests(sample)))
    first: dict[str, str] = {}
    return [
        (name, first[digest])
        for (name, reader, row), digest in zip(_tiles(samples), found, strict=True)
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


def _tiles(samples: Sequence[Sample]) -> Iterator[tuple[str, TileReader, int]]:
    for sample in samples:
        reader = TileReader(sample.tiles)
        for i, row in enumerate(sample.rows.tolist()):
            yield _name(sample, i), reader, row


def _name(sample: Sample, i: int) -> str:
    """What its tile at this place is called."""
    return sample.names[i] if sample.names else f"{sample.slide}, tile {int(sample.rows[i])}"
