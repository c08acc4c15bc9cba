"""Packing, decoding ahead, and what packing rests on: within one batch shape a row's answer is its own."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from made.tiles import SIDE_PX, put_slide

from pipeline.teachers.engines import Eager
from pipeline.teachers.preparation import Preparation
from pipeline.teachers.teacher import Teacher
from pipeline.tiles.item.reader import TileReader
from pipeline.tokens.run.batches import ahead, decoded, packed

CPU = torch.device("cpu")
TEACHERS = {
    "vit": ("vit_tiny_patch16_224", {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3}),
    "cnn": ("tf_efficientnet_lite0", {}),
}


@dataclass(frozen=True)
class Tile:
    reader: TileReader
    row: int


@pytest.fixture
def slide(store):
    def made(slide_id, n, bad_row=None):
        item = put_slide(store, slide_id, n, bad_row=bad_row)
        folder = store.path(next(ref for ref in store.refs() if ref.item == item.key))
        return [Tile(TileReader(folder), row) for row in range(n)]

    return made


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_a_rows_answer_depends_on_neither_its_neighbours_nor_its_place(kind, precision):
    torch.manual_seed(0)
    name, kwargs = TEACHERS[kind]
    halves = (0.5, 0.5, 0.5)
    engine = Eager(
        Teacher(kind, timm.create_model(name, num_classes=0, **kwargs), 64, Preparation(halves, halves)),
        CPU,
        precision,
    )
    image_NSSC = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8))
    alone = torch.cat([engine(image_NSSC[i : i + 6]) for i in (0, 6)])
    mixed = torch.randperm(12)
    assert torch.equal(torch.cat([engine(image_NSSC[mixed[i : i + 6]]) for i in (0, 6)]), alone[mixed])
    filled_up = image_NSSC[:6].clone()
    filled_up[2:] = 0
    assert torch.equal(engine(filled_up)[:2], alone[:2])


@given(sizes=st.lists(st.integers(0, 9), max_size=6), size=st.integers(1, 7))
def test_packing_keeps_the_order_and_only_the_last_batch_is_short(sizes, size):
    places = [(slide, row) for slide, n in enumerate(sizes) for row in range(n)]
    batches = list(packed(places, size))
    assert [place for batch in batches for place in batch] == places
    assert all(len(batch) == size for batch in batches[:-1])


def test_batches_hold_the_tiles_pixels_filled_up_with_zeros(slide):
    tiles = [*slide("a", 7), *slide("b", 4)]
    with ThreadPoolExecutor(2) as pool:
        batches = list(decoded(packed(tiles, 4), 4, SIDE_PX, pool))
    assert [batch.image_BSSC.shape for batch in batches] == [(4, SIDE_PX, SIDE_PX, 3)] * 3
    expected = np.stack([tile.reader.image(tile.row) for tile in tiles] + [np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)])
    assert np.array_equal(np.concatenate([batch.image_BSSC.numpy() for batch in batches]), expected)


def test_a_tile_that_does_not_decode_is_named_and_its_neighbours_are_decoded(slide):
    tiles = slide("bad", 6, bad_row=2)
    with ThreadPoolExecutor(2) as pool:
        (batch,) = decoded(packed(tiles, 8), 8, SIDE_PX, pool)
    assert list(batch.errors) == [2] and "does not decode" in batch.errors[2].what
    assert not batch.image_BSSC[2].any() and all(batch.image_BSSC[i].any() for i in (0, 1, 3, 4, 5))


def test_ahead_is_one_item_further_than_its_reader_and_keeps_the_order():
    made = []
    items = ahead(made.append(i) or i for i in range(100))
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert made[:2] == [0, 1] and len(made) <= 4


def test_ahead_raises_what_its_source_raises_after_what_came_before():
    def source():
        yield 1
        raise OSError("gone")

    items = ahead(source())
    assert next(items) == 1
    with pytest.raises(OSError, match="gone"):
        next(items)
