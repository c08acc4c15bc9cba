"""Which tiles are compared: the held-out ones, and the train tiles that probes and statistics are fitted on.

A split that shares a slide or a patient with the training is no held-out split: that is an error, never a figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.base.elsewhere import gather
from pipeline.base.errors import EvaluationError
from pipeline.base.intervals import Units
from pipeline.base.items import TRAIN, TilesManifest, TokensManifest
from pipeline.base.store import Ref, Store
from pipeline.tiles.item.reader import TileReader

BAG_TILES = 16
"""Tiles of a slide from which its label is told, at least, where it has them."""


@dataclass(frozen=True)
class Sample:
    """Chosen tiles of one slide: `rows` (n,) int64 of its items in the store, and their labels.

    `slide_label` is the label of the slide as a whole; `groups` say which tiles belong together where one item holds
    tiles of many patients or slides, and `names` what each is called (a data set of images).
    """

    slide: str
    tiles: Path
    tokens: Path
    rows: NDArray[np.int64]
    labels: tuple[str | None, ...]
    slide_label: str | None = None
    groups: tuple[str, ...] | None = None
    patient: str | None = None
    names: tuple[str, ...] | None = None

    def take(self, chosen: NDArray[np.int64]) -> Sample:
        """The tiles at these positions."""
        labels = tuple(self.labels[i] for i in chosen)
        groups, names = (None if each is None else tuple(each[i] for i in chosen) for each in (self.groups, self.names))
        return replace(self, rows=self.rows[chosen], labels=labels, groups=groups, names=names)


@dataclass(frozen=True)
class Body:
    """The tiles to compare on: of split `train`, and of each held-out split, bounded already (`spread`).

    Probes of tile labels are made where they are asked for, those of slide labels of the slides in `bags`, by split,
    None where nobody asks for any; `of` is what they are tiles of.
    """

    train: Sequence[Sample]
    held: Mapping[str, Sequence[Sample]]
    tile_labels: bool = True
    bags: Mapping[str, Sequence[Sample]] | None = None
    of: Literal["slides", "set"] = "slides"


def splits(tiles: TilesManifest, tokens: TokensManifest, store: Store) -> dict[str, list[Sample]]:
    """Every tile that the teacher has answered, by split; slides in the manifest's order.

    Raises `EvaluationError` on a leak, `MissingItem` where the store lacks a slide, `ManifestError` where tiles.json
    does.
    """
    check_leaks(tokens)
    tiled = tiles.by_id()
    found: dict[str, list[Sample]] = {}
    with_tiles = [tiled[item.id] for item in tokens.items if item.id in tiled]
    gather(store, [*(Ref.of(tiles, item) for item in with_tiles), *(Ref.of(tokens, item) for item in tokens.items)])
    for item in tokens.items:
        if item.id not in tiled:
            raise tiles.no_such_item(item.id)
        # By the slide's id: imported answers have a key of their own.
        tile_folder = store.open(Ref.of(tiles, tiled[item.id]), remedy="dvc repro tiles")
        token_folder = store.open(Ref.of(tokens, item), remedy="dvc repro tokens")
        labels = tuple(TileReader(tile_folder).labels)
        rows = np.arange(item.n, dtype=np.int64)
        sample = Sample(item.id, tile_folder, token_folder, rows, labels, item.label, None, item.patient)
        if item.in_train and tiles.recipe.get("also_mpp"):
            # A probe is of tiles as the held-out ones are: those of further scales are the student's alone.
            sample = sample.take(TileReader(tile_folder).rows_at(tiles.target_mpp))
        found.setdefault(item.split, []).append(sample)
    return found


def body(found: Mapping[str, Sequence[Sample]], most: int) -> Body:
    """The tiles of all splits as they are compared, of held-out ones `most` at most.

    Raises `EvaluationError` without a train slide.
    """
    if TRAIN not in found:
        raise EvaluationError("no slide is in split 'train'", where="tokens", fix="mend `split` in the slide table")
    held = {split: spread(found[split], most) for split in sorted(found) if split != TRAIN}
    return Body(found[TRAIN], held, bags={part: bags(samples, most) for part, samples in found.items()})


def check_leaks(tokens: TokensManifest) -> None:
    """Raise `EvaluationError` where a held-out slide, or its patient, is among the train slides too."""
    train = [item for item in tokens.items if item.in_train]
    slides = {item.key: item.id for item in train}
    patients = {item.patient: item.id for item in train if item.patient is not None}
    for item in tokens.items:
        split, patient = item.split, item.patient
        if item.in_train:
            continue
        fix = "give both rows the same split in the slide table, or drop one"
        if item.key in slides:
            what = f"is in split {split!r}, and the same slide is in {TRAIN!r} as {slides[item.key]!r}"
            raise EvaluationError(what, where=item.id, fix=fix)
        if patient in patients:
            what = f"is in split {split!r}, and patient {patient!r} is in {TRAIN!r} with {patients[patient]!r}"
            raise EvaluationError(what, where=item.id, fix=fix)


def primary(names: Sequence[str]) -> str | None:
    """The held-out split whose figures lead: `test` where there is one, else the first by name."""
    held = sorted(name for name in names if name != TRAIN)
    return "test" if "test" in held else (held[0] if held else None)


def labelled(samples: Sequence[Sample]) -> list[Sample]:
    """The tiles that have a label."""
    chosen = [s.take(np.flatnonzero([label is not None for label in s.labels])) for s in samples]
    return [sample for sample in chosen if len(sample.rows)]


def worth_fitting(samples: Sequence[Sample]) -> list[Sample]:
    """The tiles that a probe of tile labels or of slide labels can learn from."""
    return [part for s in samples for part in ([s] if s.slide_label is not None else labelled([s]))]


def spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most `most` tiles, evenly spread over all of them, slide after slide."""
    total = sum(len(sample.rows) for sample in samples)
    if total <= most:
        return list(samples)
    at, start, kept = np.arange(most) * total // most, 0, []
    for sample in samples:
        inside = at[(at >= start) & (at < start + len(sample.rows))] - start
        start += len(sample.rows)
        if len(inside):
            kept.append(sample.take(inside))
    return kept


def bags(samples: Sequence[Sample], most: int) -> list[Sample]:
    """The slides that have a label, through `BAG_TILES` tiles each at most, evenly spread, where so many slides would
    else have to share `most` tiles that fewer are left of each."""
    chosen = [sample for sample in samples if sample.slide_label is not None and len(sample.rows)]
    if count(chosen) <= most or most >= BAG_TILES * len(chosen):
        return spread(chosen, most)
    sizes = [min(BAG_TILES, len(sample.rows)) for sample in chosen]
    return [s.take(np.arange(n) * len(s.rows) // n) for s, n in zip(chosen, sizes, strict=True)]


def count(samples: Sequence[Sample]) -> int:
    """Tiles in all."""
    return sum(len(sample.rows) for sample in samples)


def slide_of_tiles(samples: Sequence[Sample]) -> list[str]:
    """The slide (or group) of each tile, in order."""
    return [name for sample in samples for name in sample.groups or (sample.slide,) * len(sample.rows)]


def units_of_tiles(samples: Sequence[Sample]) -> Units:
    """What intervals draw: the patient where any is known, else the slide; in a set its groups, else its images."""
    if all(sample.names for sample in samples):
        names = [name for sample in samples for name in sample.groups or sample.names or ()]
        images = {name for sample in samples for name in sample.names or ()}
        return Units(names, "image" if images.issuperset(names) else "group")
    patients = any(sample.patient for sample in samples)
    names = [sample.patient or sample.slide for sample in samples for _ in sample.rows]
    return Units(names, "patient" if patients else "slide")


def label_of_tiles(samples: Sequence[Sample]) -> list[str]:
    """The label of each tile, in order; for samples that `labelled` gave."""
    return [str(label) for sample in samples for label in sample.labels]
