"""The student's architecture trained from random weights on a few labelled tiles alone: distillation's rival.

A weak rival would flatter the distillation, so the recipe is the usual one for training on little, and of those tried
the best for the rival on held-out tiles (docs/benchmarks.md): cross-entropy on the labels as they are, AdamW with a
warm-up and a cosine, gradients clipped at norm 1, and at every pass each tile mirrored and turned anew by the code that
makes the teacher's views (`tokens.augment`). That code can crop and stain too; in as many steps as a CPU has time for
that left the net short of its own train tiles and scored lower on `test`, so it is not done. Every batch is full,
whatever the number of tiles, so that batch norm never sees a handful; its statistics are measured at the end, with the
last weights, over views of the train tiles.

Shapes: N tiles, H = W = stored side, S = the model's input side, P fields of a view, T tiles in all steps together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from pipeline.base.fitting import Fitting, fit
from pipeline.base.progress import Advance
from pipeline.params.tokens import AugmentParams, TokensParams
from pipeline.student.exported import Encoder
from pipeline.views import view_fields, view_of_tile


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How it is trained; `steps` is `evaluate.label_steps`, the defaults are what every figure is made with."""

    steps: int
    batch_size: int = 32
    lr: float = 3e-3
    weight_decay: float = 0.05
    warmup_steps: int = 20
    smallest_crop: float = 1.0
    stain_sigma: float = 0.0
    bn_batches: int = 8

    @property
    def tiles(self) -> int:
        """Tiles that one training looks at."""
        return (self.steps + self.bn_batches) * self.batch_size


def train_from_labels(
    model: nn.Module,
    images: Sequence[NDArray[np.uint8]],
    class_N: NDArray[np.int64],
    seed: int,
    recipe: Recipe,
    advance: Advance,
) -> float:
    """Train `model`, a classifier with fresh weights, in place on N square tiles; the mean loss of the last tenth.

    Tiles are (H, W, 3) uint8 and each is seen about equally often. Leaves torch's own random state as it was.
    """
    encoder = Encoder(model)
    placed = encoder.model.requires_grad_(True).train()
    how = Fitting(
        steps=recipe.steps,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        warmup_steps=recipe.warmup_steps,
        warmup_lr=recipe.lr / recipe.warmup_steps,
        lr_min=0.01 * recipe.lr,
        clip_norm=1.0,
    )
    loss_of = nn.CrossEntropyLoss()
    label_N = torch.from_numpy(class_N).to(encoder.device)
    batches = _batches(images, encoder, seed, recipe)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        training = (
            loss_of(placed(image_NCHW), label_N[chosen]) for image_NCHW, chosen in islice(batches, recipe.steps)
        )
        losses = fit(placed, training, how, lambda loss: advance(recipe.batch_size, note=f"loss {loss:.3f}"))
        update_bn((image_NCHW for image_NCHW, _ in batches), placed)
    model.eval().requires_grad_(False)
    return float(np.mean(losses[-max(1, recipe.steps // 10) :]))


def _batches(
    images: Sequence[NDArray[np.uint8]], encoder: Encoder, seed: int, recipe: Recipe
) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
    """Normalised (batch, 3, S, S) and which tiles they are; passes over all tiles, one running into the next."""
    n, random = len(images), np.random.default_rng(seed)
    augment = AugmentParams(views=1, crop_side=(recipe.smallest_crop, 1.0), stain_sigma=recipe.stain_sigma, seed=seed)
    params = TokensParams(augment=augment)
    passes = range(-(-recipe.tiles // n))
    index_T = np.concatenate([random.permutation(n) for _ in passes])
    fields_TP = np.concatenate([view_fields(params, f"pass {i}", range(n))[:, -1] for i in passes])
    for start in range(0, recipe.tiles, recipe.batch_size):
        chosen = index_T[start : start + recipe.batch_size]
        fields = fields_TP[start : start + recipe.batch_size]
        views = [view_of_tile(images[i], fields_P, encoder.side_px) for i, fields_P in zip(chosen, fields, strict=True)]
        yield encoder.normalise(np.stack(views)), chosen
