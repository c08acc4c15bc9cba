"""A training made as the stage makes it, whose parts a test may look at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from made.cache import Cache
from made.corpus import TILE_PX, tiny
from torch import nn

from pipeline.base.kept import Kept
from pipeline.corpus.corpus import open_corpus
from pipeline.corpus.targets import cls_standardiser
from pipeline.inputs.slide_stains import slide_stains
from pipeline.student.device import make_accelerator
from pipeline.student.loop import Training
from pipeline.student.losses import Losses
from pipeline.student.model import Head, add_heads, build


def make_training(cache: Cache, folder: Path, kind: type[Training] = Training, **changed: Any) -> Training:
    """Of `tiny(**changed)`, dense where the patch objective is on, with its checkpoints in `folder`."""
    params = tiny(**changed)
    corpus, accelerator = open_corpus(cache.tiles, cache.tokens, cache.store, params.train_fraction), make_accelerator()
    if params.augment.stains_as_others:
        corpus = replace(corpus, stain_L2S=slide_stains(corpus, cache.tiles, Kept(cache.store, "student")))
    distiller, _ = build(
        model=params.model,
        width=corpus.width,
        input_px=params.input_px or TILE_PX,
        adapter=params.adapter if params.objective.patch > 0 else None,
        grid=corpus.grid,
        seed=params.seed,
        model_kwargs=params.model_kwargs,
    )
    heads = [Head(one.width, one.grid, params.teachers.dense == "all") for one in corpus.also]
    if heads:
        add_heads(distiller, heads, params.adapter, params.seed)
        if params.teachers.balance == "uncertainty":
            distiller.log_variance = nn.Parameter(torch.zeros(1 + len(heads)))
    distiller.nest(params.sizes, params.seed)
    cls = [cls_standardiser(one, params.standardise) for one in corpus.each]
    losses = Losses(params, corpus, cls, accelerator.device)
    folder.mkdir(parents=True, exist_ok=True)
    return kind(distiller, corpus, params, losses=losses, folder=folder, accelerator=accelerator)


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """All that is made and trained within is float64.

    Training amplifies rounding, which differs between processors, libraries and numbers of processes: in fp32 1e-7 may
    grow to a percent within twenty steps, in float64 1e-16 stays below 1e-9. Not so for a model that computes in fp32
    whatever it is given, as EfficientViT's attention in timm does.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
