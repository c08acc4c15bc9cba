"""What fewer numbers a tile keep: nested sizes beside principal components, which cost no training.

Three ways to have k numbers: the first k of the student's nested vector; the student's full embedding on its k leading
principal components; and the TEACHER's on its own, the control: what any k linear numbers of the teacher could keep,
had the student answered it without error. Components are of the train tiles, in the teacher's standardised space.

    cosine  standardised cosine of the teacher's embedding and what comes back of the k numbers: by the size's own head,
            or as the mean and k components
    probes  kNN and the linear probe of probes/probes.py, with k features and the penalty of D: the protocol's own
            grows as features get fewer, and would be what is measured. The nested numbers are standardised, as
            features of any net are; components are not, since their spread is what makes them neighbours

Shapes: N tiles, D the teacher's width, K the largest size, k a size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.figures import Figure
from pipeline.base.intervals import Resampler
from pipeline.base.types import Floats
from pipeline.measures.fidelity.embedding import Scale, cosine
from pipeline.measures.probes.probes import Labelled, linear_head, vote
from pipeline.measures.probes.scoring import Scorer
from pipeline.measures.split_figures import Accuracy, Code, Width

WAYS = ("nested", "student_pca", "teacher_pca")
NESTED, STUDENT, TEACHER = "nested", "student", "teacher"
Back = Callable[[Floats, int], Floats]
"""The first k numbers of the nested vector, (N, K), in the teacher's space, (N, D)."""


@dataclass(frozen=True)
class Components:
    """Principal components of standardised embeddings: `axes_DK` by falling variance."""

    scale: Scale
    mean_D: NDArray[np.float64]
    axes_DK: NDArray[np.float64]

    @classmethod
    def of(cls, feature_ND: Floats, scale: Scale, most: int) -> Components:
        """The `most` leading ones of these tiles."""
        z_ND = scale(feature_ND)
        mean_D = z_ND.mean(axis=0)
        z_ND -= mean_D
        _, vectors_DD = np.linalg.eigh(z_ND.T @ z_ND)
        return cls(scale, mean_D, vectors_DD[:, ::-1][:, :most])

    def along(self, feature_ND: Floats, k: int) -> NDArray[np.float64]:
        """The k leading coordinates, (N, k)."""
        along_Nk: NDArray[np.float64] = (self.scale(feature_ND) - self.mean_D) @ self.axes_DK[:, :k]
        return along_Nk

    def back(self, feature_ND: Floats, k: int) -> NDArray[np.float64]:
        """What comes back of them, standardised, (N, D)."""
        return self.along(feature_ND, k) @ self.axes_DK[:, :k].T + self.mean_D


@dataclass(frozen=True)
class Tiles:
    """`nested`, `student` and `teacher` of some tiles, {name: (N, K or D)}, and what intervals draw of them."""

    answers: Mapping[str, Floats]
    resampler: Resampler


def widths(
    sizes: Sequence[int], back: Back, components: Mapping[str, Components], held: Tiles, probed: Probed | None
) -> dict[int, Width]:
    """Of each size; without `probed` (no labels) there are no probes, without components of the student none of its."""
    wanted = held.answers[TEACHER]
    scale = components[TEACHER].scale
    found = {}
    for k in sizes:
        returned = {"nested": scale(back(held.answers[NESTED], k))}
        returned |= {f"{name}_pca": own.back(held.answers[name], k) for name, own in components.items()}
        codes = {}
        for way, z_ND in returned.items():
            cosine_N = cosine(scale(wanted), z_ND)
            interval = held.resampler.mean_interval(cosine_N, -1, 1)
            likeness = Figure(value=float(cosine_N.mean()), interval=interval, n=len(cosine_N))
            knn, linear = (None, None) if probed is None else probed.of(way, k, components)
            codes[way] = Code(cosine=likeness, knn=knn, linear=linear)
        found[k] = Width(**codes)
    return found


@dataclass(frozen=True)
class Probed:
    """Labelled tiles to learn from and to try on, whose features are those of `Tiles`."""

    train: Labelled
    held: Labelled
    score: Scorer
    knn_k: int

    @classmethod
    def of_tiles(cls, train: Labelled, held: Labelled, knn_k: int, resamples: int, seed: int) -> Probed:
        """Held-out tiles of a class that no train tile has are left out."""
        known = set(train.labels)
        held = held.only(np.array([label in known for label in held.labels], dtype=np.bool_))
        return cls(train, held, Scorer(held.labels, train.labels, Resampler(held.units, resamples, seed)), knn_k)

    def of(self, way: str, k: int, components: Mapping[str, Components]) -> tuple[Accuracy, Accuracy]:
        """kNN and the linear probe with k numbers."""
        width = self.train.features[TEACHER].shape[1]
        if way == NESTED:
            scale = Scale.of(self.train.features[NESTED][:, :k])
            train_Nk, held_Nk = (scale(part.features[NESTED][:, :k]) for part in (self.train, self.held))
        else:
            name = way.removesuffix("_pca")
            train_Nk, held_Nk = (components[name].along(part.features[name], k) for part in (self.train, self.held))
        near = self.score.right(vote(train_Nk, self.train.labels, held_Nk, self.knn_k))
        learnt = self.score.right(linear_head(train_Nk, self.train.labels, width).predict(held_Nk))
        return self.score.accuracy(near), self.score.accuracy(learnt)
