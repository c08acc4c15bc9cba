"""The dense probe of a data set with masks: tokens of its train split, then each held-out split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pipeline.base.figures import NotMeasured
from pipeline.base.items import TRAIN
from pipeline.base.kept import Basis
from pipeline.base.partials import file_sha256
from pipeline.base.progress import Advance, track
from pipeline.base.types import Floats
from pipeline.evaluate import selection
from pipeline.evaluate.answers import features
from pipeline.evaluate.comparison import unmeasurable_patch
from pipeline.evaluate.run import Run
from pipeline.evaluate.selection import Body, Sample
from pipeline.evaluate.trust.cautions import of_weak_teacher
from pipeline.measures.probes.dense import TokenSample, dense_probe, gather
from pipeline.measures.split_figures import Dense
from pipeline.sets.listing import Picture
from pipeline.sets.masks import Masks, mask_values
from pipeline.tokens.item.reader import TokenReader


@dataclass(frozen=True)
class _Tokens:
    """Reads some tiles of the set: every model's tokens, and masks in the classes of the train masks."""

    run: Run
    masks: Masks
    tile_px: int
    advance: Advance

    def chosen(self, samples: Sequence[Sample]) -> list[Sample]:
        """The tiles that are looked at."""
        return selection.spread(samples, self.run.params.max_dense_tiles)

    def batches(
        self, samples: Sequence[Sample], pictures: Sequence[Picture]
    ) -> Iterator[tuple[Mapping[str, Floats], NDArray[np.uint8]]]:
        """({model: (n, T, D)}, masks (n, H, W)), batch after batch."""
        mask_NHW = self.masks.of_tiles(samples[0].tiles, samples[0].rows, pictures, self.tile_px)
        done, size = 0, self.run.params.batch_size
        for answers in features.dense_features(self.run.models.dense, samples, size, self.advance):
            n = len(answers["teacher"])
            yield answers, mask_NHW[done : done + n]
            done += n


Told = tuple[dict[str, Dense | NotMeasured], list[str]]
"""Of every held-out split, and what to know of it."""
TOLD = TypeAdapter(Told)


def dense_of_masks(run: Run, body: Body, listed: Mapping[str, Sequence[Picture]], tile_px: int) -> Told:
    """Of every held-out split, kept in the store; `listed` are the pictures of each split."""
    missing = unmeasurable_patch(run.models, body.train)
    if missing:
        return dict.fromkeys(body.held, missing), []
    basis: Basis = {
        **{f"{name} tokens": run.models.dense_told(name) for name in run.models.dense},
        "tiles": {split: run.tiles(samples) for split, samples in {TRAIN: body.train, **body.held}.items()},
        "masks": {split: [_digest(picture) for picture in pictures] for split, pictures in listed.items()},
    }
    slot = run.slot("dense probe", TOLD, ("max_dense_tiles", "bootstrap", "seed"), basis)
    return slot.find() or slot.keep(_dense_of_masks(run, body, listed, tile_px))


def _digest(picture: Picture) -> str:
    assert picture.mask is not None
    return file_sha256(picture.mask)[:32]


def _dense_of_masks(run: Run, body: Body, listed: Mapping[str, Sequence[Picture]], tile_px: int) -> Told:
    most = run.params.max_dense_tiles
    total = sum(min(most, selection.count(samples)) for samples in (body.train, *body.held.values()))
    masks, grid = Masks(listed[TRAIN]), TokenReader(body.train[0].tokens).grid
    with track("dense probe", total, "tiles") as advance:
        tokens = _Tokens(run, masks, tile_px, advance)
        chosen = tokens.chosen(body.train)
        learnt = gather(tokens.batches(chosen, listed[TRAIN]), grid, selection.count(chosen))
        learnable = set(learnt.label_M.tolist())
        if len(learnable) < 2:
            one_class = NotMeasured(why="the train masks' tokens are of one class only")
            return dict.fromkeys(body.held, one_class), []
        cautions = []
        rare = [value for k, value in enumerate(masks.values) if k not in learnable]
        if rare:
            what = f"no train token is mostly of the mask values {_listed(rare)}; no model can answer them"
            cautions.append(f"dense probe: {what}, and their overlap is 0")
        found: dict[str, Dense | NotMeasured] = {}
        for split, samples in body.held.items():
            found[split], told = _of_split(split, tokens, samples, listed[split], learnt)
            cautions += told
    return found, cautions


def _of_split(
    split: str, tokens: _Tokens, samples: Sequence[Sample], pictures: Sequence[Picture], learnt: TokenSample
) -> tuple[Dense | NotMeasured, list[str]]:
    known, there, params = tokens.masks.values, mask_values(pictures), tokens.run.params
    strange = sorted(there.difference(known))
    if not there.intersection(known):
        return NotMeasured(why=f"no train mask has its values ({_listed(strange)})"), []
    cautions = []
    if strange:
        what = f"no train mask has the mask values {_listed(strange)}; their pixels were left out"
        cautions.append(f"dense probe of {split}: {what}")
    chosen = tokens.chosen(samples)
    units, grid = selection.units_of_tiles(chosen), TokenReader(chosen[0].tokens).grid
    answers = tokens.batches(chosen, pictures)
    found = dense_probe(learnt, answers, units, grid, known, params.bootstrap, params.seed)
    return found, [*cautions, *of_weak_teacher(f"dense probe of {split}", found.linear.teacher.miou)]


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
