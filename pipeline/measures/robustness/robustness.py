"""How far an embedding moves when its image changes and its tissue does not: teacher and student on the same changes.

Agreement is the cosine between the embedding of a tile and that of its changed self, both centred and standardised with
the model's own embeddings of the unchanged tiles: 1 has not moved at all, 0 is as far as another tile is. A student may
be steadier than its teacher; `difference` (student - teacher) says so, with a paired interval.
Shapes: N tiles, D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import EvaluationError
from pipeline.base.figures import Figure
from pipeline.base.intervals import Resampler
from pipeline.base.progress import Advance
from pipeline.base.types import Floats
from pipeline.measures.fidelity.embedding import Scale, cosine
from pipeline.measures.robustness.perturbations import CHANGES, Image_HWC
from pipeline.measures.robustness.results import Robustness, Steadiness

MIN_TILES = 8
SAME = 0.99
"""Least mean cosine between the live teacher's answers and the cached ones, standardised by the cached."""

Answer = Callable[[Sequence[Image_HWC]], Floats]
"""Images as they are stored, of any size, to (N, D)."""


def robustness(
    images: Sequence[Image_HWC],
    models: Mapping[str, Answer],
    resampler: Resampler,
    seed: int,
    advance: Advance,
) -> Robustness:
    """By change, of the models `teacher` and `student`.

    A change that comes in several forms (two stains, three turns) is the mean over them.
    """
    clean = {name: answer(images) for name, answer in models.items()}
    scales = {name: Scale.of(x_ND) for name, x_ND in clean.items()}
    advance(len(images))
    found = {}
    for kind, changes in CHANGES.items():
        agreement: dict[str, NDArray[np.float64]] = {name: np.zeros(len(images)) for name in models}
        for change in changes:
            changed = [change(rgb_HWC, seed + i) for i, rgb_HWC in enumerate(images)]
            for name, answer in models.items():
                scale = scales[name]
                agreement[name] += cosine(scale(clean[name]), scale(answer(changed))) / len(changes)
            advance(len(images))
        found[kind] = Steadiness(
            teacher=_mean(agreement["teacher"], resampler),
            student=_mean(agreement["student"], resampler),
            difference=_mean(agreement["student"] - agreement["teacher"], resampler),
        )
    return Robustness(changes=found)


def _mean(value_N: NDArray[np.float64], resampler: Resampler) -> Figure:
    return Figure(value=float(value_N.mean()), interval=resampler.mean_interval(value_N), n=len(value_N))


def check_same_teacher(live_nD: Floats, cached_ND: Floats) -> None:
    """Raise `EvaluationError` where the live teacher does not answer as the cache does; live are the first n of N.

    Standardised, since raw cosine would take any encoder with a long mean vector for the teacher.
    """
    scale = Scale.of(cached_ND)
    found = float(cosine(scale(live_nD), scale(cached_ND[: len(live_nD)])).mean())
    if found < SAME:
        what = f"the teacher answers otherwise than the cache (mean standardised cosine {found:.3f})"
        raise EvaluationError(what, where="robustness", fix="set `tokens` as it was when the tokens were made")
