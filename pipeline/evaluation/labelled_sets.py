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

from pipeline.evaluation import datasets, features
from pipeline.evaluation.cautions import of_few_slides
from pipeline.evaluation.comparison import Models, compare, spare_tiles, unmeasurable_patch
from pipeline.evaluation.datasets import TRAIN, Sample
from pipeline.evaluation.dense_probe import Batches, dense_probe, gather
from pipeline.evaluation.image_sets import Picture, list_set
from pipeline.evaluation.intervals import Floats
from pipeline.evaluation.leaks import check_images, identical
from pipeline.evaluation.set_tiles import Masks, check_masks, evenly, mask_values, pictures_of_tiles, write_set
from pipeline.evaluation.teacher_source import TeacherSource
from pipeline.manifest import Manifest
from pipeline.params import DatasetParams, EvaluateParams
from pipeline.progress import Advance, track
from pipeline.store import Ref, Store
from pipeline.tokens.reader import TokenReader


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
    tiles: Manifest,
    tokens: Manifest,
    teacher: TeacherSource,
    store: Store,
) -> SetFigures:
    """Compare teacher and student on one set.

    `student_train` are the tiles the student learnt from: a set that shares images with them is named as trained on.
    Raises `EvaluationError` for a set that is not as its kind says, and for an image both in train and held out.
    """
    found = SetFigures()
    listed = {split: evenly(pictures, limits.max_probe_tiles) for split, pictures in list_set(params).items()}
    if params.kind == "masks":
        check_masks([picture for pictures in listed.values() for picture in pictures])
    items = {split: write_set(params.name, split, pictures, tiles, store) for split, pictures in listed.items()}
    answers = teacher.answer(list(items.values()), tiles, tokens, store)
    samples = {}
    for (split, item), answer in zip(items.items(), answers, strict=True):
        refs = [Ref.of(tiles, item), answer]
        found.uses += [str(ref) for ref in refs]
        found.items[split] = store.digest(refs[1])
        samples[split], shown = _sample(params.name, refs, listed[split], store)
        _warn_of_pictures(found, split, len(listed[split]) - shown, samples[split], params.kind)
    train, held = [samples.pop(TRAIN)], {split: [sample] for split, sample in samples.items()}
    where, fix = f"evaluate.datasets: {params.name}", "drop the copies from one of the two"
    found.warnings += check_images(train, held, limits.max_probe_tiles, "images", where, fix)
    for split, chosen in held.items():
        found.trained_on += [
            f"{params.name}, {split}: {what}" for what in _learnt(student_train, chosen, listed[split])
        ]
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


def _learnt(student_train: Sequence[Sample], chosen: Sequence[Sample], pictures: Sequence[Picture]) -> list[str]:
    """What of a held-out split the student was trained on: the same images, or slides and patients of the same name."""
    found, same = [], identical(student_train, chosen)
    if same:
        found.append(f"{len(same)} of its images are among the student's train tiles")
    names = {name for sample in student_train for name in (sample.slide, sample.patient)}
    shared = sorted({p.group for p in pictures if p.group is not None and p.group in names})
    if shared:
        found.append(
            f"{len(shared)} of its groups are named as slides or patients the student learnt from ({shared[0]})"
        )
    return found


def _sample(name: str, refs: Sequence[Ref], pictures: Sequence[Picture], store: Store) -> tuple[Sample, int]:
    """A split's tiles, and how many of its pictures they show: what does not decode has none."""
    tile_folder, token_folder = (store.open(ref, remedy="dvc repro evaluate") for ref in refs)
    shown = pictures_of_tiles(tile_folder, pictures)
    # Tiles of one picture belong together; pictures without a group are their own where others have one.
    grouped = any(p.group for p in pictures) or any(p.mask for p in pictures)
    groups = tuple(p.group or p.name for p in shown) if grouped else None
    rows = np.arange(len(shown), dtype=np.int64)
    sample = Sample(name, tile_folder, token_folder, rows, tuple(p.label for p in shown), None, groups)
    return sample, len({p.name for p in shown})


def _warn_of_pictures(found: SetFigures, split: str, damaged: int, sample: Sample, kind: str) -> None:
    if damaged:
        found.warnings.append(f"{split}: {damaged} images do not decode and were left out")
    without = sum(label is None for label in sample.labels)
    if without and kind != "masks":
        found.warnings.append(f"{split}: {without} images have no label and were left out of the probes")


def _dense(
    found: SetFigures,
    models: Models,
    train: Sequence[Sample],
    held: Mapping[str, Sequence[Sample]],
    listed: Mapping[str, Sequence[Picture]],
    tiles: Manifest,
    limits: EvaluateParams,
) -> None:
    """The dense probe of every held-out split of a set with masks."""
    reason = unmeasurable_patch(models, train)
    if reason:
        found.why |= {f"dense, {split}": reason for split in held}
        return
    masks, side = Masks(listed[TRAIN]), int(tiles.recipe["tile_px"])
    grid = TokenReader(train[0].tokens).grid
    total = sum(min(limits.max_dense_tiles, datasets.count(s)) for s in (train, *held.values()))
    with track("dense probe", total, "tiles") as advance:

        def batches(split: str, chosen: Sequence[Sample]) -> tuple[list[Sample], Batches]:
            sample = datasets.spread(chosen, limits.max_dense_tiles)
            mask_NHW = masks.of_tiles(sample[0].tiles, listed[split], side)[sample[0].rows]
            return sample, _batches(models, sample, mask_NHW, limits.batch_size, advance)

        sample, learnt = batches(TRAIN, train)
        heads = gather(learnt, grid, datasets.count(sample))
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
            images = datasets.slide_of_tiles(sample)
            figures = dense_probe(heads, answers, images, grid, len(masks.values), limits.bootstrap, limits.seed)
            found.splits[split]["dense"] = figures | {"values": masks.values}


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
