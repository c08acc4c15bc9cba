"""run.json and the curve of a training: enough to build the student again, to describe it, and to say how it ended."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass

import numpy as np

from pipeline.base.items import (
    AdapterArguments,
    HeadFacts,
    StartFacts,
    StudentFacts,
    TilesManifest,
    TokensManifest,
)
from pipeline.corpus.corpus import Corpus
from pipeline.params.student import StudentParams
from pipeline.student.loop import Training
from pipeline.student.losses import teacher_weights
from pipeline.student.model import Distiller
from pipeline.student.objectives import NESTED, OBJECTIVES
from pipeline.student.recipe import input_side, kept_params, precision_here
from pipeline.student.start import Start


@dataclass(frozen=True)
class Subject:
    """What is trained on what."""

    tiles: TilesManifest
    tokens: TokensManifest
    corpus: Corpus
    params: StudentParams
    start: Start | None = None

    @property
    def input_px(self) -> int:
        """The side at which the student sees a tile."""
        return input_side(self.params, self.tiles.tile_px)


@dataclass(frozen=True)
class Ended:
    """How training ended: the student, what its adapters were made with, each teacher's log variance, its start."""

    final: Distiller
    adapters: tuple[AdapterArguments | None, ...]
    log_variance: tuple[float, ...]
    began: StartFacts | None


def run_facts(subject: Subject, training: Training, ended: Ended) -> StudentFacts:
    """run.json."""
    tiles, tokens, corpus, params = subject.tiles, subject.tokens, subject.corpus, subject.params
    student = ended.final.student
    beside = sum(student.widths[1:]) * (student.last.in_features + 1)
    return StudentFacts(
        model=params.model,
        input_px=subject.input_px,
        width=corpus.width,
        grid=corpus.grid,
        tile_px=tiles.tile_px,
        target_mpp=tiles.target_mpp,
        parameters=sum(parameter.numel() for parameter in student.parameters()) - beside,
        teacher=tokens.teacher,
        student=kept_params(params, several=bool(tokens.also)),
        precision=precision_here(),
        adapter=ended.adapters[0],
        train_slides=len(corpus.items),
        train_tiles=training.loader.order.total,
        views=corpus.views,
        steps=training.steps,
        batch_size=training.loader.batch_size,
        tiles_seen=training.steps * training.loader.batch_size,
        loss=_last_epoch(training.curve),
        start=ended.began,
        also=_heads(subject, ended),
    )


def _heads(subject: Subject, ended: Ended) -> tuple[HeadFacts, ...]:
    """Of the further teachers."""
    weights = teacher_weights(subject.params.teachers, [one.teacher for one in subject.corpus.each])
    return tuple(
        HeadFacts(
            teacher=manifest.teacher,
            width=corpus.width,
            grid=corpus.grid,
            adapter=ended.adapters[place],
            weight=weights[place] * math.exp(-ended.log_variance[place]),
        )
        for place, (manifest, corpus) in enumerate(zip(subject.tokens.also, subject.corpus.also, strict=True), start=1)
    )


def losses_of(row: dict[str, float]) -> list[str]:
    """The columns of losses: of the first teacher those of every objective, of others those that there are."""
    return ["loss", *OBJECTIVES, *(name for name in row if name == NESTED or "@" in name)]


def _last_epoch(curve: list[dict[str, float]]) -> dict[str, float]:
    """Each loss's mean over the curve's rows of the last epoch."""
    rows = [row for row in curve if row["epoch"] > curve[-1]["epoch"] - 1]
    return {name: float(np.mean([row[name] for row in rows])) for name in losses_of(rows[0]) if name in rows[0]}


def curve_file(rows: list[dict[str, float]]) -> bytes:
    """curve.csv."""
    text, columns = io.StringIO(), ("step", "epoch", *losses_of(rows[0]), "lr", "tiles_seen")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.9g}" for name, value in row.items()})
    return text.getvalue().encode()
