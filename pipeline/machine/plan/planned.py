"""The plan: tiles, bytes and seconds of every stage, and of embedding the slides with the student.

It is of a run whose store is empty: what is there is not made again. What else a stage does, and is too small or too
different from run to run to be measured in a minute, its `basis` names (`besides`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.base.files import free_bytes
from pipeline.base.items import TRAIN
from pipeline.base.limits import usable_cores
from pipeline.base.store import Store
from pipeline.base.types import Frozen
from pipeline.cluster.client import local
from pipeline.cluster.spread import processes
from pipeline.machine.plan.looks import Looks, look_at
from pipeline.params.tokens import TokensParams
from pipeline.params.whole import WholeParams
from pipeline.slides.catalogue import FEW, threads_of_few
from pipeline.slides.split import resolve_splits
from pipeline.slides.table import read_table
from pipeline.views import fields_nbytes

if TYPE_CHECKING:
    from pipeline.machine.plan.speeds import TeacherSpeed

LOOKING = 0.5
"""Share of the time that goes into slides; the rest goes to teacher and student alike."""
_GATES = 2
"""Passes over the golden tiles: the engine and what it is held to."""
_PICTURES_NBYTES = 1_000_000
"""Of a slide in the tiles stage beside its tiles: thumbnail, overlay, mosaic; 0.86 MB of a demo slide, 0.95 to 1.35 of
three real ones."""
_ROUNDS = 1.5
"""What turns of the benchmark take, warming up included, over their seconds."""


class StagePlan(Frozen):
    """Of one stage; None where it makes no tiles, writes next to nothing, or its time is not known beforehand."""

    stage: str
    seconds: float | None
    tiles: int | None = None
    nbytes: int | None = None
    basis: str


class Plan(Frozen):
    """What was found, and what is expected of each stage, in order, `embed` last; `measured_s` is what it took."""

    slides: int
    looked_at: int
    refused: dict[str, str]
    tiles: int
    train_tiles: int
    cores: int
    start_s: float
    free_nbytes: int
    measured_s: float
    stages: tuple[StagePlan, ...]

    @property
    def nbytes(self) -> int:
        """That all stages write together."""
        return sum(stage.nbytes or 0 for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Of the pipeline, without `embed`."""
        return sum(stage.seconds or 0.0 for stage in self.stages if stage.stage != "embed")


def make_plan(params: WholeParams, store: Store, seconds: float) -> Plan:
    """Measure for about so many seconds, and say what follows.

    Raises `TableError` where the table cannot be read, `TeacherError` and `TrainingError` for what cannot be built.
    """
    began = time.monotonic()
    read = read_table(params.slides.table, params.slides.missing)
    table = Path(params.slides.table).absolute()
    looks = look_at(read.rows, table, store, params.slides, params.tiles, LOOKING * seconds)
    for refusal in read.refused:
        looks.refused[refusal.id] = refusal.reason
    importing = time.monotonic()
    from pipeline.machine.plan.speeds import student_speed, teacher_speed

    start_s = time.monotonic() - importing
    share = (1 - LOOKING) / 2 * seconds
    each = params.tokens.each
    teachers = [(one, teacher_speed(one, share / len(each))) for one in each]
    teacher = teachers[0][1]
    student = student_speed(params.student, params.tiles.tile_px, teacher, share)
    splits = resolve_splits(read.rows, params.slides.test_fraction)
    tiles, train = _tiles(looks, params, splits)
    cores, workers = usable_cores(), processes(len(read.rows), params.cluster)
    here = params.cluster.scheduler is None and params.cluster.workers != 1
    workers_s = _start_of_workers(workers) if here else 0.0
    found = _Found(looks, params, tiles, train)
    answered_N = [found.answers(one) for one in each]
    images_s = [n * speed.image_s for n, (_, speed) in zip(answered_N, teachers, strict=True)]
    held = tiles - train
    kept = round(train * params.student.train_fraction)
    epochs = params.student.epochs
    stages = (
        StagePlan(
            stage="slides",
            seconds=found.headers(_mean(looks.header_s), workers_s, workers),
            basis="headers",
        ),
        StagePlan(
            stage="tiles",
            seconds=workers_s + (found.grid * _mean(looks.look_s_a_grid_tile) + tiles * looks.tile_s) / workers,
            tiles=tiles,
            nbytes=looks.jpeg_nbytes(params.tiles.max_tiles_per_slide) + found.slides * _PICTURES_NBYTES,
            basis=f"{len(looks.read)} slides read, {workers} workers",
        ),
        StagePlan(
            stage="tokens",
            seconds=start_s + sum(speed.before_s for _, speed in teachers) + sum(images_s),
            tiles=tiles,
            nbytes=sum(_token_nbytes(one, train, held, speed.tokens, speed.width) for one, speed in teachers),
            basis=_of_teachers([speed for _, speed in teachers], answered_N),
        ),
        StagePlan(
            stage="student",
            seconds=start_s + epochs * kept * student.train_s,
            tiles=epochs * kept,
            basis=f"{student.train_s * 1000:.3g} ms a tile, {epochs} epochs; targets and augmentation besides",
        ),
        StagePlan(
            stage="evaluate",
            seconds=start_s + 2 * tiles * student.answer_s + found.robustness(teacher.image_s + student.answer_s),
            tiles=tiles,
            basis="passes of the student, its untrained twin and the robustness test; probes and data sets besides",
        ),
        StagePlan(stage="benchmark", seconds=start_s + found.benchmark(), basis="its turns; starting models besides"),
        StagePlan(stage="report", seconds=None, basis="seconds; 0.1 s a slide where there are many"),
        StagePlan(
            stage="embed",
            seconds=(found.grid * _mean(looks.look_s_a_grid_tile) + tiles * looks.tile_s) / cores
            + tiles * student.answer_s,
            tiles=tiles,
            nbytes=tiles * teacher.width * 4,
            basis="reading as in `tiles`, the student in eager; ONNX Runtime and OpenVINO are faster",
        ),
    )
    return Plan(
        slides=found.slides,
        looked_at=len(looks.read),
        refused=looks.refused,
        tiles=tiles,
        train_tiles=train,
        cores=cores,
        start_s=start_s,
        free_nbytes=free_bytes(store.root),
        measured_s=time.monotonic() - began,
        stages=stages,
    )


class _Found:
    """What the measurement is multiplied by."""

    def __init__(self, looks: Looks, params: WholeParams, tiles: int, train: int) -> None:
        self._params, self._tiles, self._train = params, tiles, train
        known = len(looks.slides)
        self.slides = known + looks.unread
        self.grid = round(sum(look.grid for look in looks.slides) * self.slides / max(1, known))

    def answers(self, tokens: TokensParams) -> int:
        """Images that the teacher is asked about: views of train tiles, the others once, calibration, the gate."""
        calibration = 0 if tokens.patch == "none" else min(tokens.calibration_tiles, self._train)
        gate = _GATES * min(tokens.gate.tiles, self._tiles)
        return self._train * tokens.n_views + (self._tiles - self._train) + calibration + gate

    def headers(self, header_s: float, workers_s: float, workers: int) -> float:
        """Seconds of all headers: few slides are looked at by threads of the stage itself, and no worker is started."""
        if self.slides > FEW:
            return workers_s + self.slides * header_s / workers
        return self.slides * header_s / threads_of_few()

    def robustness(self, image_s: float) -> float:
        """Seconds of the perturbed tiles, of which there are a dozen kinds, for both models."""
        return 12 * min(self._params.evaluate.robustness_tiles, self._tiles - self._train) * image_s

    def benchmark(self) -> float:
        """Seconds of all turns."""
        told = self._params.benchmark
        cells = 2 * len(told.engines) * len(told.precisions) * len(told.devices) * len(set(told.batch_sizes))
        return cells * told.seconds * _ROUNDS


def _tiles(looks: Looks, params: WholeParams, splits: dict[str, str]) -> tuple[int, int]:
    """(all tiles, those of train slides), slides whose headers were not read counted as the mean."""
    by_slide = {look.row.slide_id: looks.tiles(look, params.tiles.max_tiles_per_slide) for look in looks.slides}
    scale = (len(by_slide) + looks.unread) / max(1, len(by_slide))
    train = sum(n for slide, n in by_slide.items() if splits[slide] == TRAIN)
    return round(scale * sum(by_slide.values())), round(scale * train)


def _token_nbytes(tokens: TokensParams, train: int, held: int, cells: int, width: int) -> int:
    from pipeline.tokens.item.writer import tile_nbytes

    def of(params: TokensParams) -> int:
        return tile_nbytes(params.patch, params.n_views, cells, width) + fields_nbytes(params)

    return train * of(tokens) + held * of(tokens.one_view)


def _of_teachers(speeds: Sequence[TeacherSpeed], answered_N: Sequence[int]) -> str:
    if len(speeds) == 1:
        return f"{speeds[0].image_s * 1000:.3g} ms an image of the teacher in eager, {answered_N[0]} images"
    told = [f"{one.name} {one.image_s * 1000:.3g} ms, {n}" for one, n in zip(speeds, answered_N, strict=True)]
    return f"an image of each teacher in eager, and images: {'; '.join(told)}"


def _start_of_workers(workers: int) -> float:
    """Seconds until local workers are there and have imported what a stage's work needs: tried."""
    start = time.monotonic()
    with local(workers) as client:
        client.run(_imported)
    return time.monotonic() - start


def _imported() -> str:
    import pipeline.tiles.stage

    return pipeline.tiles.stage.__name__


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0
