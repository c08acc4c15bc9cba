"""All that is done to a batch between the loader and the model, in its order: changed, then mixed."""

from __future__ import annotations

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.loader import Batch, Loader
from pipeline.inputs.changes import Changes
from pipeline.inputs.draws import Draws
from pipeline.inputs.mixing import Mixing
from pipeline.params.student import StudentParams


class Inputs:
    """Of one training; without `student.augment` and `student.mix` a batch stays what the loader gave."""

    def __init__(self, params: StudentParams, corpus: Corpus, loader: Loader) -> None:
        draws = Draws.of(loader, params.seed)
        blocks = tuple(one.rotation_block if one.dense else 1 for one in corpus.each)
        grids = tuple(one.grid for one in corpus.each)
        mixes = params.mix.kind != "none"
        self.changes = Changes(params.augment, draws, corpus.stain_L2S) if params.augment.changes else None
        self.mixing = Mixing(params.mix, draws, grids, blocks) if mixes else None

    def __call__(self, step: int, batch: Batch) -> Batch:
        """What the model is shown at that step and what it is asked for; `batch` lies on the device."""
        if self.changes is not None:
            batch = self.changes(step, batch)
        return batch if self.mixing is None else self.mixing(step, batch)
