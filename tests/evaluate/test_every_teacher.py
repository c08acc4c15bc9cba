"""A student of two teachers, with nested sizes, is compared with each in its space, as a student of that one would be,
and stands in the report with all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch
from made.items import slide_item
from made.run import VIT, Made, student_params
from safetensors.torch import save_file

from pipeline.base.errors import EvaluationError
from pipeline.base.items import SlidesManifest
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.measures.split_figures import Likeness
from pipeline.params.report import ReportParams
from pipeline.params.tokens import TokensParams
from pipeline.report.across.pareto import Pareto
from pipeline.report.page import Manifests, build_report
from pipeline.report.sections import teacher_rows
from pipeline.student.shipped import in_space
from pipeline.student.train import train_student
from pipeline.tokens.several import together
from pipeline.tokens.stage import make_tokens

SECOND, SIZES = "vit_small_patch16_224", (4, 8)


@pytest.fixture(scope="module")
def both(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The room's run with a second, wider teacher, and a student of both."""
    root = tmp_path_factory.mktemp("both")
    torch.manual_seed(3)
    wider = {**VIT, "embed_dim": 32}
    weights = root / "second.safetensors"
    save_file(timm.create_model(SECOND, num_classes=0, **wider).state_dict(), weights)
    params = TokensParams(
        teacher=SECOND, weights=str(weights), model_kwargs=wider, calibration_tiles=16, precision="fp32"
    )
    tokens = together(made.tokens, [make_tokens(made.tiles, params, made.store, 512)])
    out = root / "student"
    asked, curve = student_params().model_copy(update={"nested": SIZES}), root / "plots" / "training.csv"
    student, _ = train_student(made.tiles, tokens, asked, made.store, out=out, curve=curve)
    return made._replace(tokens=tokens, student=student, folder=out)


def test_each_teachers_figures_are_those_of_its_own_space(both: Made, tmp_path: Path) -> None:
    found = both.evaluate(tmp_path / "plots")
    found.save(tmp_path / "evaluate.json")
    assert EvaluateManifest.load(tmp_path / "evaluate.json") == found.model_copy(update={"timings": {}})
    alone = both._replace(tokens=both.tokens.model_copy(update={"also": ()})).evaluate(tmp_path / "alone")
    second = both._replace(tokens=both.tokens.also[0], folder=in_space(both.folder, SECOND))
    of_second = second.evaluate(tmp_path / "second")
    assert found.summary.splits == alone.summary.splits
    assert found.summary.also == {SECOND: of_second.summary.splits}
    assert isinstance(of_second.summary.splits["test"].patch, Likeness)
    # What the first teacher's figures are called in the metrics does not depend on others.
    numbers = found.numbers()
    assert alone.numbers().items() <= numbers.items()
    assert {f"{SECOND}_{name}": value for name, value in of_second.numbers().items()} == {
        name: value for name, value in numbers.items() if name not in alone.numbers()
    }
    assert "also" not in alone.model_dump(mode="json")["summary"]
    rows = teacher_rows(found.summary)
    assert [row.teacher for row in rows] == [both.tokens.teacher.name, SECOND] and not teacher_rows(alone.summary)
    assert all(row.probes is not None and row.patch is not None for row in rows)


def test_a_student_that_has_not_learnt_from_a_teacher_is_no_student_of_it(
    both: Made, made: Made, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match=rf"(?s)space of {SECOND}.*dvc repro student"):
        made._replace(tokens=both.tokens).evaluate(tmp_path / "plots")


def test_the_report_shows_each_teachers_losses_and_what_each_size_keeps(
    both: Made, manifests: Manifests, compared: Pareto, tmp_path: Path
) -> None:
    found = both.evaluate(tmp_path / "maps")
    catalogue = {"width_px": 256, "height_px": 256, "mpp": (0.5, 0.5)}
    slides = [slide_item(item.id, item.split, key=item.key, **catalogue) for item in both.tiles.items]
    here: Manifests = {**manifests, "slides": SlidesManifest(items=tuple(slides)), "evaluate": found}
    here |= {"tiles": both.tiles, "tokens": both.tokens, "student": both.student}
    here["benchmark"] = here["benchmark"].model_copy(update={"recipe": {}})
    build_report(here, ReportParams(), both.store, compared, tmp_path / "report.html", both.folder.parent / "plots")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for name in ("Global embedding, vit_tiny_patch16_224", f"Dense tokens, {SECOND}", "Nested sizes"):
        assert name in text
    assert text.count('aria-label="Training loss by step') == 2
    (shown,) = re.findall(r'aria-label="What so many numbers a tile keep.*?</svg>', text, re.S)
    for size in SIZES:
        width = found.summary.splits["test"].nested[size]
        assert width.nested.cosine.value <= 1 and width.teacher_pca.cosine.value > width.student_pca.cosine.value
        assert re.search(rf'<th scope="row">{size}</th><td>{4 * size / 1000:.2f}</td>', text)
        assert f">{size}</text>" in shown
    assert shown.count('class="dot teacher"') == shown.count('class="dot student"') == len(SIZES)
