from __future__ import annotations

from pathlib import Path

from made.figures import accuracies, accuracy, figure, likeness, probes
from made.items import student_manifest

from pipeline.base.figures import NotMeasured
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.evaluate.summary import EvaluateSummary, SetFigures
from pipeline.measures.split_figures import SplitFigures, Standard
from pipeline.params.student import ObjectiveParams, StudentParams
from pipeline.report.card_figures import figures, write_card

NONE = NotMeasured(why="not asked for")
KEPT = accuracies(0.854, 0.854, 0.854).model_copy(
    update={"majority": accuracy(0.333), "retention": figure(0.97, 0.95, 0.99)}
)
SPLIT = SplitFigures(
    standard=Standard(of="slides", tiles=9), fidelity=likeness(0.44), patch=NONE, structure=NONE, probes=NONE
)
PROBED = SPLIT.model_copy(update={"probes": probes(knn=KEPT)})
RUN = student_manifest(
    loss={"loss": 1.0, "cls": 1.0},
    student=StudentParams(epochs=2, objective=ObjectiveParams(patch=0)).model_dump(mode="json"),
)


def evaluated(split: SplitFigures | None = None, **more: object) -> EvaluateSummary:
    """Of one split `test`, where it is given."""
    splits = {"test": split} if split else {}
    held = EvaluateSummary(protocol="histill", teacher="t", student="s", primary="test", splits=splits, robustness=NONE)
    return held.model_copy(update=more)


def test_every_figure_stands_with_its_interval() -> None:
    text = figures(evaluated(PROBED, cautions=("few slides",)))
    assert "| test, 100 tiles | standardised cosine | 1 | 0.440 [0.420, 0.460] | – | – | – | – | – |" in text
    row = "| test, 100 tiles | kNN | " + "0.854 [0.814, 0.894] | " * 3
    assert f"{row}0.333 [0.293, 0.373] | 0.880 [0.800, 0.950] | 0.970 [0.950, 0.990] |" in text
    assert (
        "| teacher | student | untrained | majority | of the way | kept | untrained keeps |" in text
        and "flatter" not in text
    )
    assert text.count("\n| ") == 6 and "- few slides" in text


def test_what_is_kept_of_a_teacher_that_gets_nothing_right_is_not_a_number() -> None:
    nothing = KEPT.model_copy(update={"retention": NotMeasured(why="the teacher gets nothing right")})
    found = SPLIT.model_copy(update={"probes": probes(knn=nothing)})
    assert "0.333 [0.293, 0.373] | 0.880 [0.800, 0.950] | – | – |" in figures(evaluated(found))


def test_a_student_that_was_trained_on_the_test_is_named_above_its_figures() -> None:
    crc = SetFigures(splits={}, trained_on=("crc, test: 3 of its images",))
    text = figures(evaluated(SPLIT, learnt_slides=("c",), sets={"crc": crc}))
    alarm = "**The student was trained on some of these: slide c; crc, test: 3 of its images."
    assert text.index(alarm) < text.index("| held-out |")


def test_labelled_sets_follow_the_slides() -> None:
    sets = {"crc": SetFigures(splits={"shift": PROBED}, cautions=("shift: few images",))}
    text = figures(evaluated(SPLIT, sets=sets, cautions=("few slides",)))
    assert text.index("| test, 100 tiles |") < text.index("| crc, shift, 100 tiles | linear probe |")
    assert text.index("- few slides") < text.index("- crc, shift: few images")


def test_nothing_held_out_is_said() -> None:
    assert "Nothing was held out" in figures(evaluated())


def test_the_card_is_the_students_with_its_figures(tmp_path: Path) -> None:
    found = EvaluateManifest(summary=evaluated(SPLIT))
    write_card(RUN, found, tmp_path / "card.md")
    card = (tmp_path / "card.md").read_text()
    assert figures(found.summary) in card and card.startswith("---\nlibrary_name: timm") and "cls x 1" in card
