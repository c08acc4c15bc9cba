from __future__ import annotations

from pathlib import Path
from typing import Any

from made.items import student_manifest

from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.params.student import ObjectiveParams, StudentParams
from pipeline.report.card_figures import figures, write_card

INTERVAL = [0.81, 0.9]
ROW = {"accuracy": 0.85, "balanced_accuracy": 0.854, "interval": INTERVAL}
PROBE = {"teacher": ROW, "student": ROW, "untrained": ROW, "retention": {"value": 0.97, "interval": [0.95, 0.99]}}
PROBES = {
    "knn": PROBE,
    "linear": PROBE,
    "head_transfer": {"teacher": ROW, "student": ROW, "retention": None},
    "majority": {**ROW, "balanced_accuracy": 0.333, "interval": [0.333, 0.333]},
    "n": 1000,
}
FIDELITY = {"cosine": 0.44, "cosine_interval": [0.42, 0.46], "n": 900}
RUN = student_manifest(
    loss={"loss": 1.0, "cls": 1.0},
    student=StudentParams(epochs=2, objective=ObjectiveParams(patch=0)).model_dump(mode="json"),
)


def evaluated(**summary: Any) -> EvaluateManifest:
    return EvaluateManifest(summary={"fidelity": None, "probes": None, **summary})


def test_every_figure_stands_with_its_interval() -> None:
    text = figures(evaluated(fidelity={"test": FIDELITY}, probes={"test": PROBES}, warnings=["few slides"]))
    assert "| test, 900 tiles | standardised cosine | 1 | 0.440 [0.420, 0.460] | – | – | – |" in text
    row = "| test, 1000 tiles | kNN | " + "0.854 [0.810, 0.900] | " * 3
    assert f"{row}0.333 [0.333, 0.333] | 0.970 [0.950, 0.990] |" in text
    assert "| teacher | student | untrained | majority | kept |" in text and "flatter" not in text
    assert text.count("\n| ") == 6 and "- few slides" in text


def test_a_student_that_was_trained_on_the_test_is_named_above_its_figures() -> None:
    text = figures(evaluated(fidelity={"test": FIDELITY}, trained_on_test=["slide c", "crc, test: 3 of its images"]))
    alarm = "**The student was trained on some of these: slide c; crc, test: 3 of its images."
    assert text.index(alarm) < text.index("| held-out |")


def test_labelled_sets_follow_the_slides() -> None:
    text = figures(evaluated(sets={"crc": {"shift": {"fidelity": None, "probes": PROBES}}}))
    assert "| crc, shift, 1000 tiles | linear probe |" in text


def test_nothing_held_out_is_said() -> None:
    assert "Nothing was held out" in figures(evaluated())


def test_the_card_is_the_students_with_its_figures(tmp_path: Path) -> None:
    found = evaluated(fidelity={"test": FIDELITY})
    write_card(RUN, found, tmp_path / "card.md")
    card = (tmp_path / "card.md").read_text()
    assert figures(found) in card and card.startswith("---\nlibrary_name: timm") and "cls x 1" in card
