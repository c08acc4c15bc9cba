"""The figures of one held-out split, of the slides or of a labelled data set: `SplitFigures` and what it is made of.

The modules that compute a part say how; here is what it is. What could not be had is a `NotMeasured` with the reason,
what is not asked of such tiles (slide labels of a set of images) is None. Without torch, since the report reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Generic, Literal, TypeVar

from pipeline.base.figures import Figure, NotMeasured, Number, Result

MODELS = ("teacher", "student", "untrained")
"""`untrained` is the student's architecture with random weights: what the pixels alone give away."""
PROBES = {
    "knn": "kNN",
    "linear": "linear probe",
    "head_transfer": "teacher’s head",
    "simpleshot": "SimpleShot",
}
Protocol = Literal["histill", "uni"]
PROTOCOLS: Mapping[Protocol, str] = {"histill": "Histill’s own protocol", "uni": "the protocol of UNI"}
"""By which tile labels are probed; figures of two protocols do not compare."""


class Likeness(Result):
    """Standardised cosine of student and teacher: mean, 5th percentile, and `raw`, beside a constant's; see fidelity/.

    `n` of the figures are tiles, or patch tokens.
    """

    cosine: Figure
    cosine_p5: Figure
    raw: Figure


class SlideFidelity(Result):
    """Standardised cosines over one held-out slide's n tiles; those of patch tokens are None without dense tokens."""

    n: int
    cosine: Number
    cosine_p5: Number
    patch_cosine: Number | None
    patch_cosine_p5: Number | None


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
    """One measure of the models and of the majority class.

    `retention` is the student's share of the teacher's, its floors what the untrained student and the majority class
    have of it; `way` is how far the student comes from the untrained student (0) to the teacher (1).
    """

    teacher: Score
    student: Score
    untrained: Score
    majority: Score
    retention: Figure | NotMeasured
    way: Figure | NotMeasured

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
    protocol: ClassVar[Protocol] = "histill"

    @property
    def n(self) -> int:
        """Held-out tiles."""
        return self.linear.student.balanced.n

    def by_kind(self) -> dict[str, Accuracies]:
        """In the order of `PROBES`."""
        return {"knn": self.knn, "linear": self.linear, "head_transfer": self.head_transfer}

    def named(self, what: str) -> str:
        """What a figure of theirs is called where figures of several protocols may stand together."""
        return what if self.protocol == "histill" else f"{what}, UNI’s protocol"


class UniScore(Result):
    """Of one probe of one model by UNI's protocol; `auroc` of those that give probabilities."""

    weighted_f1: Figure
    auroc: Figure | None = None


class UniProbes(Probes):
    """The same by UNI's protocol, and `scores` by probe and model; see uni/probes.py."""

    simpleshot: Accuracies
    scores: Mapping[str, Mapping[str, UniScore]]
    protocol: ClassVar[Protocol] = "uni"

    def by_kind(self) -> dict[str, Accuracies]:
        """In the order of `PROBES`."""
        return {**super().by_kind(), "simpleshot": self.simpleshot}


class FewShot(Result):
    """SimpleShot with some shots a class; see probes/few_shot.py.

    `episode_range`: model -> 2.5th and 97.5th percentile over episodes.
    """

    accuracies: Accuracies
    episodes: int
    episode_range: Mapping[str, tuple[Number, Number]]


class Quartiles(Result):
    """Over the episodes."""

    low: Number
    median: Number
    high: Number


class UniFewShot(FewShot):
    """SimpleShot by UNI's protocol, see uni/simpleshot.py: quartiles over episodes, by model."""

    balanced: Mapping[str, Quartiles]
    weighted_f1: Mapping[str, Quartiles]


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


class Code(Result):
    """One way to have k numbers a tile: standardised cosine of the teacher and what comes back of them, and probes by
    Histill's own protocol, None without labels."""

    cosine: Figure
    knn: Accuracy | None
    linear: Accuracy | None


class Width(Result):
    """k numbers: of the student's nested vector, or principal components of the student's or of the teacher's own
    embedding; see widths.py."""

    nested: Code
    student_pca: Code
    teacher_pca: Code


class Standard(Result):
    """By what embeddings are centred and scaled before they are compared: the teacher's over so many train tiles.

    Those of the `slides`, or of a data set's own split train (`set`).
    """

    of: Literal["slides", "set"]
    tiles: int


class SplitFigures(Result):
    """All that one held-out split tells. `few_shot` by shots a class, `from_labels` by labels a class, `nested` by
    size.

    `standard` is that of `fidelity` and `structure`; patch tokens are standardised as they are cached.
    """

    standard: Standard
    fidelity: Likeness
    patch: Likeness | NotMeasured
    structure: Structure | NotMeasured
    probes: UniProbes | Probes | NotMeasured | None = None
    few_shot: Mapping[int, UniFewShot | FewShot] = {}
    slide_labels: SlideLabels | NotMeasured | None = None
    from_labels: Mapping[int, FromLabels | NotMeasured] = {}
    dense: Dense | NotMeasured | None = None
    nested: Mapping[int, Width] = {}
