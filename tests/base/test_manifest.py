"""Manifests: deterministic, atomic, and clear about what they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import ManifestError, SlideRefused
from pipeline.base.files import write_atomic, write_json
from pipeline.base.manifest import Item, Manifest, Refusal

ids = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=6)


@given(ids=ids, data=st.data())
def test_the_file_does_not_depend_on_the_order_of_items(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("manifest")
    items = [Item(id=name, key="k", digest="d", n=3, info={"split": "train"}) for name in ids]
    refused = [Refusal(id=name, reason="unreadable") for name in ids]
    shuffled = data.draw(st.permutations(items))
    Manifest(stage="tiles", items=tuple(items), refused=tuple(refused)).save(folder / "a.json")
    Manifest(stage="tiles", items=tuple(shuffled), refused=tuple(reversed(refused))).save(folder / "b.json")
    assert (folder / "a.json").read_bytes() == (folder / "b.json").read_bytes()
    loaded = Manifest.load(folder / "a.json", "tiles")
    assert {item.id for item in loaded.items} == set(ids)


def test_a_missing_foreign_or_broken_manifest_names_the_command(tmp_path: Path) -> None:
    path = tmp_path / "tiles.json"
    with pytest.raises(ManifestError, match="dvc repro tiles"):
        Manifest.load(path, "tiles")
    Manifest(stage="slides").save(path)
    with pytest.raises(ManifestError, match="stage 'slides'"):
        Manifest.load(path, "tiles")
    path.write_text('{"stage": "tiles"')
    with pytest.raises(ManifestError, match="not a manifest"):
        Manifest.load(path, "tiles")


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
