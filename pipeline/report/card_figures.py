"""The student's model card with the figures that the evaluation found: reports/model_card.md.

The student stage writes the card beside the weights before anything is evaluated, and what it wrote stays as it is;
here the same card is written again with its section `Figures`. To publish the student, put this one in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.base.files import write_atomic
from pipeline.base.items import StudentManifest
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.evaluate.tables import PROBES
from pipeline.report.details import ACCURACY_COLUMNS
from pipeline.student.card import FIGURES, model_card

INTRO = """\
On tiles that the student was not trained on, teacher and student under one protocol; 95 % intervals in brackets. Kept:
the student's balanced accuracy over the teacher's. Standardised cosine: of centred embeddings, each channel in units of
the teacher's own deviation (0 is what predicting the mean scores).
"""
MISSING = "Nothing was held out, so nothing was measured: give slides the split `test` in the slide table.\n"


def write_card(student: StudentManifest, evaluate: EvaluateManifest, out: Path) -> None:
    """Write the card of the run in `student` with the figures of `evaluate`, atomically."""
    write_atomic(out, model_card(student.summary, figures(evaluate)).encode())


def figures(evaluate: EvaluateManifest) -> str:
    """The section `Figures`, Markdown."""
    rows = [row for name, found in _measured(evaluate) for row in _rows(name, found)]
    if not rows:
        return f"{FIGURES}\n\n{MISSING}"
    columns = ("held-out", "measure", *ACCURACY_COLUMNS, "kept")
    header = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    seen = evaluate.summary.get("trained_on_test", [])
    alarm = [f"**The student was trained on some of these: {'; '.join(seen)}. Its figures there flatter it.**", ""]
    remarks = [f"- {remark}" for remark in evaluate.summary.get("warnings", [])]
    body = [INTRO, *(alarm if seen else []), *header, *rows, *([""] if remarks else []), *remarks]
    return "\n".join([FIGURES, "", *body]) + "\n"


def _measured(evaluate: EvaluateManifest) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, {fidelity, probes}) of every held-out split, then of every labelled data set."""
    fidelity, probes = (evaluate.summary.get(kind) or {} for kind in ("fidelity", "probes"))
    for split in sorted({*fidelity, *probes}):
        yield split, {"fidelity": fidelity.get(split), "probes": probes.get(split)}
    for name, splits in (evaluate.summary.get("sets") or {}).items():
        for split, found in splits.items():
            yield f"{name}, {split}", found


def _rows(name: str, found: dict[str, Any]) -> Iterator[str]:
    if fidelity := found.get("fidelity"):
        cosine = _spanned(fidelity["cosine"], fidelity["cosine_interval"])
        yield f"| {name}, {fidelity['n']} tiles | standardised cosine | 1 | {cosine} | – | – | – |"
    if probes := found.get("probes"):
        for kind, title in PROBES.items():
            row, kept = {**probes[kind], "majority": probes["majority"]}, probes[kind]["retention"]
            cells = [
                _spanned(row[name]["balanced_accuracy"], row[name]["interval"]) if name in row else "–"
                for name in ACCURACY_COLUMNS
            ]
            cells.append(_spanned(kept["value"], kept["interval"]) if kept else "–")
            yield f"| {name}, {probes['n']} tiles | {title} | {' | '.join(cells)} |"


def _spanned(value: float, interval: list[float] | None) -> str:
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
