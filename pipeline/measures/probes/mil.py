"""Slide labels by attention-based multiple-instance learning: one label a slide, from the embeddings of its tiles.

Gated attention after Ilse, Tomczak & Welling 2018 (arXiv:1802.04712), eq. 9: tile n of a slide weighs
a_n = softmax_n(w . (tanh(V h_n) * sigmoid(U h_n))), and the slide's label is a linear layer on sum_n a_n h_n. Inner
width 128, a slide a step, AdamW, cosine schedule to 0, no early stopping and no choice of epoch, so that no held-out
slide takes part in training. Embeddings are standardised with the train tiles' statistics of their own model.

`head_transfer` is the drop-in test: the teacher's head, unchanged, on the student's tiles, standardised with the
teacher's statistics as an existing head would do.

Initial weights and order depend on the seed and not on the model, so that equal features give equal answers.
Shapes: n tiles of a slide, D channels, K classes, S slides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.base.figures import NotMeasured
from pipeline.base.fitting import Fitting
from pipeline.base.fitting import fit as fit_weights
from pipeline.base.intervals import Resampler, Units
from pipeline.base.types import Floats
from pipeline.measures.fidelity.embedding import Scale
from pipeline.measures.probes.scoring import Scorer
from pipeline.measures.split_figures import SlideLabels

INNER, LR, WEIGHT_DECAY = 128, 1e-3, 1e-2
FEW_SLIDES = 10
"""Below so many held-out slides one slide moves the figure by a tenth or more; a warning says so."""


@dataclass(frozen=True)
class Bags:
    """Labels of some slides, what intervals draw, and of each model their tiles' embeddings: {model: [(n, D)]}."""

    labels: Sequence[str]
    units: Units
    features: Mapping[str, Sequence[Floats]]


class GatedAttention(nn.Module):
    """(n, D) embeddings of one slide to K logits."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(width, INNER), nn.Linear(width, INNER)
        self.weigh, self.head = nn.Linear(INNER, 1), nn.Linear(width, classes)

    def forward(self, tile_nD: Tensor) -> Tensor:
        weight_n1 = torch.softmax(self.weigh(torch.tanh(self.value(tile_nD)) * torch.sigmoid(self.gate(tile_nD))), 0)
        logit_K: Tensor = self.head((weight_n1.T @ tile_nD)[0])
        return logit_K


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


def slide_probe(train: Bags, held: Bags, epochs: int, resamples: int, seed: int) -> SlideLabels:
    """The figures of each model over the held-out slides, as `probe` gives them over tiles.

    Held-out slides of a class that no train slide has are left out.
    """
    known = sorted(set(train.labels))
    keep = [i for i, label in enumerate(held.labels) if label in known]
    labels = [held.labels[i] for i in keep]
    bags = {name: [slides[i] for i in keep] for name, slides in held.features.items()}
    resampler = Resampler(held.units.take(np.array(keep, dtype=np.int64)), resamples, seed)
    score = Scorer(labels, train.labels, resampler)
    heads = {name: fit(slides, train.labels, known, epochs, seed) for name, slides in train.features.items()}
    return SlideLabels(
        attention=score.table({name: score.right(head(bags[name])) for name, head in heads.items()}),
        head_transfer=score.table({name: score.right(heads["teacher"](slides)) for name, slides in bags.items()}),
        chance=1 / len(known),
        classes=dict(sorted(Counter(labels).items())),
        n_train=len(train.labels),
    )


@dataclass(frozen=True)
class SlideHead:
    """A trained head with its train tiles' statistics: [(n, D)] of some slides to their labels (S,)."""

    scale: Scale
    model: GatedAttention
    classes: Sequence[str]

    @torch.inference_mode()
    def __call__(self, bags: Sequence[Floats]) -> NDArray[np.str_]:
        found = [int(self.model(_tensor(self.scale, bag)).argmax()) for bag in bags]
        return np.asarray([self.classes[i] for i in found], dtype=np.str_)


def fit(bags: Sequence[Floats], labels: Sequence[str], classes: Sequence[str], epochs: int, seed: int) -> SlideHead:
    """Train on some slides. Leaves torch's own random state as it was."""
    scale = Scale.of(np.concatenate(bags))
    train = [_tensor(scale, bag) for bag in bags]
    truth = torch.tensor([classes.index(label) for label in labels])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GatedAttention(train[0].shape[1], len(classes))
        losses = (
            nn.functional.cross_entropy(model(train[i])[None], truth[i : i + 1])
            for _ in range(epochs)
            for i in torch.randperm(len(train)).tolist()
        )
        how = Fitting(steps=epochs * len(train), lr=LR, weight_decay=WEIGHT_DECAY, decay_all=True)
        fit_weights(model, losses, how)
    return SlideHead(scale, model, classes)


def _tensor(scale: Scale, tile_nD: Floats) -> Tensor:
    return torch.from_numpy(scale(tile_nD).astype(np.float32))
