"""Dense linear probe: a linear head on each patch token says of every pixel what it shows.

The protocol is DINOv2's linear segmentation (Oquab et al. 2023, section 7.4): frozen patch tokens, one linear layer,
logits upsampled bilinearly to the tile's pixels. Here the head is a logistic regression on tokens, fitted by L-BFGS
with the lambda of probes.py, and a token's train label is the class of most of its pixels. Tokens of teacher and
student lie on the teacher's grid; tokens of the student come through its adapter, and `head_transfer` is the teacher's
head applied to them unchanged. Each class's intersection and union are summed over all held-out pixels:
IoU = I / U, Dice = 2 I / (|prediction| + |truth|), both then averaged over classes. Intervals draw images.

A mask is (H, W) uint8 with a class index per pixel; `IGNORE` pixels (seen in a neighbouring tile already, or of a class
that no train mask has) count nowhere. Shapes: N tiles, T = h * w tokens, D channels, K classes, H = W tile side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.base.figures import Figure
from pipeline.base.intervals import Resampler, Units
from pipeline.base.types import Floats
from pipeline.measures.fidelity.embedding import Scale
from pipeline.measures.probes.probes import linear_head
from pipeline.measures.probes.scoring import Paired, share_kept, way_come
from pipeline.measures.split_figures import Dense, Overlap, Overlaps
from pipeline.sets.masks import IGNORE

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

MOST_TOKENS = 20_000
"""Tokens that a head is fitted on, evenly spread over the train tiles."""

Batches = Iterable[tuple[Mapping[str, Floats], NDArray[np.uint8]]]
"""({model: tokens (n, T, D)}, masks (n, H, W)), batch after batch."""


def token_labels(mask_NHW: NDArray[np.uint8], grid: tuple[int, int]) -> NDArray[np.uint8]:
    """The class of most of the pixels under each token, (N, T); of equals the lowest; IGNORE where most is ignored.

    A pixel belongs to the token under whose part of the side its centre lies, so the side need not divide evenly.
    """
    (n, height, width), (h, w) = mask_NHW.shape, grid
    row_H = ((np.arange(height) + 0.5) * h / height).astype(np.int64)
    column_W = ((np.arange(width) + 0.5) * w / width).astype(np.int64)
    token_HW = row_H[:, None] * w + column_W[None, :]
    values = np.unique(mask_NHW)
    counts = np.stack([_per_token(mask_NHW == value, token_HW, h * w) for value in values])
    label_NT: NDArray[np.uint8] = values[counts.argmax(axis=0)].reshape(n, h * w)
    return label_NT


def _per_token(is_NHW: NDArray[np.bool_], token_HW: NDArray[np.int64], tokens: int) -> NDArray[np.float64]:
    return np.stack([np.bincount(token_HW.ravel(), is_HW.ravel(), tokens) for is_HW in is_NHW])


@dataclass(frozen=True)
class TokenSample:
    """Tokens of each model to fit heads on, (M, D), and their labels (M,)."""

    features: Mapping[str, Floats]
    label_M: NDArray[np.uint8]


def gather(batches: Batches, grid: tuple[int, int], tiles: int) -> TokenSample:
    """At most `MOST_TOKENS` labelled tokens, as many of each of the `tiles` tiles, evenly spread over it."""
    tokens = grid[0] * grid[1]
    each = max(1, min(tokens, MOST_TOKENS // max(tiles, 1)))
    parts: dict[str, list[Floats]] = {}
    labels: list[NDArray[np.uint8]] = []
    for features, mask_nHW in batches:
        # Another offset in every tile, or the same few places of the tile would stand for all.
        first = sum(len(part) for part in labels)
        rows = np.arange(len(mask_nHW))[:, None]
        at_nE = (np.arange(each)[None, :] * tokens // each + (first + rows) * 7) % tokens
        label_nE = token_labels(mask_nHW, grid)[rows, at_nE]
        labels.append(label_nE)
        for name, x_nTD in features.items():
            parts.setdefault(name, []).append(x_nTD[rows, at_nE][label_nE != IGNORE])
    label_M = np.concatenate([part.ravel() for part in labels])
    return TokenSample({name: np.concatenate(x) for name, x in parts.items()}, label_M[label_M != IGNORE])


@dataclass
class _Tally:
    """Pixels of each image and class: intersection, prediction, truth, each (images, K)."""

    images: int
    classes: int
    counts: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def add(self, name: str, image: int, found_HW: NDArray[np.uint8], mask_HW: NDArray[np.uint8]) -> None:
        count_3IK = self.counts.setdefault(name, np.zeros((3, self.images, self.classes)))
        for k in range(self.classes):
            is_found, is_true = (found_HW == k) & (mask_HW != IGNORE), mask_HW == k
            count_3IK[:, image, k] += ((is_found & is_true).sum(), is_found.sum(), is_true.sum())

    @property
    def truth_IK(self) -> NDArray[np.float64]:  # noqa: N802
        """What every model is compared with."""
        truth_IK: NDArray[np.float64] = next(iter(self.counts.values()))[2]
        return truth_IK


def overlap(count_3K: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(mIoU, mean Dice) from intersection, prediction and truth (…, 3, K), over the classes that occur in either."""
    both, found, truth = (count_3K[..., i, :] for i in range(3))
    size = found + truth
    there = size > 0
    iou = np.where(there, both / np.maximum(size - both, 1), 0).sum(-1) / np.maximum(there.sum(-1), 1)
    dice = np.where(there, 2 * both / np.maximum(size, 1), 0).sum(-1) / np.maximum(there.sum(-1), 1)
    return iou, dice


def dense_probe(
    train: TokenSample,
    held: Batches,
    units: Units,
    grid: tuple[int, int],
    values: Sequence[int],
    resamples: int,
    seed: int,
) -> Dense:
    """Fit a head a model, answer the held-out tiles batch by batch, and compare with their masks.

    Masks hold class indices 0 … K - 1 of `values`; a class that no train token has cannot be answered, and counts with
    its overlap of 0. The majority fills every pixel with the class that most train tokens have.
    """
    scales = {name: Scale.of(x_MD) for name, x_MD in train.features.items()}
    heads = {name: linear_head(scales[name](x_MD), train.label_M) for name, x_MD in train.features.items()}
    majority = np.bincount(train.label_M).argmax()
    names, image = np.unique(np.asarray(units.names, dtype=np.str_), return_inverse=True)
    tally, done = _Tally(len(names), len(values)), 0
    for features, mask_nHW in held:
        answers = {name: _pixels(heads[name], scales[name](x), grid, mask_nHW.shape[1]) for name, x in features.items()}
        # The teacher's head on others' tokens; on its own it has answered already.
        answers |= {
            _moved(name): _pixels(heads["teacher"], scales["teacher"](x), grid, mask_nHW.shape[1])
            for name, x in features.items()
            if name != "teacher"
        }
        answers["majority"] = np.full_like(mask_nHW, majority)
        for name, found_nHW in answers.items():
            for i, (found_HW, mask_HW) in enumerate(zip(found_nHW, mask_nHW, strict=True)):
                tally.add(name, image[done + i], found_HW, mask_HW)
        done += len(mask_nHW)
    images = Units([f"{i:09}" for i in range(len(names))], units.unit)
    resampler = Resampler(images, resamples, seed, tally.truth_IK)
    found = {name: _Answers.of(count_3IK, resampler, done) for name, count_3IK in tally.counts.items()}
    return Dense(
        linear=_table(found, resampler, "student", "untrained"),
        head_transfer=_table(found, resampler, _moved("student"), _moved("untrained")),
        values=tuple(values),
        images=len(names),
        n_train=len(train.label_M),
    )


def _moved(name: str) -> str:
    """What a model's tokens under the teacher's head are tallied as."""
    return name if name == "teacher" else f"{name}, teacher's head"


def _pixels(
    head: LogisticRegression, x_nTD: NDArray[np.float64], grid: tuple[int, int], side_px: int
) -> NDArray[np.uint8]:
    """The class of every pixel, (n, H, W): logits a token, upsampled bilinearly, the largest wins."""
    n, _, width = x_nTD.shape
    logit = head.decision_function(x_nTD.reshape(-1, width))
    # scikit-learn gives two classes one logit.
    logit_MK = np.stack([-logit / 2, logit / 2], axis=1) if logit.ndim == 1 else logit
    logit_nKhw = torch.from_numpy(logit_MK.reshape(n, *grid, -1)).permute(0, 3, 1, 2)
    at_nHW = F.interpolate(logit_nKhw, size=(side_px, side_px), mode="bilinear").argmax(1).numpy()
    found_nHW: NDArray[np.uint8] = head.classes_[at_nHW].astype(np.uint8)
    return found_nHW


@dataclass(frozen=True)
class _Answers:
    """Overlaps of one model's answers for n tiles, and their values in every resample of images (B,)."""

    miou: float
    dice: float
    miou_B: NDArray[np.float64]
    dice_B: NDArray[np.float64]
    n: int

    @classmethod
    def of(cls, count_3IK: NDArray[np.float64], resampler: Resampler, n: int) -> _Answers:
        miou, dice = overlap(count_3IK.sum(axis=1))
        per_image = count_3IK.transpose(1, 0, 2)
        drawn = resampler.sums(per_image.reshape(len(per_image), -1)).reshape(-1, *per_image.shape[1:])
        return cls(float(miou), float(dice), *overlap(drawn), n)

    def figures(self, resampler: Resampler, floors: Sequence[tuple[str, _Answers]] = ()) -> Overlap:
        of_miou, of_dice = {name: floor.miou for name, floor in floors}, {name: floor.dice for name, floor in floors}
        return Overlap(
            miou=Figure(
                value=self.miou, interval=resampler.interval(self.miou, self.miou_B, 0, 1), floors=of_miou, n=self.n
            ),
            dice=Figure(
                value=self.dice, interval=resampler.interval(self.dice, self.dice_B, 0, 1), floors=of_dice, n=self.n
            ),
        )


def _table(found: Mapping[str, _Answers], resampler: Resampler, student: str, untrained: str) -> Overlaps:
    """Of the teacher, and of what the student's and its twin's answers are tallied as."""
    teacher, other = found["teacher"], found[student]
    floors = [("untrained", found[untrained]), ("majority", found["majority"])]
    three = {"teacher": teacher, "student": other, "untrained": found[untrained]}
    paired = Paired(
        {name: one.miou for name, one in three.items()}, {name: one.miou_B for name, one in three.items()}, other.n
    )
    return Overlaps(
        teacher=teacher.figures(resampler, floors),
        student=other.figures(resampler, floors),
        untrained=found[untrained].figures(resampler),
        majority=found["majority"].figures(resampler),
        retention=share_kept(paired, {name: floor.miou for name, floor in floors}, resampler),
        way=way_come(paired, resampler),
    )
