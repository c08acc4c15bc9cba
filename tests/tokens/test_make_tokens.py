import os
import shutil
import threading
import time

import numpy as np
import pytest
import torch
import zarr
from made.tiles import SIDE_PX, file_bytes, tiles_json
from safetensors.torch import load_file, save_file
from small_disk import fill, small_disk
from torch.nn.modules.module import register_module_forward_hook

from pipeline.base.errors import SlideRefused, StoreFull, TeacherError
from pipeline.base.store import Ref, Store
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.teacher import Trunk
from pipeline.tiles.item.reader import TileReader
from pipeline.tokens.item.reader import TokenReader
from pipeline.tokens.stage import make_tokens
from pipeline.views import apply_view


def reader_of(store, manifest, slide_id) -> TokenReader:
    return TokenReader(store.path(Ref("tokens", manifest.recipe_key, manifest.item(slide_id).key)))


def ask_live(params, store, tiles, slide_id, element):
    """The teacher asked directly about every tile of a slide, each turned by `element`."""
    teacher = load_teacher(params, store, 512)
    tile_reader = TileReader(store.path(Ref("tiles", tiles.recipe_key, tiles.item(slide_id).key)))
    image_NHWC = np.stack([apply_view(tile_reader.image(row, SIDE_PX), element) for row in range(len(tile_reader))])
    with torch.inference_mode():
        cls_ND, patch_NTD = teacher(teacher.normalise(torch.from_numpy(image_NHWC)))
    return cls_ND.numpy(), patch_NTD.numpy()


def waits(waited: set[int]) -> None:
    """A sync that takes a thread's first one 0.7 s."""
    if threading.get_ident() not in waited:
        waited.add(threading.get_ident())
        time.sleep(0.7)


@pytest.mark.parametrize("layout", ["int8", "fp16"])
def test_cached_tokens_of_every_view_are_the_live_teachers(layout, tiny_params, store):
    params = tiny_params.model_copy(update={"patch": layout, "views": 8})
    tiles = tiles_json(store, {"a": 11})
    reader = reader_of(store, make_tokens(tiles, params, store, 512), "a")
    rows = np.arange(11)
    assert (len(reader), reader.views, reader.width, reader.grid, reader.layout) == (11, 8, 24, (4, 4), layout)
    for view in range(8):
        cls_ND, patch_NTD = ask_live(params, store, tiles, "a", view)
        np.testing.assert_allclose(reader.cls(rows)[:, view], cls_ND, atol=2e-3, rtol=1e-3)
        z_NTD = reader.dequantised(rows, view)
        live_NTD = (patch_NTD - reader.mu) / reader.sigma
        assert np.linalg.norm(z_NTD - live_NTD) / np.linalg.norm(live_NTD) < 0.01


def test_layout_none_keeps_the_global_embedding_alone(tiny_params, store):
    params = tiny_params.model_copy(update={"patch": "none"})
    manifest = make_tokens(tiles_json(store, {"a": 5}), params, store, 512)
    folder = reader_of(store, manifest, "a").folder
    names = ["cls", "item.json", "sums.npy", "x_l0", "y_l0", "zarr.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert not store.has(Ref("tokens", manifest.recipe_key, "calibration")) and not manifest.uses


def test_an_item_is_a_zarr_group_that_says_what_it_is(tiny_params, store):
    manifest = make_tokens(tiles_json(store, {"a": 5}), tiny_params, store, 512)
    reader = reader_of(store, manifest, "a")
    group = zarr.open(reader.folder, mode="r")
    assert sorted(group) == ["cls", "patch", "scale", "x_l0", "y_l0"]
    patch = group["patch"]
    assert patch.shape == (5, 1, 16, 24) and patch.dtype == np.int8
    assert np.array_equal(patch[:, 0], reader.patch(np.arange(5)))
    assert np.array_equal(np.float32(patch.attrs["mu"]), reader.mu) and group["x_l0"][:].tolist() == [0] * 5
    assert group.attrs["teacher"] == manifest.recipe["teacher"] and group.attrs["precision"] == "fp32"
    assert set(group) <= set(group.attrs["units"]) | {"scale"}
    assert len([reader.folder, *reader.folder.rglob("*")]) < 20
    assert np.shares_memory(reader.mu, reader_of(store, manifest, "a").mu), "one copy for all slides of a recipe"


def test_tiles_of_several_scales_say_theirs_in_the_item(tiny_params, store):
    made = make_tokens(tiles_json(store, {"a": 5}, coarse=2), tiny_params, store, 512)
    group = zarr.open(reader_of(store, made, "a").folder, mode="r")
    assert group["mpp"][:].tolist() == [0.5, 0.5, 0.5, 1.0, 1.0] and "mpp" in group.attrs["units"]
    assert made.recipe["scales"] == "mpp"
    assert "scales" not in make_tokens(tiles_json(store, {"a": 5}), tiny_params, store, 512).recipe


def test_adding_a_slide_computes_that_slide_alone(tiny_params, store, capsys):
    before = make_tokens(tiles_json(store, {"a": 9}), tiny_params, store, 512)
    kept = file_bytes(store, before, "a")
    made_at = reader_of(store, before, "a").folder.stat().st_mtime_ns
    capsys.readouterr()
    after = make_tokens(tiles_json(store, {"a": 9, "b": 7}), tiny_params, store, 512)
    assert "7 tiles of 1 slides to compute (9 of 16 tiles cached)" in capsys.readouterr().err
    assert file_bytes(store, after, "a") == kept
    assert reader_of(store, after, "a").folder.stat().st_mtime_ns == made_at
    np.testing.assert_array_equal(reader_of(store, after, "a").mu, reader_of(store, after, "b").mu)


def test_nothing_is_computed_twice_and_the_manifest_is_the_same(tiny_params, store, capsys):
    tiles = tiles_json(store, {"a": 9})
    first = make_tokens(tiles, tiny_params, store, 512)
    capsys.readouterr()
    assert make_tokens(tiles, tiny_params, store, 512).model_dump() == first.model_dump()
    assert capsys.readouterr().err == ""
    assert first.summary.nbytes == sum(map(len, file_bytes(store, first, "a").values())) - len(
        file_bytes(store, first, "a")["item.json"]
    )
    store.require(first)


def test_two_ids_of_one_slide_share_its_tokens(tiny_params, store):
    tiles = tiles_json(store, {"a": 4})
    twice = tiles.model_copy(update={"items": (*tiles.items, tiles.items[0].model_copy(update={"id": "copy"}))})
    manifest = make_tokens(twice, tiny_params, store, 512)
    assert manifest.item("copy").digest == manifest.item("a").digest


def test_a_slide_with_a_tile_that_does_not_decode_is_refused_and_the_others_go_on(tiny_params, store):
    good = tiles_json(store, {"a": 4})
    bad = tiles_json(store, {"bad": 4}, bad_row=2)
    both = good.model_copy(update={"items": (*good.items, *bad.items)})
    manifest = make_tokens(both, tiny_params, store, 512)
    assert [item.id for item in manifest.items] == ["a"]
    assert [refusal.id for refusal in manifest.refused] == ["bad"] and "decode" in manifest.refused[0].reason
    assert make_tokens(both, tiny_params, store, 512).model_dump() == manifest.model_dump()
    with pytest.raises(SlideRefused, match="bad: the tile does not decode"):
        make_tokens(both, tiny_params.model_copy(update={"on_error": "fail"}), store, 512)


def test_a_teacher_that_answers_infinity_leaves_nothing_in_the_store(tiny_params, tiny_weights, store, tmp_path):
    state = load_file(tiny_weights)
    state["norm.weight"][3] = 3e38
    state["norm.bias"][3] = 3e38
    save_file(state, tmp_path / "large.safetensors")
    params = tiny_params.model_copy(update={"weights": str(tmp_path / "large.safetensors")})
    for layout, where in (("int8", "calibration tiles"), ("none", "a, rows 0-3")):
        with pytest.raises(TeacherError, match=where):
            make_tokens(tiles_json(store, {"a": 4}), params.model_copy(update={"patch": layout}), store, 512)
    assert not [ref for ref in store.refs() if ref.kind == "tokens"]


def test_an_answer_beyond_float16_names_its_slide_and_keeps_nothing(tiny_params, tiny_weights, store, tmp_path):
    state = load_file(tiny_weights)
    state["norm.weight"][3] = 1e7
    save_file(state, tmp_path / "huge.safetensors")
    params = tiny_params.model_copy(update={"weights": str(tmp_path / "huge.safetensors"), "views": 2})
    with pytest.raises(TeacherError, match=r"a, rows 0-\d.*beyond float16 for \d tiles \(view 0\)"):
        make_tokens(tiles_json(store, {"a": 4, "b": 9}), params, store, 512)
    assert not [ref for ref in store.refs() if ref.kind == "tokens" and ref.item != "calibration"]


def test_a_slides_bytes_do_not_depend_on_the_slides_it_shares_batches_with(tiny_params, tmp_path):
    params = tiny_params.model_copy(update={"views": 2})
    alone, together = Store(tmp_path / "alone"), Store(tmp_path / "together")
    slides = {"a": 3, "b": 13, "c": 1, "d": 6}
    expected = make_tokens(tiles_json(together, slides), params, together, 512)
    shutil.copytree(together.root / "tokens", alone.root / "tokens")
    for item in expected.items:
        alone.delete(Ref("tokens", expected.recipe_key, item.key))
    for slide_id in ("d", "b"):
        manifest = make_tokens(tiles_json(alone, {slide_id: slides[slide_id]}), params, alone, 512)
        assert file_bytes(alone, manifest, slide_id) == file_bytes(together, expected, slide_id)


def test_small_slides_share_batches_of_one_shape(tiny_params, store):
    shapes = []
    handle = register_module_forward_hook(
        lambda module, images, _: shapes.append(len(images[0])) if isinstance(module, Trunk) else None
    )
    try:
        params = tiny_params.model_copy(update={"patch": "none"})
        make_tokens(tiles_json(store, {"a": 3, "b": 2, "c": 9, "d": 1}), params, store, 512)
    finally:
        handle.remove()
    assert shapes == [8, 8]


def test_a_slow_disk_that_fills_up_in_the_middle_keeps_what_was_finished(tiny_params, tmp_path, monkeypatch):
    # A slide a batch, and room for more than can be in flight or wait for their commits at a time: 20, of up to 14
    # pages each. The disk lets every thread wait at first, so that all that can be in flight is.
    params = tiny_params.model_copy(update={"batch_size": 1})
    slides = {f"s{i:02}": 1 for i in range(40)}
    whole = Store(tmp_path / "whole")
    expected = make_tokens(tiles_json(whole, slides), params, whole, 512)
    with small_disk(tmp_path / "small", "8m") as mount:
        store = Store(mount / "store")
        tiles = tiles_json(store, slides)
        (mount / "filler").write_bytes(bytes(max(0, shutil.disk_usage(mount).free - 1_500_000)))
        with monkeypatch.context() as slow, pytest.raises(StoreFull, match="no room left"):
            waited = set[int]()
            slow.setattr(os, "fsync", lambda _: waits(waited))
            make_tokens(tiles, params, store, 512)
        finished = [ref for ref in store.refs() if ref.kind == "tokens" and ref.item != "calibration"]
        assert 0 < len(finished) < len(slides)
        (mount / "filler").unlink()
        manifest = make_tokens(tiles, params, store, 512)
        assert manifest.model_dump() == expected.model_dump()
        assert all(file_bytes(store, manifest, slide) == file_bytes(whole, expected, slide) for slide in slides)


def test_tokens_that_cannot_fit_are_refused_before_anything_is_computed(tiny_params, tmp_path):
    with small_disk(tmp_path / "small", "1m") as mount:
        store = Store(mount / "store")
        tiles = tiles_json(store, {"a": 4})
        fill(mount)
        with pytest.raises(StoreFull, match=r"1\.9 kB of tokens, but 0 B free"):
            make_tokens(tiles, tiny_params, store, 512)
        assert not [ref for ref in store.refs() if ref.kind == "tokens"]


@pytest.mark.parametrize("update", [{"views": 2}, {"patch": "fp16"}, {"precision": "bf16"}, {"calibration_tiles": 9}])
def test_what_changes_the_bytes_changes_the_recipe(update, tiny_params, store):
    tiles = tiles_json(store, {"a": 4})
    key = make_tokens(tiles, tiny_params, store, 512).recipe_key
    assert make_tokens(tiles, tiny_params.model_copy(update=update), store, 512).recipe_key != key
    same = tiny_params.model_copy(update={"batch_size": 3, "engine": "eager"})
    assert make_tokens(tiles, same, store, 512).recipe_key == key
