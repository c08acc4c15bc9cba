"""Tokens of earlier versions, a file a chunk and no group: found by the same keys, read and copied from as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import zarr
from made.tiles import tiles_json

from pipeline.base.arrays import ArrayWriter, MappedArray
from pipeline.base.items import TokensManifest
from pipeline.base.store import Ref, Store
from pipeline.params.tokens import TokensParams
from pipeline.tokens.item.reader import TokenReader
from pipeline.tokens.stage import make_tokens


def as_earlier(store: Store, manifest: TokensManifest, rows: int) -> None:
    """Each item as versions before wrote it: zarr's own metadata, a file a chunk of `rows`, nothing beside."""
    for item in manifest.items:
        ref = Ref.of(manifest, item)
        arrays = {}
        for name in ("cls", "patch", "scale"):
            array = MappedArray(store.path(ref) / name)
            arrays[name] = np.array(array.slice(0, len(array))), dict(array.attributes)
        store.delete(ref)
        with store.write(ref, manifest.recipe) as folder:
            for name, (values, attributes) in arrays.items():
                writer = ArrayWriter(folder / name, values.shape, rows, values.dtype, attributes)
                for chunk in range(writer.n_chunks):
                    writer.write(chunk, values[writer.rows(chunk).start : writer.rows(chunk).stop])


def reader_of(store: Store, manifest: TokensManifest, slide_id: str) -> TokenReader:
    return TokenReader(store.path(Ref.of(manifest, manifest.item(slide_id))))


def test_they_are_found_and_read_and_nothing_is_made_again(tiny_params: TokensParams, store: Store) -> None:
    tiles = tiles_json(store, {"a": 11})
    manifest = make_tokens(tiles, tiny_params, store, 512)
    before, rows = reader_of(store, manifest, "a"), np.array([9, 0, 4, 5, 10])
    kept = [np.array(of) for of in (before.cls(rows), before.patch(rows), before.scale(rows), before.mu, before.sigma)]
    as_earlier(store, manifest, 4)
    files = {path: path.stat().st_mtime_ns for path in store.root.glob("tokens/**/*")}
    after = reader_of(store, make_tokens(tiles, tiny_params, store, 512), "a")
    assert {path: path.stat().st_mtime_ns for path in store.root.glob("tokens/**/*")} == files
    assert (after.folder / "patch" / "c" / "2" / "0" / "0" / "0").exists() and after.sums is None
    found = (after.cls(rows), after.patch(rows), after.scale(rows), after.mu, after.sigma)
    assert all(np.array_equal(one, other) for one, other in zip(kept, found, strict=True))
    assert zarr.open_array(after.folder / "patch", mode="r").shape == (11, 1, 16, 24)


def test_an_unfinished_one_is_begun_again(tiny_params: TokensParams, store: Store, tmp_path: Path) -> None:
    tiles = tiles_json(store, {"a": 11})
    manifest = make_tokens(tiles, tiny_params, store, 512)
    ref = Ref.of(manifest, manifest.item("a"))
    whole = {path.name: path.read_bytes() for path in store.path(ref).rglob("*") if path.is_file()}
    as_earlier(store, manifest, 4)
    shutil.move(store.path(ref), tmp_path / "left")
    (tmp_path / "left" / "item.json").unlink()
    partial = store.path(ref).parent / f".{ref.item}.0123.partial"
    shutil.move(tmp_path / "left", partial)
    (partial / ".lock").touch()
    again = make_tokens(tiles, tiny_params, store, 512)
    assert again.item("a").digest == manifest.item("a").digest
    found = {path.name: path.read_bytes() for path in store.path(ref).rglob("*") if path.is_file()}
    assert found == whole and json.loads(found["item.json"])
