"""Manifests: deterministic, atomic, and clear about what they are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.items import TEACHER, slide_item, student_manifest, tiles_item, tokens_item

from pipeline.base.errors import ManifestError, SlideRefused
from pipeline.base.files import write_atomic, write_json
from pipeline.base.items import SlidesManifest, TilesManifest, TokensManifest
from pipeline.base.manifest import Manifest, Outline, Refusal
from pipeline.base.store import recipe_key

ids = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=6)


@given(ids=ids, data=st.data())
def test_the_file_does_not_depend_on_the_order_of_items(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("manifest")
    items = [tiles_item(name, 3) for name in ids]
    refused = [Refusal(id=name, reason="unreadable") for name in ids]
    shuffled = data.draw(st.permutations(items))
    TilesManifest(items=tuple(items), refused=tuple(refused)).save(folder / "a.json")
    TilesManifest(items=tuple(shuffled), refused=tuple(reversed(refused))).save(folder / "b.json")
    assert (folder / "a.json").read_bytes() == (folder / "b.json").read_bytes()
    assert {item.id for item in TilesManifest.load(folder / "a.json").items} == set(ids)


MANIFESTS = (
    SlidesManifest(items=(slide_item("a", mpp=(0.5, 0.25), levels=((9, 8, 1.0), (4, 4, 2.0)), mask="m" * 32),)),
    TilesManifest(
        recipe={"tile_px": 64, "target_mpp": 0.5, "tissue": {"method": "otsu", "fat": True}, "limit": None},
        items=(tiles_item("a", 3, label="x", dropped={"pen": 1}, labels={"fat": 2}, reader="direct", as_scanned=3),),
    ),
    TokensManifest(recipe={"teacher": TEACHER, "views": 2}, items=(tokens_item("a", 3, "test", recipe_key="r" * 32),)),
    student_manifest({"items": [["k", "d"]]}, student={"lr": 1.0, "seed": 0, "freeze": True, "model_kwargs": {}}),
)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest.stage)
def test_what_is_written_is_what_is_read(tmp_path: Path, manifest: Manifest[Any, Any]) -> None:
    manifest.save(tmp_path / "a.json")
    loaded = type(manifest).load(tmp_path / "a.json")
    loaded.save(tmp_path / "b.json")
    assert loaded == manifest and (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest.stage)
def test_numbers_of_a_recipe_stay_of_their_type(tmp_path: Path, manifest: Manifest[Any, Any]) -> None:
    """A key is the hash of the recipe's text, in which 1, 1.0 and true differ."""
    manifest.save(tmp_path / "a.json")
    loaded = type(manifest).load(tmp_path / "a.json")
    assert recipe_key(loaded.recipe) == recipe_key(manifest.recipe)
    told = (json.dumps(each.model_dump(mode="json"), sort_keys=True) for each in (loaded, manifest))
    assert len(set(told)) == 1


def test_a_missing_foreign_or_broken_manifest_names_the_command(tmp_path: Path) -> None:
    path = tmp_path / "tiles.json"
    with pytest.raises(ManifestError, match="dvc repro tiles"):
        TilesManifest.load(path)
    SlidesManifest().save(path)
    with pytest.raises(ManifestError, match="stage 'slides'"):
        TilesManifest.load(path)
    path.write_text('{"stage": "tiles"')
    with pytest.raises(ManifestError, match="not a manifest"):
        TilesManifest.load(path)


FORM_1 = {
    "items": [{"digest": "d", "id": "a", "info": {"kind": "demo", "split": "train"}, "key": "k", "n": 3}],
    "recipe": {"tile_px": 64},
    "recipe_key": "0" * 32,
    "refused": [],
    "stage": "tiles",
    "summary": {"nbytes": 1, "slides": 1, "tiles": 3, "tissue_mm2": 0.8},
    "uses": [],
    "version": 1,
}
"""As it was before items had types."""


def test_a_manifest_of_an_older_form_names_the_command_and_still_says_what_it_names(tmp_path: Path) -> None:
    write_json(tmp_path / "tiles.json", FORM_1)
    with pytest.raises(ManifestError, match=r"(?s)form 1, not 3.*dvc repro tiles"):
        TilesManifest.load(tmp_path / "tiles.json")
    assert Outline.model_validate(FORM_1).refs() == {f"tiles/{'0' * 32}/k"}


def test_a_recipe_that_lacks_what_is_asked_of_it_says_so() -> None:
    with pytest.raises(ManifestError, match=r"(?s)no tile_px.*dvc repro tiles"):
        _ = TilesManifest(recipe={"tile_px": "64"}).tile_px
    assert TilesManifest(recipe={"target_mpp": 1}).target_mpp == 1.0 and TilesManifest().target_mpp is None


def test_a_refusal_keeps_reason_and_remedy() -> None:
    refusal = Refusal.of("s1", SlideRefused("no mpp", where="s1.svs", fix="give mpp in slides.csv"))
    assert (refusal.id, refusal.reason, refusal.fix) == ("s1", "no mpp", "give mpp in slides.csv")


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
