"""Evaluation looks at tiles as they are: what was trained with more views has its held-out answers from one view's."""

from __future__ import annotations

from pathlib import Path

from made.run import Made, folder_set

from pipeline.base.store import Ref, Store
from pipeline.params.evaluate import DatasetParams
from pipeline.tokens.stage import make_tokens


def asked(store: Store) -> set[Ref]:
    """What a model was run for: the teacher's tokens, the student's and its twin's embeddings."""
    return {ref for ref in store.refs() if ref.kind in ("tokens", "embeddings")}


def test_slides_and_sets_are_answered_once_for_all_numbers_of_views(fresh: Made, tmp_path: Path):
    made = fresh.copied(tmp_path / "run")
    dataset = DatasetParams(name="s", kind="folder", path=str(folder_set(tmp_path / "set", {"train": 4, "test": 3})))
    one = made.evaluate(tmp_path, dataset)
    params = made.teacher.params.model_copy(update={"views": 2})
    tokens = make_tokens(made.tiles, params, made.store, 512)
    assert tokens.recipe_key != made.tokens.recipe_key
    answered = asked(made.store)
    run = made._replace(tokens=tokens, teacher=made.teacher.__class__(params, 512))
    two = run.evaluate(tmp_path, dataset)
    assert asked(made.store) == answered
    assert two.summary.sets == one.summary.sets and two.summary.splits == one.summary.splits
    figures = [{use for use in found.uses if not use.startswith("figures/")} for found in (one, two)]
    assert figures[0] == figures[1]
