"""A second evaluation finds its figures in the store; whatever a figure depends on makes it another one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from made.run import CLASSES, Made, folder_set, masks_set, painted
from safetensors.torch import load_file, save_file

from pipeline.base.errors import CorruptItem
from pipeline.base.store import Ref, Store
from pipeline.evaluate import run as evaluate_run
from pipeline.params.evaluate import DatasetParams
from pipeline.tiles.item.meta import Meta
from pipeline.tiles.item.writer import TileWriter
from pipeline.tiles.pixels import encode_jpeg
from pipeline.upkeep.named import named_items
from pipeline.upkeep.prune import prunable

KEPT = ("embeddings", "figures")
ALL = {"copies", "probes", "few shot", "slide labels", "likeness", "structure", "patch likeness", "robustness", "maps"}
SEED_OF_C = 200
"""Of slide c's tiles, see made/run.py."""


@pytest.fixture(scope="module")
def run(fresh: Made, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run that has been evaluated; the plots are beside the store."""
    made = fresh.copied(tmp_path_factory.mktemp("made"))
    evaluated(made, made.store.root.parent / "first")
    return made


@pytest.fixture
def made(run: Made, tmp_path: Path) -> Made:
    """A copy of it, to be changed."""
    shutil.copytree(run.store.root.parent / "first", tmp_path / "first")
    return run.copied(tmp_path)


def figures(store: Store) -> dict[Ref, str]:
    """The items of figures and what they are."""
    return {ref: str(store.recipe(ref)["figures"]) for ref in store.refs() if ref.kind == "figures"}


def remade(made: Made, before: Mapping[Ref, str]) -> set[str]:
    return {part for ref, part in figures(made.store).items() if ref not in before}


def evaluated(made: Made, out: Path, *datasets: DatasetParams, **more: Any) -> dict[str, bytes]:
    """Every file that an evaluation leaves."""
    made.evaluate(out, *datasets, **{"robustness_tiles": 8, **more}).save(out / "evaluate.json")
    return files(out)


def files(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def retile(made: Made, slide: str, label: str | None, seed: int) -> None:
    """Another item of that slide's key: its tiles painted anew, all with `label` if given."""
    ref = Ref("tiles", made.tiles.recipe_key, slide)
    made.store.delete(ref)
    with made.store.write(ref, made.tiles.recipe) as folder:
        writer = TileWriter(folder)
        for i in range(made.tiles.item(slide).n):
            name = list(CLASSES)[i % len(CLASSES)]
            writer.append(encode_jpeg(painted(name, seed + i), 95), label=label or name)
        writer.close(Meta(kind="file", tile_px=1))


def test_a_second_evaluation_is_the_first_and_runs_no_model(made: Made, tmp_path: Path) -> None:
    """Without the tiles' pixels and the teacher's patch tokens it cannot run one."""
    folder = folder_set(tmp_path / "set", {"train": 8, "test": 4})
    images = DatasetParams(name="images", kind="folder", path=str(folder))
    masks = DatasetParams(name="masks", kind="masks", path=str(masks_set(tmp_path / "masks")))
    settings = {"from_labels": (2,), "label_steps": 4}
    first, items = evaluated(made, tmp_path / "one", images, masks, **settings), set(made.store.refs())
    assert set(figures(made.store).values()) == ALL | {"from labels", "dense probe"}
    for array in [*made.store.root.glob("tiles/*/*/jpeg/c"), *made.store.root.glob("tokens/*/*/patch/c*")]:
        shutil.rmtree(array) if array.is_dir() else array.unlink()
    assert evaluated(made, tmp_path / "two", images, masks, **settings) == first
    assert set(made.store.refs()) == items


def test_a_second_evaluation_names_what_its_slide_labels_stand_on(made: Made, tmp_path: Path) -> None:
    """Through other tiles than the probes of tile labels: so few leave a bag fewer than it takes."""
    few = {"max_probe_tiles": 20}
    assert evaluated(made, tmp_path / "one", **few) == evaluated(made, tmp_path / "two", **few)


def test_what_is_kept_is_what_an_empty_store_makes(made: Made, tmp_path: Path) -> None:
    for kind in KEPT:
        shutil.rmtree(made.store.root / kind)
    assert evaluated(made, tmp_path / "anew") == files(tmp_path / "first")


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"batch_size": 7}, set()),
        ({"knn_k": 3}, {"probes"}),
        ({"mil_epochs": 3}, {"slide labels"}),
        ({"robustness_tiles": 12}, {"robustness"}),
        ({"bootstrap": 120}, ALL - {"copies", "maps"}),
        ({"max_dense_tiles": 20}, {"structure", "patch likeness"}),
    ],
    ids=lambda value: "" if isinstance(value, set) else next(iter(value)),
)
def test_a_parameter_remakes_the_figures_that_take_it(
    made: Made, tmp_path: Path, changed: dict[str, int], parts: set[str]
) -> None:
    before = figures(made.store)
    evaluated(made, tmp_path / "second", **changed)
    assert remade(made, before) == parts


def test_a_changed_student_is_compared_anew(made: Made, tmp_path: Path) -> None:
    before = figures(made.store)
    weights = load_file(made.folder / "model.safetensors")
    name = next(name for name, values in weights.items() if values.ndim == 4)
    weights[name] += 0.05 * torch.randn(weights[name].shape, generator=torch.Generator().manual_seed(0))
    save_file(weights, made.folder / "model.safetensors")
    assert evaluated(made, tmp_path / "second")["fidelity.csv"] != files(tmp_path / "first")["fidelity.csv"]
    assert remade(made, before) == ALL - {"copies"}


@pytest.mark.parametrize("change", ["label", "pixels", "split"])
def test_a_changed_label_tile_or_split_makes_other_figures(made: Made, tmp_path: Path, change: str) -> None:
    before = figures(made.store)
    if change == "split":
        moved = [made.tokens.item("d").model_copy(update={"split": "other"})]
        items = (*(item for item in made.tokens.items if item.id != "d"), *moved)
        made = made._replace(tokens=made.tokens.model_copy(update={"items": items}))
    else:
        retile(made, "c", *(("fat", SEED_OF_C) if change == "label" else (None, 777)))
    # The teacher, asked live, would see that its cached answers are of other pixels.
    second = evaluated(made, tmp_path / "second", robustness_tiles=0)
    assert second["probes.csv"] != files(tmp_path / "first")["probes.csv"]
    assert {"copies", "probes", "few shot", "likeness"} <= remade(made, before)


def test_another_version_of_the_code_keeps_its_own(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = figures(made.store)
    monkeypatch.setattr(evaluate_run, "RECIPE_VERSION", evaluate_run.RECIPE_VERSION + 1)
    evaluated(made, tmp_path / "second")
    assert remade(made, before) == ALL


def test_a_damaged_file_is_named_and_its_remedy_helps(made: Made, tmp_path: Path) -> None:
    damaged = next(ref for ref, part in figures(made.store).items() if part == "probes")
    (made.store.path(damaged) / "figures.json").write_bytes(b'{"knn": ')
    with pytest.raises(CorruptItem, match=rf"(?s){damaged.item}/figures\.json: .*delete .*{damaged.item}, then"):
        evaluated(made, tmp_path / "second")
    shutil.rmtree(made.store.path(damaged))
    assert evaluated(made, tmp_path / "third") == files(tmp_path / "first")


def test_prune_keeps_what_the_manifest_names_and_nothing_else_of_it(made: Made, tmp_path: Path) -> None:
    first = {ref for ref in made.store.refs() if ref.kind in KEPT}
    named = made.evaluate(tmp_path / "plots", robustness_tiles=8)
    assert set(named.uses) == {str(ref) for ref in first}
    changed = made.evaluate(tmp_path / "plots", robustness_tiles=8, seed=1)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    for manifest in (made.tiles, made.tokens, changed):
        manifest.save(tmp_path / "artifacts" / f"{manifest.stage}.json")
    gone = {ref for ref in prunable(made.store, named_items([tmp_path])).items if ref.kind in KEPT}
    assert gone == {ref for ref in first if str(ref) not in changed.uses}
    parts = {str(made.store.recipe(ref).get("figures", "embeddings")) for ref in gone}
    assert parts == {"embeddings", *(ALL - {"copies", "maps"})}, "the twin's answers and whatever draws"
