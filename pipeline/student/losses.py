"""The loss of a step of several teachers: each teacher's own (`terms`), balanced.

    fixed        loss = sum over t of w_t L_t
    uncertainty  loss = sum over t of w_t (exp(-s_t) L_t + s_t),   s_t learnt, 0 at the start

L_t the weighted sum of teacher t's objectives, w_t `student.teachers.weights`, 1 where it names none. The second is the
rule of Kendall, Gal and Cipolla ("Multi-task learning using uncertainty to weigh losses", CVPR 2018) without its
factors of a half: where s_t has settled, exp(s_t) is the mean of L_t, so that each teacher's gradient is that of
log L_t, and one that is hard to match rules no more than one that is easy. AdaLoss (Hu et al., "Learning anytime
predictions in neural networks via adaptive loss balancing", AAAI 2019), which RADIO's line of work has beside it,
divides by a running mean of L_t, which comes to the same; a learnt number needs no state beside the weights, and every
process has the same one. Targets are standardised each teacher's for itself, so that fixed weights of 1 begin alike.

Of one teacher both are its own loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.base.errors import TrainingError
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.loader import Batch
from pipeline.corpus.targets import Standardiser
from pipeline.params.student import StudentParams, TeachersParams
from pipeline.student.model import Answer
from pipeline.student.terms import Terms


class Losses:
    """Of all teachers of a corpus: the first one's objectives by their names, another's as `cls@its name`."""

    def __init__(
        self, params: StudentParams, corpus: Corpus, standardisers: Sequence[Standardiser], device: torch.device
    ) -> None:
        of_teachers = zip(corpus.each, standardisers, strict=True)
        self.terms = [Terms(params.objective, one, cls, device, params.seed) for one, cls in of_teachers]
        self.names = [one.teacher for one in corpus.each]
        self.weights = teacher_weights(params.teachers, self.names)

    def __call__(self, batch: Batch, answers: Sequence[Answer]) -> dict[str, Tensor]:
        """Each objective's unweighted value, a scalar in fp32; `answers` are the distiller's, one a teacher."""
        found: dict[str, Tensor] = {}
        for place, (terms, asked, answer) in enumerate(zip(self.terms, batch.each, answers, strict=True)):
            found |= {self._called(place, name): value for name, value in terms(asked, *answer).items()}
        return found

    def total(self, found: dict[str, Tensor], log_variance_T: Tensor | None = None) -> Tensor:
        """What is minimised; `log_variance_T` are the s_t, None with fixed weights."""
        parts = []
        for place, (terms, weight) in enumerate(zip(self.terms, self.weights, strict=True)):
            own = {name: found[key] for name in terms.weights if (key := self._called(place, name)) in found}
            loss = terms.total(own)
            if log_variance_T is not None:
                loss = torch.exp(-log_variance_T[place]) * loss + log_variance_T[place]
            parts.append(loss if weight == 1 else weight * loss)
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum()

    def _called(self, place: int, objective: str) -> str:
        return f"{objective}@{self.names[place]}" if place else objective


def teacher_weights(params: TeachersParams, names: Sequence[str]) -> tuple[float, ...]:
    """One a teacher. Raises `TrainingError` where the params name a teacher that there is none of."""
    unknown = sorted(set(params.weights) - set(names))
    if unknown:
        fix = f"the teachers whose answers are cached: {', '.join(names)}"
        raise TrainingError(f"{unknown[0]} is none of the teachers", where="student.teachers.weights", fix=fix)
    return tuple(params.weights.get(name, 1.0) for name in names)
