"""Every figure of stage `evaluate`, as one tree: what artifacts/evaluate.json holds under `summary`.

`EvaluateSummary` has a `SplitFigures` for each held-out split of the slides and of each labelled data set. The modules
that compute a part say how; here is what it is. What could not be had is a `NotMeasured` with the reason, what is not
asked of such tiles (slide labels of a set of images) is None. Without torch, since the report reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, Literal, NamedTuple, TypeVar

from pipeline.base.figures import Figure, NotMeasured, Number, Result

MODELS: tuple[Literal["teacher", "student", "untrained"], ...] = ("teacher", "student", "untrained")
"""`untrained` is the student's architecture with random weights: what the pixels alone give away."""
PROBES: Mapping[Literal["knn", "linear", "head_transfer"], str] = {
    "knn": "kNN",
    "linear": "linear probe",
    "head_transfer": "teacher’s head",
}


class Likeness(Result):
    """Standardised cosine of student and teacher: mean, 5th percentile, and `raw`, beside a constant's; see fidelity/.

    `n` of the figures are tiles, or patch tokens.
    """

    cosine: Figure
    cosine_p5: Figure
    raw: Figure


class OfModels(Result):
    """One figure of each model; the teacher has none where it is what the others are measured against."""

    teacher: Figure | None = None
    student: Figure
    untrained: Figure


class Structure(Result):
    """What the spaces have in common besides their axes; see fidelity/structure.py."""

    cka: OfModels
    neighbours: OfModels
    rankme: OfModels


class Accuracy(Result):
    """Of one model's answers: balanced accuracy (the mean recall of the classes that occur), and the share right."""

    balanced: Figure
    plain: Figure


class Overlap(Result):
    """Of one model's answers for pixels, means over classes."""

    miou: Figure
    dice: Figure


Score = TypeVar("Score", Accuracy, Overlap)


class Compared(Result, Generic[Score]):
    """One measure of the models and of the majority class; `retention` is the student's share of the teacher's."""

    teacher: Score
    student: Score
    untrained: Score
    majority: Score
    retention: Figure | NotMeasured

    def scores(self) -> dict[str, Score]:
        """By name, the models in the order of `MODELS`, then the majority class."""
        return {
            "teacher": self.teacher,
            "student": self.student,
            "untrained": self.untrained,
            "majority": self.majority,
        }


Accuracies = Compared[Accuracy]
Overlaps = Compared[Overlap]


class Probes(Result):
    """Tile labels from each model's features; see probes/probes.py.

    `chance` is guessing among the train classes, `classes` are the held-out tiles of each, `dropped_classes` those of
    the held-out tiles alone, `n_train` the tiles learnt from.
    """

    knn: Accuracies
    linear: Accuracies
    head_transfer: Accuracies
    chance: Number
    classes: Mapping[str, int]
    dropped_classes: tuple[str, ...]
    n_train: int

    @property
    def n(self) -> int:
        """Held-out tiles."""
        return self.linear.student.balanced.n

    def by_kind(self) -> dict[str, Accuracies]:
        """In the order of `PROBES`."""
        return {"knn": self.knn, "linear": self.linear, "head_transfer": self.head_transfer}


class FewShot(Result):
    """SimpleShot with some shots a class; see probes/few_shot.py.

    `episode_range`: model -> 2.5th and 97.5th percentile over episodes.
    """

    accuracies: Accuracies
    episodes: int
    episode_range: Mapping[str, tuple[Number, Number]]


class SlideLabels(Result):
    """Slide labels by attention over tiles; see probes/mil.py. `n` of the figures and `n_train` are slides."""

    attention: Accuracies
    head_transfer: Accuracies
    chance: Number
    classes: Mapping[str, int]
    n_train: int

    @property
    def n(self) -> int:
        """Held-out slides."""
        return self.attention.student.balanced.n


class FromLabels(Result):
    """The distilled student against the same net trained on some labels alone; see labels/from_labels.py.

    `gain` is student minus from_labels, `by_draw` each model's balanced accuracy with each draw of the labels,
    `train_loss` of the nets of `from_labels`, `n_train` the tiles drawn.
    """

    accuracies: Accuracies
    from_labels: Accuracy
    gain: Figure
    by_draw: Mapping[str, tuple[Number, ...]]
    train_loss: tuple[Number, ...]
    n_train: int


class Dense(Result):
    """Masks from patch tokens; see probes/dense.py. `values` are the masks' own, in the order of the classes.

    `n` of the figures are tiles, of `images` images; `n_train` are tokens; `retention` is of mIoU.
    """

    linear: Overlaps
    head_transfer: Overlaps
    values: tuple[int, ...]
    images: int
    n_train: int


class SplitFigures(Result):
    """All that one held-out split tells. `few_shot` by shots a class, `from_labels` by labels a class."""

    fidelity: Likeness
    patch: Likeness | NotMeasured
    structure: Structure | NotMeasured
    probes: Probes | NotMeasured | None = None
    few_shot: Mapping[int, FewShot] = {}
    slide_labels: SlideLabels | NotMeasured | None = None
    from_labels: Mapping[int, FromLabels | NotMeasured] = {}
    dense: Dense | NotMeasured | None = None


class Steadiness(Result):
    """Agreement of each model with itself under one change, and student minus teacher."""

    teacher: Figure
    student: Figure
    difference: Figure


class Robustness(Result):
    """By change; see robustness/robustness.py."""

    changes: Mapping[str, Steadiness]

    @property
    def n(self) -> int:
        """Tiles that were changed."""
        return next(iter(self.changes.values())).student.n


class MapTile(Result):
    """A tile whose patch tokens are pictured; `cosine` is the mean over them."""

    slide: str
    row: int
    cosine: Number


class Maps(Result):
    """The pictures in plots/maps; see pca_maps.py."""

    explained: tuple[Number, ...]
    grid: tuple[int, int]
    tiles: tuple[MapTile, ...]


class SetFigures(Result):
    """One labelled data set. `trained_on` says which of its images, slides or patients the student has learnt from."""

    splits: Mapping[str, SplitFigures]
    cautions: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()


class Gap(NamedTuple):
    """What is missing: the `part` of the tree, its name for people, where, and why."""

    part: str
    name: str
    where: tuple[str, ...]
    why: str

    @property
    def title(self) -> str:
        """As "probes, test", of a data set "probes, test, crc"."""
        return ", ".join((self.name, *self.where))


class EvaluateSummary(Result):
    """What a student keeps of its teacher. `primary` is the split whose figures lead.

    `splits` are the slides' held-out ones; with none of them `nothing_held_out` says why. `cautions` are what a reader
    must know before trusting a figure, and `learnt_slides` are held-out slides that the student was trained on.
    """

    teacher: str
    student: str
    primary: str | None
    splits: Mapping[str, SplitFigures]
    nothing_held_out: NotMeasured | None = None
    sets: Mapping[str, SetFigures] = {}
    robustness: Robustness | NotMeasured
    maps: Maps | None = None
    cautions: tuple[str, ...] = ()
    learnt_slides: tuple[str, ...] = ()

    @property
    def lead(self) -> SplitFigures | None:
        """The figures of the primary split."""
        return None if self.primary is None else self.splits.get(self.primary)

    def every_split(self) -> Iterator[tuple[str, SplitFigures]]:
        """Each split of the slides, then of the data sets, by name: "test", "crc, test"."""
        yield from self.splits.items()
        for name, found in self.sets.items():
            for split, figures in found.splits.items():
                yield f"{name}, {split}", figures

    def every_caution(self) -> list[str]:
        """Those of the slides, then of each data set, which is named."""
        of_sets = [f"{name}, {text}" for name, found in self.sets.items() for text in found.cautions]
        return [*self.cautions, *of_sets]

    def trained_on(self) -> list[str]:
        """All that is compared on and that the student was trained on: figures there flatter it."""
        of_sets = [text for found in self.sets.values() for text in found.trained_on]
        return [*(f"slide {slide}" for slide in self.learnt_slides), *of_sets]

    def gaps(self) -> list[Gap]:
        """All that was asked for and could not be had, by title."""
        found = [] if self.nothing_held_out is None else [
            Gap(part, part, (), self.nothing_held_out.why) for part in ("fidelity", "probes")
        ]  # fmt: skip
        if isinstance(self.robustness, NotMeasured):
            found.append(Gap("robustness", "robustness", (), self.robustness.why))
        for split, figures in self.splits.items():
            found += _gaps(figures, (split,))
        for name, of_set in self.sets.items():
            for split, figures in of_set.splits.items():
                found += _gaps(figures, (split, name))
        return sorted(found, key=lambda gap: gap.title)


def _gaps(found: SplitFigures, where: tuple[str, ...]) -> Iterator[Gap]:
    """Of one split; of retentions those of the probes that learn from all train tiles or slides."""
    parts: dict[str, Result | None] = {
        "patch": found.patch,
        "structure": found.structure,
        "probes": found.probes,
        "slide_labels": found.slide_labels,
        "dense": found.dense,
    }
    for part, figures in parts.items():
        if isinstance(figures, NotMeasured):
            yield Gap(part, part, where, figures.why)
    for k, row in found.from_labels.items():
        if isinstance(row, NotMeasured):
            yield Gap("from_labels", f"from_labels {k}", where, row.why)
    kept: dict[str, Accuracies] = {}
    if isinstance(found.probes, Probes):
        kept |= {"linear": found.probes.linear, "knn": found.probes.knn}
    if isinstance(found.slide_labels, SlideLabels):
        kept |= {"slide labels": found.slide_labels.attention}
    for name, table in kept.items():
        if isinstance(table.retention, NotMeasured):
            yield Gap("kept", f"retention of {name}", where, table.retention.why)
