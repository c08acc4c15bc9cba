"""How closely the student's embedding follows the teacher's.

Raw cosine flatters: embeddings of one encoder share a large common vector, so that predicting the teacher's mean for
every tile already scores 0.70 on real tiles. So both embeddings are first centred and standardised, z = (x - m) / s,
with the channel means m and deviations s of the TEACHER over its TRAIN tiles. The teacher's numbers are applied to the
student too, since the student claims to answer in the teacher's space: a wrong offset or scale is its error and must
cost it. A constant prediction scores 0 at best on average, and 1 is the teacher itself. A channel in which the teacher
never moves tells nothing and is left out.
Shapes: N tiles, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.figures import Figure
from pipeline.base.intervals import Resampler
from pipeline.base.types import Floats
from pipeline.measures.split_figures import Likeness

TINY = 1e-12
ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Scale:
    """Channel means and deviations, (D,) float64; the deviation of a channel that never moves is infinite."""

    mean_D: NDArray[np.float64]
    deviation_D: NDArray[np.float64]

    @classmethod
    def of(cls, feature_ND: Floats) -> Scale:
        """The statistics of some features, in float64."""
        mean_D, square_D = feature_ND.mean(axis=0, dtype=np.float64), np.zeros(feature_ND.shape[1])
        # In portions, so that no copy in float64 stands beside all of it.
        for start in range(0, len(feature_ND), ROWS_AT_ONCE):
            square_D += np.square(feature_ND[start : start + ROWS_AT_ONCE] - mean_D).sum(axis=0)
        deviation_D = np.sqrt(square_D / len(feature_ND))
        moves_D = deviation_D > 1e-6 * max(float(deviation_D.max(initial=0.0)), TINY)
        return cls(mean_D, np.where(moves_D, deviation_D, np.inf))

    def __call__(self, feature_ND: Floats) -> NDArray[np.float64]:
        """z = (x - m) / s, (N, D) float64; 0 in the channels that never move."""
        return (feature_ND - self.mean_D) / self.deviation_D


def cosine(a_ND: Floats, b_ND: Floats) -> NDArray[np.float64]:
    """Cosine of each row pair, (N,) float64; 0 where a row is all zeros. b may be (D,)."""
    a_ND, b_ND = np.asarray(a_ND, np.float64), np.asarray(b_ND, np.float64)
    norm_N = np.linalg.norm(a_ND, axis=-1) * np.linalg.norm(b_ND, axis=-1)
    product_N: NDArray[np.float64] = (a_ND * b_ND).sum(axis=-1) / np.maximum(norm_N, TINY)
    return product_N


@dataclass(frozen=True)
class SlideCosine:
    """Standardised cosine over one slide's n tiles, or over their tokens: mean and 5th percentile."""

    cosine: float
    cosine_p5: float
    n: int


def by_slide(cosine_N: Floats, slide_N: Sequence[str]) -> dict[str, SlideCosine]:
    """Of each slide by name; the cosines are of tiles (N,) or of their tokens (N, T)."""
    names_N, found = np.asarray(slide_N, dtype=np.str_), {}
    for slide in sorted(set(slide_N)):
        of_slide = cosine_N[names_N == slide]
        mean, p5 = float(of_slide.mean(dtype=np.float64)), float(np.percentile(of_slide, 5))
        found[slide] = SlideCosine(mean, p5, len(of_slide))
    return found


def fidelity(
    teacher_ND: Floats, student_ND: Floats, slide_N: Sequence[str], train_scale: Scale, resampler: Resampler
) -> tuple[Likeness, dict[str, SlideCosine]]:
    """The figures of one held-out split over its tiles, and of each of its slides.

    Beside the raw cosine stands what the teacher's train mean scores (`constant`).
    """
    cosine_N = cosine(train_scale(teacher_ND), train_scale(student_ND))
    n = len(cosine_N)
    constant = float(cosine(teacher_ND, train_scale.mean_D).mean())
    likeness = Likeness(
        cosine=Figure(value=float(cosine_N.mean()), interval=resampler.mean_interval(cosine_N, -1, 1), n=n),
        cosine_p5=Figure(
            value=float(np.percentile(cosine_N, 5)),
            interval=resampler.percentile_interval(cosine_N, np.arange(n), 5),
            n=n,
        ),
        raw=Figure(value=float(cosine(teacher_ND, student_ND).mean()), floors={"constant": constant}, n=n),
    )
    return likeness, by_slide(cosine_N, slide_N)
