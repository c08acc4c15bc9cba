"""Each model's features of some tiles, read at every look, so that those of one model alone stand in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.base.progress import Advance
from pipeline.base.types import Floats
from pipeline.evaluate.answers import features
from pipeline.evaluate.answers.embeddings import answered, read
from pipeline.evaluate.run import Run
from pipeline.evaluate.selection import Sample


class Answers(Mapping[str, Floats]):
    """{model: (N, D)}, of the teacher from the cache, of the student and its twin from what the store keeps."""

    def __init__(self, run: Run, samples: Sequence[Sample], advance: Advance) -> None:
        """Computes what the store lacks. Raises `EvaluationError` where an answer is not finite."""
        self._run, self._samples = run, samples
        both = [run.models.student, run.models.untrained]
        self._refs = dict(
            zip(
                ("student", "untrained"), answered(both, samples, run.params.batch_size, run.kept, advance), strict=True
            )
        )

    def __getitem__(self, name: str) -> Floats:
        if name == "teacher":
            return features.teacher_features(self._samples)
        return read(self._refs[name], self._run.kept)

    def __iter__(self) -> Iterator[str]:
        return iter(("teacher", *self._refs))

    def __len__(self) -> int:
        return 1 + len(self._refs)
