"""The student's model card with the figures that the evaluation found: reports/model_card.md.

The student stage writes the card beside the weights before anything is evaluated, and what it wrote stays as it is;
here the same card is written again with its section `Figures`. To publish the student, put this one in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.base.figures import Figure
from pipeline.base.files import write_atomic
from pipeline.base.items import StudentManifest
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.evaluate.summary import EvaluateSummary
from pipeline.measures.split_figures import PROBES, PROTOCOLS, Probes, SplitFigures
from pipeline.report.details import ACCURACY_COLUMNS
from pipeline.student.card import FIGURES, model_card

INTRO = """\
On tiles that the student was not trained on, teacher and student under one protocol, {protocol}; 95 % intervals in
brackets where there are patients or slides enough for one. Of the way: from the untrained student (0) to the teacher
(1). Kept: the student's balanced accuracy over the teacher's. Standardised cosine: of embeddings that are centred and
scaled, channel by channel, by the teacher's mean and deviation over the train tiles of the slides, of a data set over
its own (0 is what predicting that mean scores).
"""
MISSING = "Nothing was held out, so nothing was measured: give slides the split `test` in the slide table.\n"


def write_card(student: StudentManifest, evaluate: EvaluateManifest, out: Path) -> None:
    """Write the card of the run in `student` with the figures of `evaluate`, atomically."""
    write_atomic(out, model_card(student.summary, figures(evaluate.summary)).encode())


def figures(summary: EvaluateSummary) -> str:
    """The section `Figures`, Markdown."""
    rows = [row for name, found in summary.every_split() for row in _rows(name, found)]
    for teacher, splits in summary.also.items():
        rows += [row for name, found in splits.items() for row in _rows(f"{name}, in the space of {teacher}", found)]
    if not rows:
        return f"{FIGURES}\n\n{MISSING}"
    columns = ("held-out", "measure", *ACCURACY_COLUMNS, "of the way", "kept", "untrained keeps")
    header = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    seen = summary.trained_on()
    alarm = [f"**The student was trained on some of these: {'; '.join(seen)}. Its figures there flatter it.**", ""]
    remarks = [f"- {remark}" for remark in summary.every_caution()]
    body = [
        INTRO.format(protocol=PROTOCOLS[summary.protocol]),
        *(alarm if seen else []),
        *header,
        *rows,
        *([""] if remarks else []),
        *remarks,
    ]
    return "\n".join([FIGURES, "", *body]) + "\n"


def _rows(name: str, found: SplitFigures) -> Iterator[str]:
    cosine = found.fidelity.cosine
    yield f"| {name}, {cosine.n} tiles | standardised cosine | 1 | {_spanned(cosine)} | – | – | – | – | – |"
    if isinstance(found.probes, Probes):
        for kind, table in found.probes.by_kind().items():
            cells = [_spanned(table.scores()[column].balanced) for column in ACCURACY_COLUMNS]
            cells += [_spanned(one) if isinstance(one, Figure) else "–" for one in (table.way, table.retention)]
            floor = table.retention.floors.get("untrained") if isinstance(table.retention, Figure) else None
            cells.append("–" if floor is None else f"{floor:.3f}")
            yield f"| {name}, {found.probes.n} tiles | {PROBES[kind]} | {' | '.join(cells)} |"


def _spanned(figure: Figure) -> str:
    span = figure.span
    return f"{figure.value:.3f}" + (f" [{span.low:.3f}, {span.high:.3f}]" if span else "")
