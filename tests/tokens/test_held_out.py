"""Views are for training: held-out slides have the tile as it is, by the recipe of one view, which all views share."""

import json

import numpy as np
from made.tiles import tiles_json

from pipeline.base.items import TokensManifest
from pipeline.base.store import Ref
from pipeline.tokens.item.reader import TokenReader
from pipeline.tokens.recipe import one_view_key
from pipeline.tokens.stage import make_tokens


def tiles_of(store, train, held):
    parts = tiles_json(store, train), tiles_json(store, held, split="test")
    return parts[0].model_copy(update={"items": (*parts[0].items, *parts[1].items)})


def reader_of(store, manifest, slide_id) -> TokenReader:
    return TokenReader(store.path(Ref.of(manifest, manifest.item(slide_id))))


def augmented(params, views, more=0):
    return params.model_copy(update={"views": views, "augment": params.augment.model_copy(update={"views": more})})


def test_train_slides_have_all_views_and_the_others_the_tile_as_it_is(tiny_params, store, capsys):
    tiles = tiles_of(store, {"a": 9}, {"b": 7})
    manifest = make_tokens(tiles, augmented(tiny_params, 4, 1), store, 512)
    assert "16 tiles of 2 slides to compute" in capsys.readouterr().err
    assert (reader_of(store, manifest, "a").views, reader_of(store, manifest, "b").views) == (5, 1)
    store.require(manifest)
    own = [item.recipe_key for item in manifest.items]
    assert own == ["", one_view_key(manifest)] and one_view_key(manifest) != manifest.recipe_key


def test_what_is_held_out_is_computed_once_for_all_numbers_of_views(tiny_params, store, capsys):
    tiles = tiles_of(store, {"a": 9}, {"b": 7})
    plain = make_tokens(tiles, tiny_params, store, 512)
    capsys.readouterr()
    several = make_tokens(tiles, augmented(tiny_params, 2), store, 512)
    assert "9 tiles of 1 slides to compute (7 of 16 tiles cached)" in capsys.readouterr().err
    assert several.item("b").digest == plain.item("b").digest
    make_tokens(tiles, augmented(tiny_params, 3), store, 512)
    assert "9 tiles of 1 slides to compute (7 of 16 tiles cached)" in capsys.readouterr().err
    assert make_tokens(tiles, tiny_params, store, 512).model_dump() == plain.model_dump()


def test_the_tile_as_it_is_has_the_same_tokens_among_other_views(tiny_params, store):
    tiles, rows = tiles_of(store, {"a": 9}, {"b": 7}), np.arange(9)
    one, several = (reader_of(store, make_tokens(tiles, augmented(tiny_params, n), store, 512), "a") for n in (1, 3))
    assert np.array_equal(one.cls(rows)[:, 0], several.cls(rows)[:, 0])
    assert np.array_equal(one.patch(rows), several.patch(rows)) and np.array_equal(one.scale(rows), several.scale(rows))


def test_a_slide_that_becomes_a_train_slide_gets_the_other_views(tiny_params, store, capsys):
    params = augmented(tiny_params, 2)
    make_tokens(tiles_of(store, {"a": 9}, {"b": 7}), params, store, 512)
    capsys.readouterr()
    manifest = make_tokens(tiles_of(store, {"a": 9, "b": 7}, {}), params, store, 512)
    assert "7 tiles of 1 slides to compute" in capsys.readouterr().err
    assert reader_of(store, manifest, "b").views == 2


def test_train_and_held_out_slides_share_one_calibration_and_a_lost_one_is_found_in_either(tiny_params, store):
    params, tiles = augmented(tiny_params, 2), tiles_of(store, {"a": 9}, {"b": 7})
    manifest = make_tokens(tiles, params, store, 512)
    (use,) = manifest.uses
    known = reader_of(store, manifest, "a").mu
    for kept, lost in (("a", "b"), ("b", "a")):
        for address in (use, manifest.address(manifest.item(lost))):
            store.delete(Ref.parse(address))
        again = make_tokens(tiles, params, store, 512)
        assert again.model_dump() == manifest.model_dump()
        assert np.array_equal(reader_of(store, again, lost).mu, known)
        assert np.array_equal(reader_of(store, again, kept).mu, known)


def test_without_other_views_the_manifest_does_not_speak_of_recipes(tiny_params, store, tmp_path):
    manifest = make_tokens(tiles_of(store, {"a": 5}, {"b": 4}), tiny_params, store, 512)
    manifest.save(tmp_path / "tokens.json")
    assert not any("recipe_key" in item for item in json.loads((tmp_path / "tokens.json").read_bytes())["items"])
    several = make_tokens(tiles_of(store, {"a": 5}, {"b": 4}), augmented(tiny_params, 2), store, 512)
    several.save(tmp_path / "tokens.json")
    assert TokensManifest.load(tmp_path / "tokens.json").refs() == several.refs()
