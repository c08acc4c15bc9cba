"""Tiles that train slides have at further scales (`tiles.also_mpp`) are for the student, not for the probes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made.items import tiles_item, tokens_item

from pipeline.base.items import TilesManifest, TokensManifest
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.evaluate.selection import splits
from pipeline.tiles.item.meta import Meta
from pipeline.tiles.item.writer import TileWriter
from pipeline.tiles.pixels import encode_jpeg


def test_probes_are_fitted_on_tiles_of_the_held_out_ones_scale(tmp_path: Path) -> None:
    store = Store(tmp_path)
    recipes = {"tiles": {"target_mpp": 0.5, "also_mpp": [0.4]}, "tokens": {"made": "here"}}
    made: dict[str, list[object]] = {"tiles": [], "tokens": []}
    for name, split in (("learnt", "train"), ("held", "test")):
        for kind, recipe in recipes.items():
            ref = Ref(kind, recipe_key(recipe), name)
            with store.write(ref, recipe) as folder:
                (folder / "here").write_bytes(b"")
                if kind == "tiles":
                    writer = TileWriter(folder)
                    for number in range(5):
                        writer.append(encode_jpeg(np.full((16, 16, 3), 40 * number, np.uint8), 90), label=str(number))
                        if number == 2 and split == "train":
                            writer.are_of(0.5)
                    if split == "train":
                        writer.are_of(0.4)
                    writer.close(Meta(kind="file", tile_px=16))
            item = tiles_item if kind == "tiles" else tokens_item
            made[kind].append(item(name, 5, split, key=name, digest=store.digest(ref)))
    tiles, tokens = (
        form(recipe_key=recipe_key(recipes[kind]), recipe=recipes[kind], items=tuple(made[kind]))
        for kind, form in (("tiles", TilesManifest), ("tokens", TokensManifest))
    )
    found = splits(tiles, tokens, store)
    assert found["train"][0].rows.tolist() == [0, 1, 2] and found["train"][0].labels == ("0", "1", "2")
    assert found["test"][0].rows.tolist() == [0, 1, 2, 3, 4]
