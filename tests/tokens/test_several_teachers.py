"""Several teachers of the same tiles: each as it would be alone, and computed once whoever else is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from made.items import tokens_item
from made.teacher import TINY
from made.tiles import tiles_json
from safetensors.torch import save_file

from pipeline.base.errors import TeacherError
from pipeline.base.items import TokensManifest
from pipeline.base.manifest import Refusal
from pipeline.base.store import Ref, Store
from pipeline.params.tokens import TokensParams
from pipeline.tokens.item.reader import TokenReader
from pipeline.tokens.several import require_each_once, together
from pipeline.tokens.stage import make_tokens
from stages.tokens import Params, run

WIDER = {**TINY, "embed_dim": 32, "patch_size": 16}


@pytest.fixture
def both(tiny_params: TokensParams, tmp_path: Path) -> TokensParams:
    """The tiny teacher, and a wider one with fewer patch tokens, of which only the CLS is kept."""
    torch.manual_seed(1)
    weights = tmp_path / "wider.safetensors"
    save_file(timm.create_model("vit_small_patch16_224", num_classes=0, **WIDER).state_dict(), weights)
    second = {"teacher": "vit_small_patch16_224", "weights": str(weights), "model_kwargs": WIDER, "patch": "none"}
    return TokensParams.model_validate({**tiny_params.model_dump(), "also": [second]})


def stage(params: TokensParams, store: Store) -> TokensManifest:
    """What the stage makes of artifacts/tiles.json, read back from its file."""
    run(Params(tokens=params), store).save("artifacts/tokens.json")
    return TokensManifest.load("artifacts/tokens.json")


def test_a_further_teacher_computes_its_own_answers_alone(
    both: TokensParams, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiles = tiles_json(store, {"a": 11, "b": 5})
    tiles.save("artifacts/tiles.json")
    first, second = both.each
    alone = stage(first, store)
    assert '"also"' not in Path("artifacts/tokens.json").read_text()
    written = {path: path.stat().st_mtime_ns for path in store.root.rglob("*") if path.is_file()}
    found = stage(both, store)
    assert all(path.stat().st_mtime_ns == then for path, then in written.items())
    own = found.model_dump(mode="json")
    assert own.pop("also") and own["uses"] != alone.model_dump(mode="json")["uses"]
    assert own | {"uses": []} == alone.model_dump(mode="json") | {"uses": []}
    # The second is what it would be alone, so that either may lead and a run with one of them finds it.
    assert found.also == (make_tokens(tiles, second, store, 512),)
    assert stage(second, store).recipe_key == found.also[0].recipe_key
    reader = TokenReader(store.path(Ref("tokens", found.also[0].recipe_key, found.also[0].item("a").key)))
    assert (reader.width, reader.grid, reader.layout, len(reader)) == (32, (2, 2), "none", 11)
    # The store keeps what the manifest names, of both.
    assert {f"tokens/{one.recipe_key}/{item.key}" for one in found.each for item in one.items} <= found.refs()
    store.require(found)


def test_a_slide_that_one_teacher_could_not_answer_is_refused_for_all() -> None:
    def answered(name: str, *ids: str, refused: str | None = None) -> TokensManifest:
        return TokensManifest(
            recipe_key=name,
            recipe={"teacher": {"name": name, "weights_digest": "0", "width": 8, "grid": [1, 1], "input_px": 32}},
            items=tuple(tokens_item(i, 3) for i in ids),
            refused=() if refused is None else (Refusal(id=refused, reason=f"{name} answers NaN"),),
        )

    found = together(
        answered("one", "c", "b"), [answered("two", "b", "c", refused="a"), answered("three", "a", "b", "c")]
    )
    assert [[item.id for item in one.items] for one in found.each] == [["b", "c"]] * 3
    assert [(refusal.id, refusal.reason) for refusal in found.refused] == [("a", "two answers NaN")]
    assert found.summary.tiles == 6


def test_the_primary_one_of_a_list_is_the_teacher_wherever_it_stands() -> None:
    third = {"name": "phikon-v2", "patch": "none"}
    marked = TokensParams.model_validate({"teachers": [{"name": "uni"}, third | {"primary": True}]})
    assert marked == TokensParams.model_validate({"teachers": [third, {"name": "uni"}]})
    assert [one.teacher for one in marked.each] == ["phikon-v2", "uni"] and marked.patch == "none"


def test_a_teacher_by_two_names_is_refused_before_anything_is_computed() -> None:
    named = {"teacher": "uni", "also": [{"teacher": "hf-hub:MahmoodLab/UNI"}]}
    with pytest.raises(TeacherError, match="uni and hf-hub:MahmoodLab/UNI are the same teacher"):
        require_each_once(TokensParams.model_validate(named).each)
    require_each_once(TokensParams.model_validate({"teacher": "uni", "also": [{"teacher": "uni2-h"}]}).each)
