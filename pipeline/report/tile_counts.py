"""Slides and tiles of each split and what quality control left out: for the report, and as CSV for `dvc plots`.

splits.csv   split, slides, tiles, tissue_mm2
dropped.csv  reason, tiles, slides (on which it happened), the most frequent first
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pipeline.base.files import write_csv
from pipeline.base.items import TRAIN, TilesItem, TilesManifest

DROPPED = {
    "glass": "no tissue",
    "edge": "beyond the slide’s edge",
    "limit": "above max_tiles_per_slide",
    "pen": "pen",
    "blank": "blank, too little stain",
    "blurred": "out of focus",
    "damaged": "damaged in the file",
}


@dataclass(frozen=True)
class SplitCount:
    """What was taken in of one split; `labels` counts the tiles of each class, and stands on the page alone."""

    split: str
    slides: int
    tiles: int
    tissue_mm2: float
    labels: Mapping[str, int]


@dataclass(frozen=True)
class DroppedCount:
    """Tiles that were left out for one reason, and the slides on which that happened."""

    reason: str
    tiles: int
    slides: int


def write_tile_counts(tiles: TilesManifest, folder: Path) -> None:
    """Write splits.csv and dropped.csv, headers alone where there is nothing."""
    columns = ("split", "slides", "tiles", "tissue_mm2")
    write_csv(
        folder / "splits.csv", columns, [{name: asdict(row)[name] for name in columns} for row in split_counts(tiles)]
    )
    write_csv(folder / "dropped.csv", [field.name for field in fields(DroppedCount)], map(asdict, dropped(tiles)))


def split_counts(tiles: TilesManifest) -> list[SplitCount]:
    """Slides, tiles and tissue of each split, train first."""
    splits: dict[str, list[TilesItem]] = {}
    for item in tiles.items:
        splits.setdefault(item.split, []).append(item)
    order = sorted(splits, key=lambda split: (split != TRAIN, split != "test", split))
    return [
        SplitCount(
            split,
            slides=len(splits[split]),
            tiles=sum(item.n for item in splits[split]),
            tissue_mm2=sum(item.tissue_mm2 or 0 for item in splits[split]),
            labels=dict(sorted(_counted(item.labels for item in splits[split]).items())),
        )
        for split in order
    ]


def dropped(tiles: TilesManifest) -> list[DroppedCount]:
    """What quality control left out, the most frequent first."""
    counts = _counted(item.dropped for item in tiles.items)
    return [
        DroppedCount(DROPPED.get(reason, reason), n, sum(bool(item.dropped.get(reason)) for item in tiles.items))
        for reason, n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        if n
    ]


def _counted(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for some in counts:
        found.update(some)
    return found
