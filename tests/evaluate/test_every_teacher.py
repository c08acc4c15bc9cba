"""A student of two teachers is compared with each, in its space, as a student of that one would be."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from made.run import VIT, Made, student_params
from safetensors.torch import save_file

from pipeline.base.errors import EvaluationError
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.measures.split_figures import Likeness
from pipeline.params.tokens import TokensParams
from pipeline.report.sections import teacher_rows
from pipeline.student.shipped import in_space
from pipeline.student.train import train_student
from pipeline.tokens.several import together
from pipeline.tokens.stage import make_tokens

SECOND = "vit_small_patch16_224"


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
    student, _ = train_student(made.tiles, tokens, student_params(), made.store, out=out, curve=root / "curve.csv")
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
