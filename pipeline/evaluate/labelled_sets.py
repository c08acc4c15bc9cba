"""The labelled data sets of `evaluate.datasets`: tiles and tokens through the store, leaks, then the comparison.

Labelled images are compared as slides are, without slide labels; images with masks have the dense probe instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.base.figures import NotMeasured
from pipeline.base.items import TRAIN
from pipeline.base.kept import Kept
from pipeline.base.progress import track
from pipeline.base.store import Ref, Store
from pipeline.evaluate.comparison import compare, spare_tiles
from pipeline.evaluate.dense_sets import dense_of_masks
from pipeline.evaluate.run import Run
from pipeline.evaluate.selection import Body, Sample
from pipeline.evaluate.summary import SetFigures
from pipeline.evaluate.teacher_source import TeacherSource
from pipeline.evaluate.trust.cautions import of_few_units, of_groups
from pipeline.evaluate.trust.leaks import Copies, check_images, copies
from pipeline.evaluate.upstream import Upstream
from pipeline.measures.split_figures import Dense
from pipeline.params.evaluate import DatasetParams, EvaluateParams
from pipeline.sets.contents import list_set
from pipeline.sets.listing import Picture
from pipeline.sets.masks import check_masks
from pipeline.sets.tiles import evenly, pictures_of_tiles, why_left_out, within, write_set

Listed = Mapping[str, Sequence[Picture]]
"""The pictures of each split."""


@dataclass(frozen=True)
class SetResult:
    """What one set told, and {split: digest} of the tokens that were compared."""

    figures: SetFigures
    digests: Mapping[str, str]


@dataclass(frozen=True)
class _Stored:
    """One split in the store: its tiles as a sample, the pictures that do not decode, its tokens' digest."""

    sample: Sample
    lost: Sequence[Picture]
    digest: str


def evaluate_set(
    dataset: DatasetParams, run: Run, upstream: Upstream, teacher: TeacherSource, learnt: Sequence[Sample]
) -> SetResult:
    """Compare teacher and student on one set.

    `learnt` are the tiles the student learnt from: a set that shares images with them is named as trained on.
    Raises `EvaluationError` for a set that is not as its kind says, and for an image both in train and held out.
    """
    params, masks = run.params, dataset.kind == "masks"
    every = list_set(dataset)
    listed = _chosen(every, masks, params, upstream.tiles.tile_px)
    if masks:
        check_masks([picture for pictures in listed.values() for picture in pictures])
    stored = _stored(dataset.name, listed, run.kept, upstream, teacher)
    held = {split: [found.sample] for split, found in stored.items() if split != TRAIN}
    body = Body([stored[TRAIN].sample], held, tile_labels=not masks, of="set")
    where, fix = f"evaluate.datasets: {dataset.name}", "drop the copies from one of the two"
    quality = upstream.tiles.jpeg_quality
    doubtful = check_images(copies(run, body.train, body.held, quality), "images", where, fix)
    seen = copies(run, learnt, body.held, quality)
    names = {name for sample in learnt for name in (sample.slide, sample.patient) if name is not None}
    with track(f"evaluate {dataset.name}", spare_tiles(body, params), "tiles") as advance:
        whole = compare(run, body, advance)
    # Images of no known slide or patient are each their own.
    grouped = {split: chosen for split, chosen in held.items() if any(sample.groups for sample in chosen)}
    dense: Mapping[str, Dense | NotMeasured] = {}
    of_dense: Sequence[str] = ()
    if masks:
        dense, of_dense = dense_of_masks(run, body, listed, upstream.tiles.tile_px)
    cautions = [
        *_of_choice(every, listed),
        *(text for split, found in stored.items() for text in _of_pictures(split, found, masks)),
        *doubtful,
        *(text for split in held for text in _of_likeness(split, seen[split], names, listed[split])),
        *whole.cautions,
        *(() if masks else of_few_units(grouped)),
        *of_dense,
    ]
    figures = SetFigures(
        splits={split: found.model_copy(update={"dense": dense.get(split)}) for split, found in whole.splits.items()},
        cautions=tuple(cautions),
        trained_on=tuple(
            f"{dataset.name}, {split}: {what}" for split in held for what in _known(seen[split], names, listed[split])
        ),
    )
    return SetResult(figures, {split: found.digest for split, found in stored.items()})


def _chosen(
    every: Mapping[str, list[Picture]], masks: bool, params: EvaluateParams, tile_px: int
) -> dict[str, list[Picture]]:
    """The pictures that are looked at."""
    most = params.max_probe_tiles
    return {split: within(p, most, tile_px) if masks else evenly(p, most) for split, p in every.items()}


def _stored(
    name: str, listed: Mapping[str, list[Picture]], kept: Kept, upstream: Upstream, teacher: TeacherSource
) -> dict[str, _Stored]:
    """Each split's tiles and tokens, made where the store lacks them."""
    tiles, store = upstream.tiles, kept.store
    items = {split: write_set(name, split, pictures, tiles, store) for split, pictures in listed.items()}
    answers = teacher.answer(list(items.values()), tiles, upstream.tokens, store)
    found = {}
    for (split, item), answer in zip(items.items(), answers, strict=True):
        refs = (Ref.of(tiles, item), answer)
        for ref in refs:
            kept.use(ref)
        sample, lost = _sample(name, refs, listed[split], store)
        found[split] = _Stored(sample, lost, store.digest(answer))
    return found


def _sample(name: str, refs: Sequence[Ref], pictures: Sequence[Picture], store: Store) -> tuple[Sample, list[Picture]]:
    """A split's tiles, and the pictures that they do not show, since they do not decode."""
    tile_folder, token_folder = (store.open(ref, remedy="dvc repro evaluate") for ref in refs)
    shown = pictures_of_tiles(tile_folder, pictures)
    # Tiles of one picture belong together; pictures without a group are their own where others have one.
    grouped = any(p.group for p in pictures) or any(p.mask for p in pictures)
    groups = tuple(p.group or p.name for p in shown) if grouped else None
    rows, names = np.arange(len(shown), dtype=np.int64), tuple(p.name for p in shown)
    sample = Sample(name, tile_folder, token_folder, rows, tuple(p.label for p in shown), None, groups, names=names)
    there = set(names)
    return sample, [picture for picture in pictures if picture.name not in there]


def _of_choice(every: Mapping[str, Sequence[Picture]], listed: Listed) -> Iterator[str]:
    """Cautions where not all pictures are looked at, and of what a set does not say of its groups."""
    for split, pictures in listed.items():
        if len(pictures) < len(every[split]):
            what = f"{len(pictures)} of its {len(every[split])} images were taken, evenly spread"
            yield f"{split}: {what} (evaluate.max_probe_tiles)"
    groups = {split: {picture.group for picture in pictures} for split, pictures in every.items()}
    if not any(groups[TRAIN] - {None}) or all(groups[split] <= {None} for split in groups if split != TRAIN):
        what = "its images do not say of which slide or patient they are (`group` of kind csv)"
        yield f"{what}: one in two splits cannot be seen, and intervals draw single images"
    for split in every:
        if split != TRAIN:
            yield from of_groups(f"groups of {split}", groups[TRAIN], groups[split])


def _of_pictures(split: str, found: _Stored, masks: bool) -> Iterator[str]:
    """Cautions of pictures that were left out."""
    if found.lost:
        first = f"the first: {why_left_out(found.lost[0])}"
        yield f"{split}: {len(found.lost)} images do not decode and were left out ({first})"
    without = sum(label is None for label in found.sample.labels)
    if without and not masks:
        yield f"{split}: {without} images have no label and were left out of the probes"


def _of_likeness(split: str, seen: Copies, names: set[str], pictures: Sequence[Picture]) -> Iterator[str]:
    """Cautions of a held-out split that is perhaps what the student learnt from; `names` are slides and patients."""
    if seen.near:
        pair = f"{seen.near[0][0]} and {seen.near[0][1]}"
        what = f"{len(seen.near)} images are nearly the same as a tile the student learnt from (such as {pair})"
        yield f"{split}: {what}"
    what = f"groups of {split} and slides that the student learnt from"
    yield from of_groups(what, names, {picture.group for picture in pictures})


def _known(seen: Copies, names: set[str], pictures: Sequence[Picture]) -> Iterator[str]:
    """What of a held-out split the student was trained on: the same images, or slides and patients of the same name."""
    if seen.same:
        yield f"{len(seen.same)} of its images are among the student's train tiles"
    shared = sorted({p.group for p in pictures if p.group is not None and p.group in names})
    if shared:
        yield f"{len(shared)} of its groups are named as slides or patients the student learnt from ({shared[0]})"
