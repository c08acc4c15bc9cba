"""As many tiles as are asked for, where a slide has them: spread, seeded, and without reading all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.slides import make_slide, overwrite, tissue_picture
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.slides.sources import Source
from pipeline.tiles.cutting import Cut
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.quota import draw
from pipeline.tiles.whole_slide import write_slide_tiles

PARAMS = TilesParams(tile_px=64, tissue=TissueParams(mask_mpp=4, min_area_mm2=0.001))


def drawn(folder: Path, bad: set[int], n: int, limit: int | None, seed: int = 0) -> tuple[list[Cut], list[int]]:
    """What is given out, and the rows that were looked at, in order."""
    seen: list[int] = []

    def cut_rows(row_M: NDArray[np.int64]) -> Iterator[Cut]:
        for row in row_M.tolist():
            seen.append(row)
            yield Cut(row, None if row in bad and row % 2 else b"%d" % row, 0.5 if row in bad else 1.0)

    return list(draw(cut_rows, n, limit, seed, folder, 0.8)), seen


@given(n=st.integers(1, 60), limit=st.integers(1, 40), bad=st.sets(st.integers(0, 59)), seed=st.integers(0, 9))
def test_as_many_as_are_asked_for_come_where_there_are_so_many(
    tmp_path_factory: pytest.TempPathFactory, n: int, limit: int, bad: set[int], seed: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    given_out, seen = drawn(folder, bad, n, limit, seed)
    kept = [tile for tile in given_out if tile.lost(0.8) is None]
    good = set(range(n)) - bad
    assert len(kept) == min(limit, len(good)) and {tile.row for tile in kept} <= good
    assert [tile.row for tile in kept] == sorted(tile.row for tile in kept)
    assert all(tile.jpeg == b"%d" % tile.row for tile in kept)
    # Nothing is looked at twice, and what was looked at is given out.
    assert len(seen) == len(set(seen)) and sorted(seen) == sorted(tile.row for tile in given_out)
    assert drawn(folder, bad, n, limit, seed) == (given_out, seen)


def test_a_first_draw_without_losses_is_all_that_is_read_and_another_seed_draws_others(tmp_path: Path) -> None:
    one, seen = drawn(tmp_path, set(), 1000, 50, 1)
    assert len(seen) == 50 and np.diff([0, *sorted(seen), 1000]).max() <= 40
    assert [tile.row for tile in drawn(tmp_path, set(), 1000, 50, 2)[0]] != [tile.row for tile in one]
    assert not list(tmp_path.iterdir())


def test_without_a_limit_tiles_come_in_turn(tmp_path: Path) -> None:
    assert [tile.row for tile in drawn(tmp_path, {2, 5}, 7, None)[0]] == list(range(7))


def test_blurred_and_damaged_tiles_of_a_slide_are_made_up_for(tmp_path: Path) -> None:
    """Its left half is out of focus, and some tiles of the rest are damaged."""
    sharp = Image.fromarray(tissue_picture(1280, 896))
    sharp.paste(sharp.filter(ImageFilter.GaussianBlur(4)).crop((0, 0, 640, 896)), (0, 0))
    path = make_slide(tmp_path / "a.tif", np.asarray(sharp), level_sizes=[(320, 224)], kind="jpeg-rgb", tile_px=64)
    overwrite(path, [6 * 20 + 12, 7 * 20 + 14])

    def tile(name: str, limit: int | None) -> TileReader:
        (tmp_path / name).mkdir()
        source, params = Source("it", "file", path), PARAMS.model_copy(update={"max_tiles_per_slide": limit})
        write_slide_tiles(source, tmp_path / name, params)
        return TileReader(tmp_path / name)

    def places(tiles: TileReader) -> list[tuple[int, int]]:
        return list(zip(tiles.table["y_l0"].to_pylist(), tiles.table["x_l0"].to_pylist(), strict=True))

    every = tile("every", None)
    limit = len(every) - 5
    some = tile("some", limit)
    assert every.meta.dropped["blurred"] > 30 and every.meta.dropped["damaged"] == 2
    assert len(some) == limit and set(places(some)) < set(places(every)) and places(some) == sorted(places(some))
    totals = {len(tiles) + sum(tiles.meta.dropped.values()) for tiles in (every, some)}
    assert len(totals) == 1
    few = tile("few", 20)
    assert len(few) == 20 and few.meta.dropped["blurred"] < every.meta.dropped["blurred"]
    same = dict(zip(places(every), range(len(every)), strict=True))
    assert all(few.jpeg(row) == every.jpeg(same[at]) for row, at in enumerate(places(few)))
