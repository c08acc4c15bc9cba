"""Images of folders that became no tile, by name: artifacts/left_out.csv."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pipeline.base.files import write_csv
from pipeline.base.items import TilesManifest
from pipeline.base.progress import console
from pipeline.base.store import Ref, Store
from pipeline.tiles.item.reader import TileReader

COLUMNS = ("slide", "file", "reason")


def write_left_out(tiles: TilesManifest, store: Store, path: Path) -> None:
    """Write the table, the header alone where nothing was left out, and say how many images of which slides."""
    rows = list(_rows(tiles, store))
    write_csv(path, COLUMNS, rows)
    for slide, n in Counter(row["slide"] for row in rows).items():
        console.print(f"tiles: {slide}: {n} files left out, named in {path}", soft_wrap=True)


def _rows(tiles: TilesManifest, store: Store) -> Iterator[dict[str, str]]:
    for item in tiles.items:
        if item.kind == "folder":
            meta = TileReader(store.path(Ref("tiles", tiles.recipe_key, item.key))).meta
            for file, reason in meta.left_out:
                yield {"slide": item.id, "file": file, "reason": reason}
