"""What each section of the report shows: plots with the figures that stand beside them.

Pure functions of what they are given; no torch. A section that has nothing to show is None or empty, and the page says
why.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from pipeline.base.figures import Figure
from pipeline.benchmark.results import MODELS as SIDES
from pipeline.benchmark.results import Benchmark
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.evaluate.summary import EvaluateSummary
from pipeline.evaluate.tables import SlideRow, fidelity_rows
from pipeline.measures.robustness.results import Robustness
from pipeline.measures.split_figures import PROBES, Accuracy, FromLabels, Likeness, Probes, Quartiles, UniFewShot, Width
from pipeline.report import charts
from pipeline.report.details import Row, Section, detail_rows

MOST_DOTS = 24
WAYS = ("student", "untrained", "teacher")
"""Roles of the nested numbers, the student's principal components and the teacher's, in charts."""
CURVES = {
    "loss": "together",
    "cls": "global embedding",
    "patch": "dense tokens",
    "relation": "relations",
    "nested": "nested sizes",
}
OF_SPLITS = ("cosine", "cosine, 5th percentile")
"""Figures that stand in a table of their own, one row a split."""


@dataclass(frozen=True)
class Curves:
    """One plot: a role and a name in words for each curve, and whose answers they are learnt from."""

    teacher: str
    names: Mapping[str, str]
    plot: Markup


@dataclass(frozen=True)
class Training:
    """The training curves, a plot a teacher; their `names` in words by column, and five rows of those columns."""

    plots: Sequence[Curves]
    names: Mapping[str, str]
    rows: Sequence[Mapping[str, str | float]]


def training(path: Path, teacher: str) -> Training | None:
    """The curves of training.csv; None where there is no such file or it has no row.

    Columns of further teachers end in `@` and their names; the others are the first's, `teacher`.
    """
    if not path.is_file():
        return None
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [name for name, value in rows[0].items() if value] if rows else []
    of_teacher: dict[str, list[str]] = {}
    for name in found:
        kind, _, of = name.partition("@")
        if kind in CURVES:
            of_teacher.setdefault(of or teacher, []).append(name)
    if not of_teacher:
        return None
    names = {
        name: CURVES[name.partition("@")[0]] + ("" if len(of_teacher) == 1 or name == "loss" else f", {of}")
        for of, columns in of_teacher.items()
        for name in columns
    }
    picked = sorted({round(share * (len(rows) - 1)) for share in (0, 0.25, 0.5, 0.75, 1)})
    return Training(
        [_curves(of, columns, rows) for of, columns in of_teacher.items()],
        names,
        [{"step": rows[i]["step"], **{name: float(rows[i][name]) for name in names}} for i in picked],
    )


def _curves(teacher: str, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> Curves:
    """A curve's role is the loss, whoever's it is."""
    roles = {name: name.partition("@")[0] for name in columns}
    curves = [
        (role, [(float(row["step"]), float(row[name])) for row in rows if row[name]]) for name, role in roles.items()
    ]
    label = f"Training loss by step, {teacher}"
    return Curves(teacher, {role: CURVES[role] for role in roles.values()}, charts.lines(curves, label, "step"))


@dataclass(frozen=True)
class ProbeSection:
    """The probes of one split of the slides, or of a data set."""

    where: str
    plot: Markup
    found: Probes


def probe_sections(summary: EvaluateSummary) -> list[ProbeSection]:
    """Of each split of the slides and of each data set that was probed."""
    every = {f"split {split}": found for split, found in summary.splits.items()}
    for name, of_set in summary.sets.items():
        every |= {f"{name}, split {split}": found for split, found in of_set.splits.items()}
    sections = []
    for where, found in every.items():
        probes = found.probes
        if not isinstance(probes, Probes):
            continue
        rows = []
        for kind, table in probes.by_kind().items():
            scores = table.scores().items()
            marks = [charts.Mark.of(model, score.balanced) for model, score in scores if model != "majority"]
            rows.append((PROBES[kind], marks))
        rows.append(("majority class", [charts.Mark.of("majority", probes.linear.majority.balanced)]))
        label = f"Balanced accuracy of teacher, student and untrained student on {where}"
        sections.append(ProbeSection(where, charts.dots(rows, label, "balanced accuracy", 0.0, 1.0), probes))
    return sections


@dataclass(frozen=True)
class TeacherRow:
    """One teacher on the leading split: cosines to it, and the probes of its answers and the student's in its space."""

    teacher: str
    cosine: Figure
    patch: Figure | None
    probes: Probes | None


def teacher_rows(summary: EvaluateSummary) -> list[TeacherRow]:
    """A row each of several teachers; none of one, whose figures the other sections have."""
    rows = []
    for teacher, splits in summary.by_teacher().items():
        if (found := splits.get(summary.primary or "")) is not None and summary.also:
            patch = found.patch.cosine if isinstance(found.patch, Likeness) else None
            probes = found.probes if isinstance(found.probes, Probes) else None
            rows.append(TeacherRow(teacher, found.fidelity.cosine, patch, probes))
    return rows


@dataclass(frozen=True)
class EpisodeRow:
    """Few shots on one split by UNI's protocol: balanced accuracy of each model over the episodes."""

    where: str
    shots: int
    episodes: int
    balanced: Mapping[str, Quartiles]


def episode_rows(summary: EvaluateSummary) -> list[EpisodeRow]:
    """Of every split and data set, for each number of shots."""
    return [
        EpisodeRow(where, shots, few.episodes, few.balanced)
        for where, split in summary.every_split()
        for shots, few in sorted(split.few_shot.items())
        if isinstance(few, UniFewShot)
    ]


def standards(summary: EvaluateSummary) -> dict[str, int]:
    """Of each data set, the tiles of its own split train that its cosines are standardised by."""
    return {
        name: next(iter(found.splits.values())).standard.tiles for name, found in summary.sets.items() if found.splits
    }


@dataclass(frozen=True)
class SlideSection:
    """The per-slide plot, the slides that it shows, and those beyond."""

    plot: Markup
    rows: Sequence[SlideRow]
    more: Sequence[SlideRow]


def slide_fidelity(evaluate: EvaluateManifest) -> SlideSection | None:
    """Of the worst slides where there are many."""
    rows = sorted(fidelity_rows(evaluate), key=lambda row: (row.cosine, row.slide))
    if not rows:
        return None
    worst = rows[:MOST_DOTS]
    low = min(0.0, *(row.cosine_p5 for row in worst))
    marks = [(row.slide, [charts.Mark("student", row.cosine, row.cosine_p5, row.cosine)]) for row in worst]
    label = "Standardised cosine to the teacher by held-out slide"
    axis_label = "mean, and down to the 5th percentile"
    return SlideSection(charts.dots(marks, label, axis_label, low, 1.0), worst, rows[MOST_DOTS:])


def figures_of(summary: EvaluateSummary) -> dict[Section, list[Row]]:
    """{section: rows}, see details.py; without what the table of the splits' cosines shows."""
    sections: dict[Section, list[Row]] = {"fidelity": [], "downstream": [], "robustness": []}
    for row in detail_rows(summary):
        if not (row.where in summary.splits and row.what in OF_SPLITS):
            sections[row.section].append(row)
    return sections


@dataclass(frozen=True)
class LabelRow:
    """What `k` labels a class are worth on one split; `gains` are student minus from_labels, a draw each."""

    where: str
    k: int
    scores: Mapping[str, Accuracy]
    gain: Figure
    gains: Sequence[float]


def label_rows(summary: EvaluateSummary) -> list[LabelRow]:
    """Of every split and data set, for each number of labels a class; see evaluate/labels/from_labels.py."""
    rows = []
    for where, split in summary.every_split():
        for k, found in sorted(split.from_labels.items()):
            if isinstance(found, FromLabels):
                both = zip(found.by_draw["student"], found.by_draw["from_labels"], strict=True)
                scores = found.accuracies.scores() | {"from_labels": found.from_labels}
                rows.append(LabelRow(where, k, scores, found.gain, [own - alone for own, alone in both]))
    return rows


@dataclass(frozen=True)
class WidthRow:
    """`k` numbers a tile on one split: what a million tiles take in float32, and each way to have them."""

    where: str
    k: int
    gigabytes: float
    found: Width


def width_rows(summary: EvaluateSummary) -> list[WidthRow]:
    """Of every split and data set, for each nested size."""
    return [
        WidthRow(where, k, 4 * k / 1000, found)
        for where, split in summary.every_split()
        for k, found in sorted(split.nested.items())
    ]


def width_plot(rows: Sequence[WidthRow]) -> Markup | None:
    """The cosine that each way to have so few numbers keeps, of the first splits and sets; None without any."""
    shown = rows[:MOST_DOTS]
    if not shown:
        return None
    alone = len({row.where for row in shown}) == 1
    marks = []
    for row in shown:
        ways = zip(WAYS, (row.found.nested, row.found.student_pca, row.found.teacher_pca), strict=True)
        name = str(row.k) if alone else f"{row.where}, {row.k}"
        marks.append((name, [charts.Mark.of(role, code.cosine) for role, code in ways]))
    low = min(0.0, *(mark.value if mark.low is None else mark.low for _, own in marks for mark in own))
    return charts.dots(marks, "What so many numbers a tile keep of the teacher", "cosine", low, 1.0)


def robustness_plot(summary: EvaluateSummary) -> Markup | None:
    """Agreement of teacher and student under each change, on one scale."""
    if not isinstance(summary.robustness, Robustness):
        return None
    rows = [
        (name, [charts.Mark.of("teacher", found.teacher), charts.Mark.of("student", found.student)])
        for name, found in summary.robustness.changes.items()
    ]
    low = min(0.0, *(mark.low or 0.0 for _, marks in rows for mark in marks))
    return charts.dots(rows, "Agreement of teacher and student with themselves", "agreement", low, 1.0)


@dataclass(frozen=True)
class SpeedupRow:
    """Tiles/s of both in one engine, precision and device, each at its best batch, and the student's over the other."""

    where: str
    teacher: float
    student: float
    ratio: Figure


def speedups(benchmark: Benchmark) -> list[SpeedupRow]:
    """The leading engine first."""
    rows = []
    for i, speedup in enumerate(benchmark.speedups):
        teacher, student = (benchmark.cell(model, speedup.place).best.tiles_per_s for model in SIDES)
        where = ", ".join(speedup.place if i else speedup.place[:2])
        rows.append(SpeedupRow(where, teacher, student, speedup.ratio))
    return rows
