"""Accuracy against the time of a tile: this run's student between its teacher, its floor and all other students."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pipeline.base.figures import Figure, Interval
from pipeline.benchmark.results import MODELS, Benchmark
from pipeline.evaluate.summary import EvaluateSummary
from pipeline.measures.split_figures import Probes
from pipeline.report import charts
from pipeline.report.across.pareto import MEASURES, Measure, Pareto, time_interval
from pipeline.report.across.students import WORKSPACE

MOST_NAMES = 8
"""Students named in the plot, beside the teacher and this run's own; the table names all."""
TITLES = {"teacher": "teacher", "student": "student", "untrained": "untrained student"}


@dataclass(frozen=True)
class TradeoffRow:
    """One model: `time` a tile as a share of the teacher's, with the ends of its interval, and its accuracy."""

    role: str
    name: str
    time: float
    time_low: float | None
    time_high: float | None
    ms: float
    value: float
    interval: Interval | None
    front: bool


@dataclass(frozen=True)
class Tradeoff:
    """The plot, `what` its accuracy is, and its points; `others` counts those of other experiments."""

    plot: Markup
    what: str
    rows: Sequence[TradeoffRow]
    others: int


def tradeoff(summary: EvaluateSummary, benchmark: Benchmark, compared: Pareto) -> Tradeoff | None:
    """Fidelity stands in where no tile has a label; None where nothing is held out."""
    measure, values = _values(summary)
    if not values:
        return None
    own = _own(values, benchmark, compared, measure)
    others = [
        TradeoffRow(
            role="other",
            name=f"{row.name}, {row.student}",
            time=row.relative_time,
            time_low=row.time_low,
            time_high=row.time_high,
            ms=row.ms_a_tile,
            value=value,
            interval=None,
            front=row.on_front,
        )
        for row in compared.students
        if row.name != WORKSPACE and (value := row.accuracy(measure)) is not None
    ]
    rows, what = [*own, *others], MEASURES[measure]
    named = [row.name for row in others if row.front][:MOST_NAMES]
    points = [
        charts.Point(
            row.role,
            row.name if row.role != "other" or row.name in named else "",
            row.time,
            row.value,
            row.interval.low if row.interval else None,
            row.interval.high if row.interval else None,
        )
        for row in rows
    ]
    front = sorted((row.time, row.value) for row in rows if row.front)
    label = f"{what} against the time of a tile, as a share of the teacher’s"
    plot = charts.scatter(points, label, "time a tile, teacher = 1, best batch (logarithmic)", what, front)
    return Tradeoff(plot, what, rows, len(others))


def _own(values: Mapping[str, Figure], benchmark: Benchmark, compared: Pareto, measure: Measure) -> list[TradeoffRow]:
    """This run's teacher, student and floor, with their intervals; the floor is as fast as the student."""
    ms: dict[str, float] = {name: 1e3 / benchmark.lead(name).best.tiles_per_s for name in MODELS}
    ms["untrained"] = ms["student"]
    low, high = time_interval(benchmark)
    here = next((row for row in compared.students if row.name == WORKSPACE), None)
    on_front = here.on_front if here and here.accuracy(measure) is not None else not compared.students
    return [
        TradeoffRow(
            role=name,
            name=TITLES[name],
            time=1.0 if name == "teacher" else 1 / benchmark.speedup.value,
            time_low=None if name == "teacher" else low,
            time_high=None if name == "teacher" else high,
            ms=ms[name],
            value=figure.value,
            interval=figure.span,
            front=name == "student" and on_front,
        )
        for name, figure in values.items()
    ]


def _values(summary: EvaluateSummary) -> tuple[Measure, dict[str, Figure]]:
    """What the plot's accuracy is, and each model's; empty where nothing is held out."""
    found = summary.lead
    if found is None:
        return "cosine", {}
    if isinstance(found.probes, Probes):
        scores = found.probes.linear.scores().items()
        return "linear_student", {name: score.balanced for name, score in scores if name != "majority"}
    cosine = found.fidelity.cosine
    return "cosine", {"teacher": Figure(value=1.0, n=cosine.n), "student": cosine}
