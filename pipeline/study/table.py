"""A study's results as one Markdown table: each arm's mean over seeds, and its paired difference from the first arm.

Intervals are Student's t at 95 % over the seeds: they say how far another seed may land, not how another data set
would. Two arms of one seed share their tiles, their order and their initial weights, so their difference is paired.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from pipeline.base.errors import ManifestError
from pipeline.base.figures import Figure, Interval, NotMeasured
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.measures.split_figures import PROTOCOLS, Accuracies, FromLabels, Probes, SplitFigures
from pipeline.study.run import Plan

Results = Mapping[str, Mapping[int, "Probed"]]
"""{arm: {seed: figures}}."""


@dataclass(frozen=True)
class Probed:
    """The figures of one split that was probed; a run that was not has no place in the table."""

    split: SplitFigures
    probes: Probes

    def labels(self) -> dict[int, FromLabels]:
        """By labels a class, where that was asked for and could be had."""
        return {k: row for k, row in self.split.from_labels.items() if isinstance(row, FromLabels)}


@dataclass(frozen=True)
class Column:
    """One figure of the student; a `share` of the teacher's is written in percents."""

    title: str
    of: Callable[[Probed], float]
    share: bool = False


def _score(table: Accuracies) -> float:
    return table.student.balanced.value


def _kept(table: Accuracies, model: str = "student") -> float:
    return table.scores()[model].balanced.value / table.teacher.balanced.value


def _way(table: Accuracies) -> float:
    """From the untrained student (0) to the teacher (1); NaN where the teacher is no better."""
    teacher, student, untrained = (score.balanced.value for score in (table.teacher, table.student, table.untrained))
    return (student - untrained) / (teacher - untrained) if teacher > untrained else float("nan")


COLUMNS = (
    Column("cosine", lambda found: found.split.fidelity.cosine.value),
    Column("linear probe: of the way", lambda found: _way(found.probes.linear), share=True),
    Column("20-NN: of the way", lambda found: _way(found.probes.knn), share=True),
    Column("linear probe", lambda found: _score(found.probes.linear)),
    Column("kept", lambda found: _kept(found.probes.linear), share=True),
    Column("untrained keeps", lambda found: _kept(found.probes.linear, "untrained"), share=True),
    Column("20-NN", lambda found: _score(found.probes.knn)),
    Column("kept", lambda found: _kept(found.probes.knn), share=True),
    Column("untrained keeps", lambda found: _kept(found.probes.knn, "untrained"), share=True),
    Column("teacher’s head kept", lambda found: _kept(found.probes.head_transfer), share=True),
)


def _label_columns(k: int) -> tuple[Column, ...]:
    return (
        Column(f"{k} labels: distilled", lambda found: _score(found.labels()[k].accuracies)),
        Column(f"{k} labels: from labels alone", lambda found: found.labels()[k].from_labels.balanced.value),
        Column(f"{k} labels: difference", lambda found: found.labels()[k].gain.value),
    )


def results_of(plan: Plan, results: Path, split: str) -> dict[str, dict[int, Probed]]:
    """The figures of one split; runs without a result, or without probes of that split, are left out.

    Raises `ManifestError` for a result that another version of Histill wrote, and for probes by several protocols.
    """
    found: dict[str, dict[int, Probed]] = {arm: {} for arm in plan.arms}
    for run in plan.runs():
        path = results / f"{run.name}.json"
        if path.exists():
            figures = _load(path).summary.splits.get(split)
            if figures and isinstance(figures.probes, Probes):
                found[run.arm][run.seed] = Probed(figures, figures.probes)
    protocols = {figures.probes.protocol for by_seed in found.values() for figures in by_seed.values()}
    if len(protocols) > 1:
        fix = "give every arm the same evaluate.protocol and another --out"
        raise ManifestError("its arms were probed by several protocols", where=str(results), fix=fix)
    return found


def splits_of(plan: Plan, results: Path) -> list[str]:
    """The held-out splits of the runs that have a result."""
    paths = [results / f"{run.name}.json" for run in plan.runs()]
    return sorted({name for path in paths if path.exists() for name in _load(path).summary.splits})


def _load(path: Path) -> EvaluateManifest:
    try:
        return EvaluateManifest.load(path)
    except ManifestError as error:
        fix = "delete that file and give the same command again: its arm runs anew"
        raise ManifestError(error.what, where=str(path), fix=fix) from None


def markdown(found: Results, split: str) -> str:
    """The table of one split: a row an arm, `mean ± half the interval`, differences from the first arm beside it.

    Numbers of labels are columns where all results have them.
    """
    counts = [set(figures.labels()) for by_seed in found.values() for figures in by_seed.values()]
    shared_counts = sorted(set.intersection(*counts)) if counts else []
    columns = [*COLUMNS, *(column for k in shared_counts for column in _label_columns(k))]
    titles = " | ".join(column.title for column in columns)
    rows = [f"| `{split}` | seeds | {titles} |", "| --- " * (len(columns) + 2) + "|"]
    first = next(iter(found.values()), {})
    for arm, by_seed in found.items():
        cells = [_cell(map(column.of, by_seed.values()), column) for column in columns]
        rows.append(f"| {arm} | {len(by_seed)} | {' | '.join(cells)} |")
        shared = [seed for seed in by_seed if seed in first]
        if by_seed is not first and shared:
            gains = [_gain((column.of(by_seed[s]) - column.of(first[s]) for s in shared), column) for column in columns]
            rows.append(f"| – against the first | {len(shared)} | {' | '.join(gains)} |")
    return "\n".join([*rows, "", _floors(found)])


def over_seeds(values: Sequence[float]) -> Figure:
    """The mean, with Student's 95 % interval; one value has none."""
    values_S, n = np.asarray(values, dtype=np.float64), len(values)
    mean = float(values_S.mean())
    if n < 2:
        return Figure(value=mean, interval=NotMeasured(why="one seed"), n=n)
    half = float(stats.t.ppf(0.975, n - 1) * values_S.std(ddof=1) / np.sqrt(n))
    return Figure(
        value=mean, interval=Interval(low=mean - half, high=mean + half, unit="seed", units=n, method="t"), n=n
    )


def _floors(found: Results) -> str:
    """What the figures stand between: the teacher, and the student's architecture with random weights."""
    every = [figures for by_seed in found.values() for figures in by_seed.values()]
    if not every:
        return ""
    linear = _between("linear probe", [figures.probes.linear for figures in every])
    by = PROTOCOLS[every[0].probes.protocol]
    return f"{linear}; {_between('20-NN', [figures.probes.knn for figures in every])}; by {by}."


def _between(label: str, tables: Sequence[Accuracies]) -> str:
    teacher, floor = (
        float(np.mean([score.balanced.value for score in scores]))
        for scores in ([table.teacher for table in tables], [table.untrained for table in tables])
    )
    return f"{label}: teacher {teacher:.3f}, untrained student {floor:.3f}"


def _cell(values: Iterable[float], column: Column) -> str:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "–"
    figure = over_seeds(known)
    scale, digits, unit = (100, 1, " %") if column.share else (1, 3, "")
    span = figure.span
    spread = f" ± {(span.high - span.low) / 2 * scale:.{digits}f}" if span else ""
    return f"{figure.value * scale:.{digits}f}{unit}{spread}"


def _gain(values: Iterable[float], column: Column) -> str:
    text = _cell(values, column)
    return text if text.startswith("-") else f"+{text}"
