import pickle

import numpy as np
import pytest
import scipy.linalg
import zarr
from made.tiles import tiles_json

from pipeline.base.errors import CorruptItem
from pipeline.base.store import Ref
from pipeline.tokens.item.reader import TokenReader
from pipeline.tokens.stage import make_tokens


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
    assert np.array_equal(reader.dequantised(rows, 1), reader.dequantised(np.arange(6), 1)[rows])


def test_the_rotation_is_undone_by_what_the_attributes_and_artifacts_md_say(reader_of_layout):
    folder = reader_of_layout("int8").folder
    patch, scale = zarr.open_array(folder / "patch", mode="r"), zarr.open_array(folder / "scale", mode="r")
    block = patch.attrs["rotation_block"]
    assert block == 8
    signs_B = np.array([(-1) ** (i & (i >> 1)).bit_count() for i in range(block)])
    rotated = patch[:].reshape(*patch.shape[:-1], -1, block) @ scipy.linalg.hadamard(block) * signs_B / block**0.5
    z_NVTD = rotated.reshape(patch.shape) * scale[:][..., None].astype(np.float32)
    for view in range(2):
        np.testing.assert_allclose(reader_of_layout("int8").dequantised(np.arange(6), view), z_NVTD[:, view], rtol=1e-5)


def test_it_pickles_its_folder_and_opens_its_maps_again(reader_of_layout):
    reader = reader_of_layout("int8")
    reader.patch(np.arange(2))
    data = pickle.dumps(reader)
    assert len(data) < 500
    assert np.array_equal(pickle.loads(data).patch(np.arange(6)), reader.patch(np.arange(6)))


def test_both_layouts_hold_the_same_standardised_tokens(reader_of_layout):
    int8, fp16 = reader_of_layout("int8"), reader_of_layout("fp16")
    for view in range(2):
        step_NT = int8.scale(np.arange(6), view).astype(np.float32)
        difference_NTD = int8.dequantised(np.arange(6), view) - fp16.dequantised(np.arange(6), view)
        # A rotation keeps lengths: half a step in each of D entries at most, and float16's own rounding.
        assert (np.linalg.norm(difference_NTD, axis=-1) <= np.sqrt(int8.width) * (step_NT * 0.5 + 1e-3)).all()


def test_layout_none_says_why_it_has_no_patch_tokens(reader_of_layout):
    reader = reader_of_layout("none")
    assert reader.grid == (4, 4) and reader.cls(np.arange(3)).shape == (3, 2, 24)
    with pytest.raises(CorruptItem, match=r"tokens\.patch: none"):
        reader.patch(np.arange(3))


def test_a_view_that_is_not_cached_is_an_error(reader_of_layout):
    with pytest.raises(IndexError, match="view 2 of 2"):
        reader_of_layout("int8").patch(np.arange(3), 2)
