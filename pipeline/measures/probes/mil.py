"""Slide labels by attention-based multiple-instance learning: one label a slide, from the embeddings of its tiles.

Gated attention after Ilse, Tomczak & Welling 2018 (arXiv:1802.04712), eq. 9: tile n of a slide weighs
a_n = softmax_n(w . (tanh(V h_n) * sigmoid(U h_n))), and the slide's label is a linear layer on sum_n a_n h_n. Inner
width 128, AdamW, cosine schedule to 0, no early stopping and no choice of epoch, so that no held-out slide takes part
in training. A step is of one slide up to 200 train slides, of a hundredth of them up to `MOST_AT_ONCE` beyond; of many
slides there are fewer passes (`passes`). A head is fitted once for all held-out splits. Embeddings are standardised
with the train tiles' statistics of their own model.

`head_transfer` is the drop-in test: the teacher's head, unchanged, on the student's tiles, standardised with the
teacher's statistics as an existing head would do.

Initial weights and order depend on the seed and not on the model, so that equal features give equal answers.
Shapes: n tiles of a slide, M tiles of all slides of a step, D channels, K classes, S slides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.base.figures import NotMeasured
from pipeline.base.fitting import Fitting
from pipeline.base.fitting import fit as fit_weights
from pipeline.base.intervals import Resampler, Units
from pipeline.base.progress import Advance
from pipeline.base.types import Floats
from pipeline.measures.fidelity.embedding import Scale
from pipeline.measures.probes.scoring import Scorer
from pipeline.measures.split_figures import SlideLabels

INNER, LR, WEIGHT_DECAY = 128, 1e-3, 1e-2
MOST_AT_ONCE = 16
"""Slides of a step."""
MOST_SEEN, LEAST_PASSES = 50_000, 2
"""Slides that all passes see together, where that many passes are left."""
TILES_AT_ONCE = 8192
"""Of an answer."""
FIT_VERSION = 2
"""Of what a head is: to be raised with any change after which a figure of slide labels alone differs."""
FEW_SLIDES = 10
"""Below so many held-out slides one slide moves the figure by a tenth or more; a warning says so."""


@dataclass(frozen=True)
class Bags:
    """Some slides: labels, what intervals draw, tiles of each, and each model's features of all tiles: {model: (N, D)}.

    Features are asked for one model at a time, so that they need not be in memory together.
    """

    labels: Sequence[str]
    units: Units
    sizes: Sequence[int]
    features: Mapping[str, Floats]


class GatedAttention(nn.Module):
    """Embeddings of slides' tiles to the slides' logits."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(width, INNER), nn.Linear(width, INNER)
        self.weigh, self.head = nn.Linear(INNER, 1), nn.Linear(width, classes)

    def forward(self, tile_MD: Tensor, size_S: Tensor) -> Tensor:
        """Logits (S, K) of slides whose tiles lie end to end, `size_S` tiles each."""
        score_M = self.weigh(torch.tanh(self.value(tile_MD)) * torch.sigmoid(self.gate(tile_MD)))[:, 0]
        slide_M = torch.repeat_interleave(torch.arange(len(size_S)), size_S)
        top_S = torch.full((len(size_S),), -torch.inf).scatter_reduce(0, slide_M, score_M.detach(), "amax")
        weight_M = torch.exp(score_M - top_S[slide_M])
        sum_S = torch.zeros(len(size_S)).index_add(0, slide_M, weight_M)
        pooled_SD = torch.zeros(len(size_S), tile_MD.shape[1]).index_add(0, slide_M, weight_M[:, None] * tile_MD)
        logit_SK: Tensor = self.head(pooled_SD / sum_S[:, None])
        return logit_SK


def unmeasurable_slides(train: Sequence[str | None], held: Sequence[str | None]) -> NotMeasured | None:
    """Why slide labels cannot be learnt from these slides, or None."""
    classes = {label for label in train if label is not None}
    if not classes:
        return NotMeasured(why="no train slide has a label")
    if len(classes) < 2:
        return NotMeasured(why=f"the train slides have one class only ({next(iter(classes))})")
    if len({label for label in held if label in classes}) < 2:
        return NotMeasured(why="fewer than two of the train slides' classes occur in the held-out slides")
    return None


@dataclass(frozen=True, kw_only=True)
class How:
    """How heads are fitted and compared: passes over the train slides, resamples behind an interval, the seed."""

    epochs: int
    resamples: int
    seed: int


def slide_probes(train: Bags, held: Mapping[str, Bags], how: How, advance: Advance) -> dict[str, SlideLabels]:
    """The figures of each model over the held-out slides of each split, as `probe` gives them over tiles.

    Held-out slides of a class that no train slide has are left out. `advance` is told of every tile of
    every pass.
    """
    known = sorted(set(train.labels))
    own: dict[str, dict[str, NDArray[np.str_]]] = {split: {} for split in held}
    moved: dict[str, dict[str, NDArray[np.str_]]] = {split: {} for split in held}
    # The teacher first: its head is tried on the others.
    of_teacher: SlideHead | None = None
    for name in sorted(train.features, key=lambda name: name != "teacher"):
        head = fit(train.features[name], train.sizes, _classes(train.labels, known), how, advance)
        of_teacher = of_teacher or head
        for split, bags in held.items():
            tile_ND = bags.features[name]
            own[split][name] = np.asarray(known, dtype=np.str_)[head(tile_ND, bags.sizes)]
            moved[split][name] = np.asarray(known, dtype=np.str_)[of_teacher(tile_ND, bags.sizes)]
    return {split: _figures(train, held[split], own[split], moved[split], how) for split in held}


def _figures(
    train: Bags, held: Bags, own: Mapping[str, NDArray[np.str_]], moved: Mapping[str, NDArray[np.str_]], how: How
) -> SlideLabels:
    """From what each model's own head, and the teacher's, says of the held-out slides."""
    known = set(train.labels)
    keep = [i for i, label in enumerate(held.labels) if label in known]
    labels = [held.labels[i] for i in keep]
    resampler = Resampler(held.units.take(np.array(keep, dtype=np.int64)), how.resamples, how.seed)
    score = Scorer(labels, train.labels, resampler)
    return SlideLabels(
        attention=score.table({name: score.right(found_S[keep]) for name, found_S in own.items()}),
        head_transfer=score.table({name: score.right(found_S[keep]) for name, found_S in moved.items()}),
        chance=1 / len(known),
        classes=dict(sorted(Counter(labels).items())),
        n_train=len(train.labels),
    )


def _classes(labels: Sequence[str], known: Sequence[str]) -> NDArray[np.int64]:
    return np.searchsorted(np.asarray(known, dtype=np.str_), np.asarray(labels, dtype=np.str_)).astype(np.int64)


@dataclass(frozen=True)
class SlideHead:
    """A trained head with its train tiles' statistics: tiles (N, D) of slides of these sizes to their classes (S,)."""

    scale: Scale
    model: GatedAttention

    @torch.inference_mode()
    def __call__(self, tile_ND: Floats, sizes: Sequence[int]) -> NDArray[np.int64]:
        ends, found = np.cumsum([0, *sizes]), list[NDArray[np.int64]]()
        first = 0
        while first < len(sizes):
            last = max(first + 1, int(np.searchsorted(ends, ends[first] + TILES_AT_ONCE, side="right")) - 1)
            tile_MD = _tensor(self.scale, tile_ND[ends[first] : ends[last]])
            found.append(self.model(tile_MD, torch.tensor(sizes[first:last])).argmax(dim=1).numpy())
            first = last
        return np.concatenate(found)


def passes(slides: int, epochs: int) -> int:
    """Over so many train slides: all that are asked for, or as many as see `MOST_SEEN` slides, two at least."""
    return min(epochs, max(LEAST_PASSES, MOST_SEEN // max(slides, 1)))


def fit(tile_ND: Floats, sizes: Sequence[int], class_S: NDArray[np.int64], how: How, advance: Advance) -> SlideHead:
    """Train on slides whose tiles lie end to end. Leaves torch's own random state as it was."""
    scale, slides = Scale.of(tile_ND), len(sizes)
    train, size_S, truth_S = (
        torch.split(_tensor(scale, tile_ND), list(sizes)),
        torch.tensor(sizes),
        torch.from_numpy(class_S),
    )
    at_once = min(MOST_AT_ONCE, max(1, slides // 100))
    times = passes(slides, how.epochs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(how.seed)
        model = GatedAttention(tile_ND.shape[1], int(class_S.max()) + 1)

        def losses() -> Iterator[Tensor]:
            for _ in range(times):
                for some in torch.split(torch.randperm(slides), at_once):
                    logit_SK = model(torch.cat([train[i] for i in some.tolist()]), size_S[some])
                    yield nn.functional.cross_entropy(logit_SK, truth_S[some])
                    advance(int(size_S[some].sum()), note="slide labels")

        how_fit = Fitting(steps=times * -(-slides // at_once), lr=LR, weight_decay=WEIGHT_DECAY, decay_all=True)
        fit_weights(model, losses(), how_fit)
    return SlideHead(scale, model)


def _tensor(scale: Scale, tile_ND: Floats) -> Tensor:
    """Standardised, in float32; in portions, since that is worked out in float64."""
    found_ND = np.empty(tile_ND.shape, np.float32)
    for start in range(0, len(tile_ND), TILES_AT_ONCE):
        found_ND[start : start + TILES_AT_ONCE] = scale(tile_ND[start : start + TILES_AT_ONCE])
    return torch.from_numpy(found_ND)
