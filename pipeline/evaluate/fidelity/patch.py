"""How closely the student's dense tokens follow the teacher's, through the exported adapter.

Tokens are compared as they are cached: centred and standardised by the frozen (mu, sigma) of the teacher's patch
tokens, which come from train tiles. A constant prediction scores 0 on average, the teacher itself 1 (up to the cache's
own rounding, 4e-5 with int8). Shapes: n tiles of a batch, T tokens a tile, D channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.intervals import Resampler
from pipeline.base.types import Floats
from pipeline.evaluate.fidelity.embedding import cosine

MOST_TOKENS = 100_000
"""Tokens behind the interval of the 5th percentile, evenly spread; the percentile itself takes all."""


def patch_fidelity(
    batches: Iterable[tuple[Floats, Floats]],
    mu_D: Floats,
    sigma_D: Floats,
    slide_N: Sequence[str],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """The figures of one held-out split, from batches of (teacher_nTD, student_nTD), standardised.

    `cosine` (mean over tokens, with its interval over slides or tiles), `cosine_p5` (5th percentile over tokens),
    `cosine_raw` and `cosine_raw_constant` (of the tokens as they are, and of the teacher's mean token), `n`, `tokens`,
    `by`, `slides` {slide: {cosine, cosine_p5, n}}.
    """
    rows: list[NDArray[np.float32]] = []
    raw, constant = [], []
    for teacher_nTD, student_nTD in batches:
        rows.append(cosine(teacher_nTD, student_nTD).astype(np.float32))
        truth_nTD = teacher_nTD * sigma_D + mu_D
        raw.append(cosine(truth_nTD, student_nTD * sigma_D + mu_D).mean(axis=1))
        constant.append(cosine(truth_nTD, mu_D).mean(axis=1))
    cosine_NT = np.concatenate(rows)
    n, tokens = cosine_NT.shape
    resampler, names_N = Resampler(slide_N, resamples, seed), np.asarray(slide_N, dtype=np.str_)
    token_M = np.unique(np.linspace(0, n * tokens - 1, min(MOST_TOKENS, n * tokens)).astype(np.int64))
    slides = {}
    for slide in sorted(set(slide_N)):
        of_slide = cosine_NT[names_N == slide]
        slides[slide] = {
            "cosine": float(of_slide.mean(dtype=np.float64)),
            "cosine_p5": float(np.percentile(of_slide, 5)),
            "n": len(of_slide),
        }
    return {
        "cosine": float(cosine_NT.mean(dtype=np.float64)),
        "cosine_interval": resampler.mean_interval(cosine_NT.mean(axis=1, dtype=np.float64)),
        "cosine_p5": float(np.percentile(cosine_NT, 5)),
        "cosine_p5_interval": resampler.percentile_interval(cosine_NT.ravel()[token_M], token_M // tokens, 5),
        "cosine_raw": float(np.concatenate(raw).mean()),
        "cosine_raw_constant": float(np.concatenate(constant).mean()),
        "n": n,
        "tokens": n * tokens,
        "by": resampler.by,
        "slides": slides,
    }
