"""All that stage `evaluate` finds, as one tree: what artifacts/evaluate.json holds under `summary`.

A part is a tree of figures, of one held-out split in pipeline/measures/split_figures.py. Without torch, since the
report reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pydantic import SerializerFunctionWrapHandler, model_serializer

from pipeline.base.figures import NotMeasured, Number, Result
from pipeline.base.types import Json
from pipeline.measures.robustness.results import Robustness
from pipeline.measures.split_figures import Accuracies, Probes, Protocol, SlideLabels, SplitFigures


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

    `splits` are the slides' held-out ones; with none of them `nothing_held_out` says why. `protocol` is that of the
    probes of tile labels. `cautions` are what a reader must know before trusting a figure, and `learnt_slides` are
    held-out slides that the student was trained on. `also` are further teachers' figures of the same splits.
    """

    protocol: Protocol
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
    also: Mapping[str, Mapping[str, SplitFigures]] = {}

    @model_serializer(mode="wrap")
    def _told(self, handler: SerializerFunctionWrapHandler) -> dict[str, Json]:
        """Without an `also` that names no teacher."""
        told: dict[str, Json] = handler(self)
        return told if self.also else {name: value for name, value in told.items() if name != "also"}

    def by_teacher(self) -> dict[str, Mapping[str, SplitFigures]]:
        """The splits' figures against each teacher, in the student's answers in its space; the first one's first."""
        return {self.teacher: self.splits, **self.also}

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
        for teacher, splits in self.also.items():
            for split, figures in splits.items():
                found += _gaps(figures, (split, teacher))
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
