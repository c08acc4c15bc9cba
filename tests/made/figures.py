"""Figures as an evaluation would find them, made by hand."""

from __future__ import annotations

from pipeline.base.figures import Figure, Interval, NotMeasured
from pipeline.evaluate.summary import EvaluateSummary, Maps, MapTile, SetFigures
from pipeline.measures.robustness.results import Robustness, Steadiness
from pipeline.measures.split_figures import (
    Accuracies,
    Accuracy,
    FewShot,
    FromLabels,
    Likeness,
    OfModels,
    Probes,
    SlideLabels,
    SplitFigures,
    Standard,
    Structure,
)

NO_ADAPTER = NotMeasured(why="the student has no dense adapter (student.objective.patch is 0)")


def figure(value: float, low: float | None = None, high: float | None = None, n: int = 100) -> Figure:
    """With an interval over tiles where its ends are given."""
    if low is None or high is None:
        return Figure(value=value, n=n)
    return Figure(value=value, interval=Interval(low=low, high=high, unit="slide", units=n, method="bootstrap"), n=n)


def accuracy(value: float) -> Accuracy:
    return Accuracy(balanced=figure(value, value - 0.04, value + 0.04), plain=figure(value))


def accuracies(teacher: float, student: float, untrained: float, majority: float = 0.17) -> Accuracies:
    return Accuracies(
        teacher=accuracy(teacher),
        student=accuracy(student),
        untrained=accuracy(untrained),
        majority=accuracy(majority),
        retention=figure(0.94, 0.91, 0.97).model_copy(update={"floors": {"untrained": 0.44}}),
        way=figure(0.88, 0.8, 0.95),
    )


def probes(linear: Accuracies | None = None, knn: Accuracies | None = None) -> Probes:
    return Probes(
        knn=knn or accuracies(0.86, 0.8, 0.38),
        linear=linear or accuracies(0.9, 0.85, 0.4),
        head_transfer=accuracies(0.9, 0.78, 0.35),
        chance=1 / 6,
        classes={"fat": 30, "glands": 40, "stroma": 30},
        dropped_classes=("necrosis",),
        n_train=400,
    )


def likeness(cosine: float = 0.62) -> Likeness:
    raw = Figure(value=0.93, floors={"constant": 0.7}, n=100)
    return Likeness(cosine=figure(cosine, cosine - 0.02, cosine + 0.02), cosine_p5=figure(0.3, 0.2, 0.35), raw=raw)


def structure() -> Structure:
    found = figure(0.7, 0.6, 0.8)
    alike = OfModels(student=found, untrained=found)
    near = OfModels(student=found.model_copy(update={"floors": {"chance": 0.1}}), untrained=found)
    return Structure(cka=alike, neighbours=near, rankme=OfModels(teacher=found, student=found, untrained=found))


def from_labels(distilled: float = 0.85, alone: float = 0.64) -> FromLabels:
    gain = distilled - alone
    return FromLabels(
        accuracies=accuracies(0.9, distilled, 0.4, 0.171),
        from_labels=accuracy(alone),
        gain=figure(gain, gain - 0.06, gain + 0.06),
        by_draw={"student": (0.84, 0.86), "from_labels": (0.66, 0.62)},
        train_loss=(0.1, 0.2),
        n_train=60,
    )


def few_shot(table: Accuracies) -> FewShot:
    return FewShot(accuracies=table, episodes=9, episode_range={"student": (0.7, 0.9)})


def slide_labels() -> SlideLabels:
    return SlideLabels(
        attention=accuracies(0.9, 0.85, 0.4, 0.171),
        head_transfer=accuracies(0.9, 0.78, 0.35, 0.171),
        chance=0.5,
        classes={"tumour": 50, "normal": 50},
        n_train=20,
    )


def split_of_slides() -> SplitFigures:
    """With every part but dense tokens."""
    return SplitFigures(
        standard=Standard(of="slides", tiles=1234),
        fidelity=likeness(),
        patch=NO_ADAPTER,
        structure=structure(),
        probes=probes(),
        few_shot={4: few_shot(accuracies(0.9, 0.85, 0.4, 0.171)), 16: few_shot(accuracies(0.86, 0.8, 0.38, 0.171))},
        slide_labels=slide_labels(),
        from_labels={10: from_labels()},
    )


def split_of_set() -> SplitFigures:
    own = Standard(of="set", tiles=56)
    return SplitFigures(standard=own, fidelity=likeness(), patch=NO_ADAPTER, structure=structure(), probes=probes())


def steady() -> Steadiness:
    found = figure(0.8, 0.7, 0.9, n=64)
    return Steadiness(teacher=found, student=found, difference=figure(0.037, -0.1, 0.1, n=64))


def summary() -> EvaluateSummary:
    """Of the demo's teacher, on one split and one data set."""
    return EvaluateSummary(
        protocol="histill",
        teacher="demo",
        student="efficientvit_b0",
        primary="test",
        splits={"test": split_of_slides()},
        sets={"crc": SetFigures(splits={"test": split_of_set()})},
        robustness=Robustness(changes={"stain": steady(), "blur": steady()}),
        maps=Maps(
            explained=(0.4, 0.2, 0.1),
            grid=(8, 8),
            tiles=(MapTile(slide="<script>alert(1)</script>", row=3, cosine=0.51),),
        ),
        cautions=("test: 2 tiles are nearly the same",),
    )
