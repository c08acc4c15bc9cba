"""`histill report --compare EXP ...`: students of several experiments side by side, one self-contained page.

What is compared are the manifests that each branch's or experiment's dvc.lock names (students.py). Figures of other
held-out slides or of another teacher stand there too, but the page says that they do not compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from pipeline.base.errors import EvaluationError
from pipeline.base.figures import Figure, NotMeasured
from pipeline.base.files import write_atomic
from pipeline.base.items import StudentManifest
from pipeline.base.types import Json
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.benchmark.results import Benchmark
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.evaluate.summary import EvaluateSummary
from pipeline.measures.split_figures import PROBES, Probes
from pipeline.report import charts, verdict
from pipeline.report.across.pareto import MEASURES, Pareto, ParetoRow, pareto, time_interval
from pipeline.report.across.students import WORKSPACE, Known, Study, gather
from pipeline.report.details import detail_rows
from pipeline.report.page import render


@dataclass(frozen=True)
class Compared:
    """The experiments of a page, as shown, and the teacher and students of its plot."""

    names: list[str]
    rows: tuple[ParetoRow, ...]


def compare_experiments(root: Path, names: Sequence[str], out: Path) -> Compared:
    """Write the page of these experiments (of all, where none is named) to `out`.

    Raises `EvaluationError` for a name that no branch or experiment with results has, and where there is nothing, and
    `ManifestError` for results that another version of Histill wrote; where none is named, those are left out.
    """
    known = chosen(root, names)
    if known.unread and (names or not known.studies):
        raise next(iter(known.unread.values()))
    compared, studies = pareto(known), known.studies
    page = render(
        "compare.html",
        studies=studies,
        left_out=compared.left_out,
        plot=front_plot(compared),
        what=MEASURES[compared.measure] if compared.measure else None,
        measure=compared.measure,
        plotted=compared.rows,
        settings=settings(studies),
        costs=costs(studies),
        figures=figures(studies),
    )
    write_atomic(out, page)
    return Compared([study.name for study in studies], compared.rows)


def chosen(root: Path, names: Sequence[str]) -> Known:
    """The students of those names, in that order; all of them where there are no names."""
    here = workspace(root) if not names or WORKSPACE in names else None
    known = gather(root, here)
    by_name = {study.name: study for study in known.studies}
    every = [*by_name, *known.unread]
    unknown = [name for name in names if name not in every]
    if unknown or not every:
        what = f"no results are known of {', '.join(unknown) or 'any experiment'}"
        fix = f"known: {', '.join(every) or 'none'}; `dvc exp show` lists experiments, equal ones are taken once"
        raise EvaluationError(what, where=str(root), fix=fix)
    if not names:
        return known
    named = list(dict.fromkeys(names))
    return Known(
        tuple(by_name[name] for name in named if name in by_name),
        {name: known.unread[name] for name in named if name in known.unread},
    )


def workspace(root: Path) -> Study | None:
    """The checkout's own results, where they are all there."""
    evaluate, benchmark, student = (root / "artifacts" / f"{s}.json" for s in ("evaluate", "benchmark", "student"))
    if not (evaluate.is_file() and benchmark.is_file() and student.is_file()):
        return None
    made = EvaluateManifest.load(evaluate), BenchmarkManifest.load(benchmark)
    return Study(WORKSPACE, *made, StudentManifest.load(student))


def front_plot(compared: Pareto) -> Markup | None:
    """Accuracy against time, every student named; None where no accuracy was measured."""
    measure = compared.measure
    if measure is None:
        return None
    points = [
        charts.Point("teacher" if row is compared.teacher else "student", row.name, row.relative_time, value)
        for row in compared.rows
        if (value := row.accuracy(measure)) is not None
    ]
    front = sorted((row.relative_time, row.accuracy(measure) or 0.0) for row in compared.rows if row.on_front)
    what = MEASURES[measure]
    label = f"{what} against the time of a tile, as a share of the teacher’s"
    return charts.scatter(points, label, "time a tile, teacher = 1 (logarithmic)", what, front)


@dataclass(frozen=True)
class Setting:
    """One parameter, and its value in each experiment."""

    name: str
    values: Sequence[Json]


def settings(studies: Sequence[Study]) -> list[Setting]:
    """Parameters of the student that are not the same everywhere."""
    recipes = [_flat(study.student.summary.student if study.student else {}) for study in studies]
    names = dict.fromkeys(name for recipe in recipes for name in recipe)
    rows = [Setting(name, [recipe.get(name) for recipe in recipes]) for name in names]
    return [row for row in rows if any(value != row.values[0] for value in row.values)]


def costs(studies: Sequence[Study]) -> list[Setting]:
    """The student's size and speed, as texts."""
    rows: list[tuple[str, Callable[[Study], str]]] = [
        ("parameters", lambda study: verdict.quantity(study.benchmark.summary.models["student"].params)),
        ("GMAC a tile", lambda study: verdict.digits(study.benchmark.summary.models["student"].gmacs)),
        ("tiles/s, best batch", lambda study: verdict.digits(study.benchmark.summary.lead("student").best.tiles_per_s)),
        ("slides an hour, reading included", lambda study: _whole(study.benchmark.summary)),
        ("time a tile, teacher = 1", lambda study: _share(study.benchmark.summary)),
        ("measured on", lambda study: study.timed_on),
    ]
    return [Setting(name, [tell(study) if study.timed else "–" for study in studies]) for name, tell in rows]


def _whole(speed: Benchmark) -> str:
    """The student's, with its interval where the run has one."""
    if isinstance(speed.whole, NotMeasured):
        return "–"
    figure = speed.whole["student"].an_hour
    ends = f" ({verdict.digits(figure.span.low)}–{verdict.digits(figure.span.high)})" if figure.span else ""
    return f"{verdict.digits(figure.value)}{ends}"


def _share(speed: Benchmark) -> str:
    """The student's time as a share of the teacher's, with its interval where the run has one."""
    low, high = time_interval(speed)
    ends = f" ({verdict.digits(low)}–{verdict.digits(high)})" if low and high else ""
    return f"{verdict.digits(1 / speed.speedup.value)}{ends}"


@dataclass(frozen=True)
class Cell:
    """A figure of one student, how far it comes from an untrained network to the teacher, and what both keep."""

    figure: Figure
    way: float | None
    kept: float | None
    untrained: float | None


@dataclass(frozen=True)
class FigureRow:
    """One figure of every student; None where it has none."""

    name: str
    cells: Sequence[Cell | None]


def figures(studies: Sequence[Study]) -> list[FigureRow]:
    """Every figure of the students."""
    found = [dict(_cells(study.evaluate.summary)) if study.evaluated else {} for study in studies]
    names = dict.fromkeys(name for cells in found for name in cells)
    return [FigureRow(name, [cells.get(name) for cells in found]) for name in names]


def _cells(summary: EvaluateSummary) -> Iterator[tuple[str, Cell]]:
    for split, found in summary.splits.items():
        if isinstance(found.probes, Probes):
            for kind, table in found.probes.by_kind().items():
                yield (
                    f"{found.probes.named(PROBES[kind])}, {split}",
                    _cell(table.student.balanced, table.way, table.retention),
                )
    for row in detail_rows(summary):
        if "student" in row.cells:
            yield f"{row.what}, {row.where}", _cell(row.cells["student"], row.cells.get("way"), row.cells.get("kept"))


def _cell(figure: Figure, way: Figure | NotMeasured | None, kept: Figure | NotMeasured | None) -> Cell:
    untrained = kept.floors.get("untrained") if isinstance(kept, Figure) else None
    return Cell(figure, _value(way), _value(kept), untrained)


def _value(figure: Figure | NotMeasured | None) -> float | None:
    return figure.value if isinstance(figure, Figure) else None


def _flat(tree: Mapping[str, Json], prefix: str = "") -> dict[str, Json]:
    flat: dict[str, Json] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
