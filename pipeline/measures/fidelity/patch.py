"""How closely the student's dense tokens follow the teacher's, through the exported adapter.

Tokens are compared as they are cached: centred and standardised by the frozen (mu, sigma) of the teacher's patch
tokens, which come from train tiles. A constant prediction scores 0 on average, the teacher itself 1 (up to the cache's
own rounding, 4e-5 with int8). Shapes: n tiles of a batch, T tokens a tile, D channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.base.figures import Figure
from pipeline.base.intervals import Resampler
from pipeline.base.types import Floats
from pipeline.measures.fidelity.embedding import SlideCosine, by_slide, cosine
from pipeline.measures.split_figures import Likeness

MOST_TOKENS = 100_000
"""Tokens behind the interval of the 5th percentile, evenly spread; the percentile itself takes all."""


def patch_fidelity(
    batches: Iterable[tuple[Floats, Floats]],
    mu_D: Floats,
    sigma_D: Floats,
    slide_N: Sequence[str],
    resampler: Resampler,
) -> tuple[Likeness, dict[str, SlideCosine]]:
    """The figures of one held-out split over its tokens, and of each of its slides.

    Batches are of (teacher_nTD, student_nTD), standardised; the raw cosine is of the tokens as they are, beside that of
    the teacher's mean token (`constant`).
    """
    rows: list[NDArray[np.float32]] = []
    raw, constant = [], []
    for teacher_nTD, student_nTD in batches:
        rows.append(cosine(teacher_nTD, student_nTD).astype(np.float32))
        truth_nTD = teacher_nTD * sigma_D + mu_D
        raw.append(cosine(truth_nTD, student_nTD * sigma_D + mu_D).mean(axis=1))
        constant.append(cosine(truth_nTD, mu_D).mean(axis=1))
    cosine_NT = np.concatenate(rows)
    n, T = cosine_NT.shape
    token_M = np.unique(np.linspace(0, n * T - 1, min(MOST_TOKENS, n * T)).astype(np.int64))
    likeness = Likeness(
        cosine=Figure(
            value=float(cosine_NT.mean(dtype=np.float64)),
            interval=resampler.mean_interval(cosine_NT.mean(axis=1, dtype=np.float64), -1, 1),
            n=n * T,
        ),
        cosine_p5=Figure(
            value=float(np.percentile(cosine_NT, 5)),
            interval=resampler.percentile_interval(cosine_NT.ravel()[token_M], token_M // T, 5),
            n=n * T,
        ),
        raw=Figure(
            value=float(np.concatenate(raw).mean()),
            floors={"constant": float(np.concatenate(constant).mean())},
            n=n * T,
        ),
    )
    return likeness, by_slide(cosine_NT, slide_N)
