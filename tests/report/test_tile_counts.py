"""What was taken in and left out, counted by split and by reason; the CSV for dvc says what the report's tables say."""

from __future__ import annotations

from pathlib import Path

from made.items import tiles_item

from pipeline.base.items import TilesItem, TilesManifest
from pipeline.report.tile_counts import DroppedCount, dropped, split_counts, write_tile_counts


def slide(name: str, split: str, n: int, **left_out: int) -> TilesItem:
    return tiles_item(name, n, split, tissue_mm2=1.5, dropped=left_out, labels={"fat": n})


TILES = TilesManifest(
    items=(slide("a", "test", 5, glass=9, pen=0), slide("b", "train", 7, glass=1, pen=4), slide("c", "train", 2)),
)


def test_train_comes_first_and_reasons_by_frequency() -> None:
    counts = [(row.split, row.slides, row.tiles, row.labels) for row in split_counts(TILES)]
    assert counts == [("train", 2, 9, {"fat": 9}), ("test", 1, 5, {"fat": 5})]
    assert dropped(TILES) == [DroppedCount("no tissue", 10, 2), DroppedCount("pen", 4, 1)]


def test_the_tables_are_written_for_dvc(tmp_path: Path) -> None:
    write_tile_counts(TILES, tmp_path)
    assert (tmp_path / "splits.csv").read_text() == "split,slides,tiles,tissue_mm2\ntrain,2,9,3.0\ntest,1,5,1.5\n"
    assert (tmp_path / "dropped.csv").read_text() == "reason,tiles,slides\nno tissue,10,2\npen,4,1\n"
    write_tile_counts(TilesManifest(), tmp_path)
    assert (tmp_path / "dropped.csv").read_text() == "reason,tiles,slides\n"
