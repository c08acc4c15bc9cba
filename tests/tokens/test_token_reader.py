import pickle

import numpy as np
import pytest
from made_tiles import tiles_json

from pipeline.errors import CorruptItem
from pipeline.store import Ref
from pipeline.tokens.extraction import make_tokens
from pipeline.tokens.reader import TokenReader


@pytest.fixture
def reader_of_layout(tiny_params, store):
    def make(layout: str) -> TokenReader:
        params = tiny_params.model_copy(update={"patch": layout, "views": 2})
        manifest = make_tokens(tiles_json(store, {"a": 6}), params, store, 512)
        return TokenReader(store.path(Ref("tokens", manifest.recipe_key, manifest.items[0].key)))

    return make


def test_rows_come_in_the_order_asked_for_and_of_the_view_asked_for(reader_of_layout):
    reader, rows = reader_of_layout("int8"), np.array([5, 0, 5])
    all_NTD, all_NT = reader.patch(np.arange(6), 1), reader.scale(np.arange(6), 1)
    assert np.array_equal(reader.patch(rows, 1), all_NTD[rows]) and np.array_equal(reader.scale(rows, 1), all_NT[rows])
    assert not np.array_equal(all_NTD, reader.patch(np.arange(6), 0))
    expected_NTD = all_NTD.astype(np.float32) * all_NT.astype(np.float32)[..., None]
    assert np.array_equal(reader.dequantised(np.arange(6), 1), expected_NTD)


def test_it_pickles_its_folder_and_opens_its_maps_again(reader_of_layout):
    reader = reader_of_layout("int8")
    reader.patch(np.arange(2))
    data = pickle.dumps(reader)
    assert len(data) < 500
    assert np.array_equal(pickle.loads(data).patch(np.arange(6)), reader.patch(np.arange(6)))


def test_both_layouts_hold_the_same_standardised_tokens(reader_of_layout):
    int8, fp16 = reader_of_layout("int8"), reader_of_layout("fp16")
    for view in range(2):
        step_NT1 = int8.scale(np.arange(6), view).astype(np.float32)[..., None]
        difference = np.abs(int8.dequantised(np.arange(6), view) - fp16.dequantised(np.arange(6), view))
        assert (difference <= step_NT1 * 0.55 + 1e-3).all()


def test_layout_none_says_why_it_has_no_patch_tokens(reader_of_layout):
    reader = reader_of_layout("none")
    assert reader.grid == (4, 4) and reader.cls(np.arange(3)).shape == (3, 2, 24)
    with pytest.raises(CorruptItem, match=r"tokens\.patch: none"):
        reader.patch(np.arange(3))


def test_a_view_that_is_not_cached_is_an_error(reader_of_layout):
    with pytest.raises(IndexError, match="view 2 of 2"):
        reader_of_layout("int8").patch(np.arange(3), 2)
