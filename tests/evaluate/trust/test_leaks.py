"""Copies are found by the digests that items keep of their tiles; no JPEG of a train slide is opened for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from made.run import painted

from pipeline.evaluate.selection import Sample
from pipeline.evaluate.trust.leaks import identical, repeated
from pipeline.tiles.item.meta import JPEG_ARRAY, Meta
from pipeline.tiles.item.writer import TileWriter
from pipeline.tiles.pixels import encode_jpeg


def slide(root: Path, name: str, seeds: tuple[int, ...], rows: tuple[int, ...] | None = None) -> Sample:
    """Tiles of these seeds, of which `rows` are looked at; seed -1 is a blank one."""
    (root / name).mkdir()
    writer = TileWriter(root / name)
    for seed in seeds:
        blank_HWC = np.full((32, 32, 3), 240, np.uint8)
        writer.append(encode_jpeg(painted("gland", seed) if seed >= 0 else blank_HWC, 95), label=None)
    writer.close(Meta(kind="file", tile_px=1))
    chosen = np.array(rows if rows is not None else range(len(seeds)), np.int64)
    return Sample(name, root / name, root / name, chosen, (None,) * len(chosen))


def test_copies_of_every_split_are_named_and_blank_tiles_are_not(tmp_path: Path):
    train = [slide(tmp_path, "a", (1, 2, -1)), slide(tmp_path, "b", (3, 4, 5, 2), rows=(0, 2, 3))]
    held = {
        "test": [slide(tmp_path, "c", (9, 5, -1)), slide(tmp_path, "d", (2, 4))],
        "shift": [slide(tmp_path, "e", (8, 3, 1), rows=(1, 2))],
    }
    for sample in train:
        shutil.rmtree(sample.tiles / JPEG_ARRAY)
    found = identical(train, held)
    # Of tile 2, which two train slides have, the last is named; tile 4 is not among the rows that were learnt from.
    assert found["test"] == [("c, tile 1", "b, tile 2"), ("d, tile 0", "b, tile 3")]
    assert found["shift"] == [("e, tile 1", "b, tile 0"), ("e, tile 2", "a, tile 0")]


def test_tiles_that_are_twice_in_a_split_are_named(tmp_path: Path):
    samples = [slide(tmp_path, "a", (1, 2, -1, -1)), slide(tmp_path, "b", (2, 3, 1), rows=(0, 1))]
    assert repeated(samples) == [("b, tile 0", "a, tile 1")]
