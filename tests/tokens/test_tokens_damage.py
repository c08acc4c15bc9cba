"""What was damaged or lost in the store: one slide is refused, or what can be had again is had again."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from made.partials import orphaned
from made.tiles import file_bytes, tiles_json

from pipeline.base.arrays import ArrayWriter
from pipeline.base.errors import SlideRefused
from pipeline.base.store import Ref, Store
from pipeline.tokens.item.reader import TokenReader
from pipeline.tokens.stage import make_tokens


def no_metadata(folder):
    (folder / "offsets" / "zarr.json").unlink()


def broken_metadata(folder):
    (folder / "offsets" / "zarr.json").write_text("{half of")


def fewer_rows(folder):
    n = len(np.fromfile(folder / "offsets" / "c" / "0", np.int64))
    ArrayWriter(folder / "offsets", (n - 1,), n, np.int64).write(0, np.arange(n - 1))


def wrong_offsets(folder):
    n = len(np.fromfile(folder / "offsets" / "c" / "0", np.int64))
    ArrayWriter(folder / "offsets", (n,), n, np.int64).write(0, np.arange(n) * 10**9)


def no_table(folder):
    (folder / "tiles.parquet").unlink()


def broken_table(folder):
    (folder / "tiles.parquet").write_bytes(b"PAR1 half of")


def shorter_table(folder):
    pq.write_table(pq.read_table(folder / "tiles.parquet").slice(1), folder / "tiles.parquet")


def broken_meta(folder):
    (folder / "meta.json").write_text("{half of")


DAMAGES = [no_metadata, broken_metadata, fewer_rows, wrong_offsets, no_table, broken_table, shorter_table, broken_meta]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_slide_whose_tiles_are_damaged_is_refused_and_the_others_go_on(damage, tiny_params, store):
    tiles = tiles_json(store, {"a": 5, "b": 6})
    damage(store.path(Ref("tiles", tiles.recipe_key, tiles.item("a").key)))
    manifest = make_tokens(tiles, tiny_params, store, 512)
    assert [item.id for item in manifest.items] == ["b"] and [refusal.id for refusal in manifest.refused] == ["a"]
    assert manifest.refused[0].passing and "dvc repro -f -s tiles" in manifest.refused[0].fix
    with pytest.raises(SlideRefused):
        make_tokens(tiles, tiny_params.model_copy(update={"on_error": "fail"}), store, 512)


def test_a_calibration_that_was_lost_is_the_one_its_slides_were_standardised_by(tiny_params, store):
    before = make_tokens(tiles_json(store, {"a": 9}), tiny_params, store, 512)
    (lost,) = (Ref.parse(name) for name in before.uses)
    kept = file_bytes(store, before, "a")
    store.delete(lost)
    after = make_tokens(tiles_json(store, {"a": 9, "b": 30}), tiny_params, store, 512)
    a, b = (TokenReader(store.path(Ref("tokens", after.recipe_key, after.item(slide).key))) for slide in "ab")
    assert np.array_equal(a.mu, b.mu) and np.array_equal(a.sigma, b.sigma)
    assert file_bytes(store, after, "a") == kept and store.has(lost)


def test_chunks_from_before_a_power_cut_are_not_believed(tiny_params, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.tokens.item.writer.CHUNK_ROWS_MAX", 5)
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    tiles = tiles_json(whole, {"a": 15})
    expected = make_tokens(tiles, tiny_params, whole, 512)
    tiles_json(cut, {"a": 15})
    done = make_tokens(tiles, tiny_params, cut, 512)
    # As a run leaves it that lost its power in the last chunk, and the bytes of the first with it.
    partial = orphaned(cut, Ref("tokens", done.recipe_key, done.item("a").key))
    for name in ("patch/c.0.0.0.0", "cls/c.0.0.0"):
        with open(partial / name, "r+b") as file:
            file.write(bytes((partial / name).stat().st_size // 3))
    again = make_tokens(tiles, tiny_params, cut, 512)
    assert again.model_dump() == expected.model_dump()
    assert file_bytes(cut, again, "a") == file_bytes(whole, expected, "a")
