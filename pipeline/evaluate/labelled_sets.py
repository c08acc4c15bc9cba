"""The labelled data sets of `evaluate.datasets`: tiles and tokens through the store, leaks, then the comparison.

Figures of a set: {split: {fidelity, probes, few_shot, from_labels}} for labelled images, {split: {fidelity, dense}}
for masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.intervals import Floats
from pipeline.base.items import TRAIN, TilesManifest, TokensManifest
from pipeline.base.progress import Advance, track
from pipeline.base.store import Ref, Store
from pipeline.evaluate import features, selection
from pipeline.evaluate.comparison import Models, compare, spare_tiles, unmeasurable_patch
from pipeline.evaluate.probes.dense import Batches, dense_probe, gather
from pipeline.evaluate.selection import Sample
from pipeline.evaluate.teacher_source import TeacherSource
from pipeline.evaluate.trust.cautions import of_few_slides, of_groups, of_weak_teacher
from pipeline.evaluate.trust.leaks import Copies, check_images, copies
from pipeline.params.evaluate import DatasetParams, EvaluateParams
from pipeline.sets.contents import list_set
from pipeline.sets.listing import Picture
from pipeline.sets.masks import Masks, check_masks, mask_values
from pipeline.sets.tiles import evenly, pictures_of_tiles, why_left_out, within, write_set
from pipeline.tokens.item.reader import TokenReader


@dataclass
class SetFigures:
    """What one set told; `uses` are its store items."""

    splits: dict[str, Any] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    trained_on: list[str] = field(default_factory=list)
    uses: list[str] = field(default_factory=list)
    items: dict[str, str] = field(default_factory=dict)
    """{split: digest} of the tokens that were compared: part of what the figures depend on."""


def evaluate_set(
    params: DatasetParams,
    limits: EvaluateParams,
    models: Models,
    student_train: Sequence[Sample],
    tiles: TilesManifest,
    tokens: TokensManifest,
    teacher: TeacherSource,
    store: Store,
) -> SetFigures:
    """Compare teacher and student on one set.

    `student_train` are the tiles the student learnt from: a set that shares images with them is named as trained on.
    Raises `EvaluationError` for a set that is not as its kind says, and for an image both in train and held out.
    """
    found = SetFigures()
    listed = _chosen(found, list_set(params), params, limits, tiles)
    if params.kind == "masks":
        check_masks([picture for pictures in listed.values() for picture in pictures])
    items = {split: write_set(params.name, split, pictures, tiles, store) for split, pictures in listed.items()}
    answers = teacher.answer(list(items.values()), tiles, tokens, store)
    samples = {}
    for (split, item), answer in zip(items.items(), answers, strict=True):
        refs = [Ref.of(tiles, item), answer]
        found.uses += [str(ref) for ref in refs]
        found.items[split] = store.digest(refs[1])
        samples[split], lost = _sample(params.name, refs, listed[split], store)
        _warn_of_pictures(found, split, lost, samples[split], params.kind)
    train, held = [samples.pop(TRAIN)], {split: [sample] for split, sample in samples.items()}
    where, fix, quality = f"evaluate.datasets: {params.name}", "drop the copies from one of the two", tiles.jpeg_quality
    found.warnings += check_images(train, held, limits.max_probe_tiles, quality, "images", where, fix)
    seen = copies(student_train, held, limits.max_probe_tiles, quality)
    for split in held:
        _warn_of_learnt(found, f"{params.name}, {split}", seen[split], student_train, listed[split], split)
    with track(f"evaluate {params.name}", spare_tiles(held, train, limits), "tiles") as advance:
        whole = compare(models, train, held, limits, store, advance)
    # Images of no known slide or patient are each their own.
    grouped = {split: chosen for split, chosen in held.items() if any(sample.groups for sample in chosen)}
    found.warnings += [*whole.warnings, *(of_few_slides(grouped) if params.kind != "masks" else ())]
    found.uses += whole.uses
    for split in held:
        whole.fidelity[split].pop("slides")
        found.splits[split] = {"fidelity": whole.fidelity[split]}
        if params.kind == "masks":
            found.splits[split] |= {"dense": None, "probes": None}
        else:
            kinds = {"probes": whole.probes, "few_shot": whole.few_shot, "from_labels": whole.from_labels}
            found.splits[split] |= {kind: by_split.get(split) for kind, by_split in kinds.items()}
    # A set of images has no slides to label; masks have no tile labels.
    dropped = ("slide_labels", "probes") if params.kind == "masks" else ("slide_labels",)
    found.why = {what: why for what, why in whole.why.items() if what.split(",")[0] not in dropped}
    if params.kind == "masks":
        _dense(found, models, train, held, listed, tiles, limits)
    return found


def _chosen(
    found: SetFigures,
    every: Mapping[str, list[Picture]],
    params: DatasetParams,
    limits: EvaluateParams,
    tiles: TilesManifest,
) -> dict[str, list[Picture]]:
    """The pictures that are looked at; warns where that is not all, and of what a set does not say of its groups."""
    most, side = limits.max_probe_tiles, tiles.tile_px
    cut = params.kind == "masks"
    listed = {split: within(p, most, side) if cut else evenly(p, most) for split, p in every.items()}
    for split, pictures in listed.items():
        if len(pictures) < len(every[split]):
            what = f"{len(pictures)} of its {len(every[split])} images were taken, evenly spread"
            found.warnings.append(f"{split}: {what} (evaluate.max_probe_tiles)")
    groups = {split: {picture.group for picture in pictures} for split, pictures in every.items()}
    if not any(groups[TRAIN] - {None}) or all(groups[split] <= {None} for split in groups if split != TRAIN):
        what = "its images do not say of which slide or patient they are (`group` of kind csv)"
        found.warnings.append(f"{what}: one in two splits cannot be seen, and intervals draw single images")
    for split in every:
        if split != TRAIN:
            found.warnings += of_groups(f"groups of {split}", groups[TRAIN], groups[split])
    return listed


def _warn_of_learnt(
    found: SetFigures,
    where: str,
    seen: Copies,
    student_train: Sequence[Sample],
    pictures: Sequence[Picture],
    split: str,
) -> None:
    """What of a held-out split the student was trained on: the same images, or slides and patients of the same name."""
    if seen.same:
        found.trained_on.append(f"{where}: {len(seen.same)} of its images are among the student's train tiles")
    if seen.near:
        pair = f"{seen.near[0][0]} and {seen.near[0][1]}"
        what = f"{len(seen.near)} images are nearly the same as a tile the student learnt from (such as {pair})"
        found.warnings.append(f"{split}: {what}")
    names = {name for sample in student_train for name in (sample.slide, sample.patient)}
    shared = sorted({p.group for p in pictures if p.group is not None and p.group in names})
    if shared:
        what = f"{len(shared)} of its groups are named as slides or patients the student learnt from ({shared[0]})"
        found.trained_on.append(f"{where}: {what}")
    found.warnings += of_groups(
        f"groups of {split} and slides that the student learnt from", names, {p.group for p in pictures}
    )


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


def _warn_of_pictures(found: SetFigures, split: str, lost: Sequence[Picture], sample: Sample, kind: str) -> None:
    if lost:
        first = f"the first: {why_left_out(lost[0])}"
        found.warnings.append(f"{split}: {len(lost)} images do not decode and were left out ({first})")
    without = sum(label is None for label in sample.labels)
    if without and kind != "masks":
        found.warnings.append(f"{split}: {without} images have no label and were left out of the probes")


def _dense(
    found: SetFigures,
    models: Models,
    train: Sequence[Sample],
    held: Mapping[str, Sequence[Sample]],
    listed: Mapping[str, Sequence[Picture]],
    tiles: TilesManifest,
    limits: EvaluateParams,
) -> None:
    """The dense probe of every held-out split of a set with masks."""
    reason = unmeasurable_patch(models, train)
    if reason:
        found.why |= {f"dense, {split}": reason for split in held}
        return
    masks, side = Masks(listed[TRAIN]), tiles.tile_px
    grid = TokenReader(train[0].tokens).grid
    total = sum(min(limits.max_dense_tiles, selection.count(s)) for s in (train, *held.values()))
    with track("dense probe", total, "tiles") as advance:

        def batches(split: str, chosen: Sequence[Sample]) -> tuple[list[Sample], Batches]:
            sample = selection.spread(chosen, limits.max_dense_tiles)
            mask_NHW = masks.of_tiles(sample[0].tiles, sample[0].rows, listed[split], side)
            return sample, _batches(models, sample, mask_NHW, limits.batch_size, advance)

        sample, learnt = batches(TRAIN, train)
        heads = gather(learnt, grid, selection.count(sample))
        learnable = set(heads.label_M.tolist())
        if len(learnable) < 2:
            found.why |= {f"dense, {split}": "the train masks' tokens are of one class only" for split in held}
            return
        rare = [value for k, value in enumerate(masks.values) if k not in learnable]
        if rare:
            what = f"no train token is mostly of the mask values {_listed(rare)}; no model can answer them"
            found.warnings.append(f"dense probe: {what}, and their overlap is 0")
        for split, chosen in held.items():
            there = mask_values(listed[split])
            strange = sorted(there.difference(masks.values))
            if not there.intersection(masks.values):
                found.why[f"dense, {split}"] = f"no train mask has its values ({_listed(strange)})"
                continue
            if strange:
                what = f"no train mask has the mask values {_listed(strange)}; their pixels were left out"
                found.warnings.append(f"dense probe of {split}: {what}")
            sample, answers = batches(split, chosen)
            images = selection.slide_of_tiles(sample)
            figures = dense_probe(heads, answers, images, grid, len(masks.values), limits.bootstrap, limits.seed)
            found.splits[split]["dense"] = figures | {"values": masks.values}
            found.warnings += of_weak_teacher(f"dense probe of {split}", figures["linear"], figures["majority"], "miou")


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _batches(
    models: Models, samples: Sequence[Sample], mask_NHW: NDArray[np.uint8], batch_size: int, advance: Advance
) -> Iterator[tuple[Mapping[str, Floats], NDArray[np.uint8]]]:
    done = 0
    for answers in features.dense_features(models.dense, samples, batch_size, advance):
        n = len(answers["teacher"])
        yield answers, mask_NHW[done : done + n]
        done += n
