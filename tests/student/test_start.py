"""A student that starts from weights: from each place they may be, and what of them is taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub.constants
import pytest
import timm
import torch
from made.cache import Cache, make_cache
from made.corpus import TILE_PX, tiny
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.base.errors import TrainingError
from pipeline.base.items import StudentManifest
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.corpus.corpus import open_corpus
from pipeline.corpus.targets import Standardiser, cls_standardiser
from pipeline.params.student import StudentParams
from pipeline.student.export import load_run
from pipeline.student.recipe import train_recipe
from pipeline.student.start import load_start
from pipeline.student.train import train_student
from pipeline.teachers.weights import state_digest

MODEL = "test_efficientnet"
STILL: dict[str, Any] = {"epochs": 1, "batch_size": 40, "lr": 1e-12, "weight_decay": 0.0, "ema_decay": 0.0}
"""A training of one step, which leaves the weights where they started, but for batch norm."""


def train(cache: Cache, root: Path, **changed: Any) -> StudentManifest:
    out, curve = root / "student", root / "curve.csv"
    return train_student(cache.tiles, cache.tokens, tiny(**changed), cache.store, out=out, curve=curve)[0]


class Learnt(NamedTuple):
    cache: Cache
    manifest: StudentManifest
    folder: Path

    @property
    def checkpoint(self) -> str:
        return str(self.manifest.uses[0])


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    """A student that has learnt, of a corpus of its own."""
    root = tmp_path_factory.mktemp("learnt")
    cache = make_cache(root, views=2)
    return Learnt(cache, train(cache, root, epochs=3, lr=1e-2), root / "student")


def learnables(folder: Path) -> dict[str, torch.Tensor]:
    """An exported student's weights, without what batch norm measured."""
    state = load_file(folder / "model.safetensors")
    return {name: value for name, value in state.items() if "running_" not in name and "num_batches" not in name}


@pytest.mark.parametrize("kind", ["folder", "checkpoint"])
@pytest.mark.parametrize("standardise", ["channel", "phi-s"])
def test_a_student_goes_on_in_the_teachers_units(kind: str, standardise: str, learnt: Learnt, tmp_path: Path) -> None:
    named = str(learnt.folder) if kind == "folder" else learnt.checkpoint
    manifest = train(learnt.cache, tmp_path, weights=named, standardise=standardise, **STILL)
    before, after = learnables(learnt.folder), learnables(tmp_path / "student")
    assert before.keys() == after.keys()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=2e-4, rtol=1e-3, msg=name)
    adapters = [load_file(at / "adapter" / "adapter.safetensors") for at in (learnt.folder, tmp_path / "student")]
    for name, value in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], value, atol=2e-4, rtol=1e-3, msg=name)
    assert manifest.summary.start is not None and manifest.summary.start.head and manifest.summary.start.adapter
    assert (learnt.checkpoint in manifest.uses) == (kind == "checkpoint")
    assert "started from" in (tmp_path / "student" / "README.md").read_text()


def test_a_warm_start_begins_below_where_a_cold_one_does(learnt: Learnt, tmp_path: Path) -> None:
    losses = []
    for weights in (None, learnt.checkpoint):
        train(learnt.cache, tmp_path, weights=weights, epochs=1, batch_size=40, seed=3)
        losses.append(float((tmp_path / "curve.csv").read_text().splitlines()[1].split(",")[2]))
    assert losses[1] < 0.8 * losses[0]


def plain(classes: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model(MODEL, num_classes=classes)


@pytest.mark.parametrize(("classes", "wrapped"), [(1000, False), (24, False), (7, True)])
def test_of_a_file_all_but_the_last_layer_is_taken(classes: int, wrapped: bool, cache: Cache, tmp_path: Path) -> None:
    state = {name: value.clone() for name, value in plain(classes).state_dict().items()}
    path = tmp_path / "weights.safetensors"
    if wrapped:
        path = tmp_path / "weights.pt"
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    else:
        save_file(state, path)
    manifest = train(cache, tmp_path, weights=str(path), objective={"patch": 0}, **STILL)
    after = learnables(tmp_path / "student")
    for name, value in after.items():
        assert torch.allclose(value, state[name], atol=1e-6) if not name.startswith("classifier") else True, name
    start = manifest.summary.start
    assert start is not None and not start.head and start.origin == f"the file {path.name}"


def test_the_recipe_has_the_weights_by_content(learnt: Learnt, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(learnt.folder, copy)
    cache = learnt.cache
    corpus = open_corpus(cache.tiles, cache.tokens, cache.store)

    def key(at: Path) -> str:
        params = tiny(weights=str(at))
        return recipe_key(train_recipe(cache.tokens, corpus, params, TILE_PX, start=load_start(params, cache.store)))

    assert key(learnt.folder) == key(copy)
    state = load_file(copy / "model.safetensors")
    state["classifier.bias"] += 1
    save_file(state, copy / "model.safetensors")
    assert key(copy) != key(learnt.folder)


def test_the_input_is_normalised_as_the_weights_were_trained(learnt: Learnt, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(learnt.folder, copy)
    config = copy / "config.json"
    said = json.loads(config.read_text())
    said["pretrained_cfg"]["mean"] = [0.1, 0.2, 0.3]
    config.write_text(json.dumps(said))
    manifest = train(learnt.cache, tmp_path, weights=str(copy), objective={"patch": 0}, **STILL)
    assert json.loads((tmp_path / "student" / "config.json").read_text())["pretrained_cfg"]["mean"] == [0.1, 0.2, 0.3]
    (item,) = {Ref.parse(name) for name in manifest.uses}
    _, distiller, _ = load_run(learnt.cache.store.path(item))
    assert distiller.student.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_unfolding_undoes_folding(cache: Cache) -> None:
    corpus = open_corpus(cache.tiles, cache.tokens, cache.store)
    for kind in ("channel", "phi-s"):
        standardiser: Standardiser = cls_standardiser(corpus, kind)  # type: ignore[arg-type]
        linear = nn.Linear(5, corpus.width)
        before = {name: value.clone() for name, value in linear.state_dict().items()}
        standardiser.fold_into(linear)
        assert not torch.allclose(linear.weight, before["weight"], atol=0.01)
        standardiser.unfold_from(linear)
        for name, value in linear.state_dict().items():
            torch.testing.assert_close(value, before[name], atol=1e-4, rtol=1e-4)


WRONG = {
    "another network": ("test_vit.r160_in1k", r"(?s)they are of test_vit.*set student.model to test_vit"),
    "no tag": ("test_efficientnet", r"(?s)neither a file.*test_efficientnet\.r160_in1k"),
    "an unknown tag": ("test_efficientnet.nope", r"(?s)neither a file.*test_efficientnet\.r160_in1k"),
    "no file": ("missing.safetensors", r"(?s)missing\.safetensors: no such file.*mend `student.weights`"),
    "no checkpoint": ("checkpoints/0/run", r"(?s)checkpoints/0/run.*artifacts/student\.json"),
    "no key": ("checkpoints/run", r"(?s)not kind/recipe/item.*artifacts/student\.json"),
    "a folder of something else": (".", r"(?s)not an exported student.*name a copy"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_started_from_says_what_can(
    case: str, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named, message = WRONG[case]
    with pytest.raises(TrainingError, match=message):
        load_start(tiny(weights=named), cache.store)


def test_a_file_of_another_network_says_what_does_not_fit(cache: Cache, tmp_path: Path) -> None:
    other = timm.create_model("test_vit").state_dict()
    save_file({name: value.clone() for name, value in other.items()}, tmp_path / "w.safetensors")
    with pytest.raises(TrainingError, match=r"(?s)tensors before the head do not fit.*student\.model_kwargs"):
        train(cache, tmp_path, weights=str(tmp_path / "w.safetensors"))


def test_the_hubs_cache_is_enough_and_a_hub_that_is_not_there_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    """The hub's library is told what it reads of its environment when it is imported."""
    state = timm.create_model("test_vit", num_classes=1000).state_dict()
    cached = tmp_path / "hub" / "models--timm--test_vit.r160_in1k"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("abc")
    (cached / "snapshots" / "abc").mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in state.items()}, cached / "snapshots/abc/model.safetensors")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    start = load_start(StudentParams(model="test_vit", weights="test_vit.r160_in1k"), store)
    assert state_digest(start.state) == state_digest(state) and start.origin == "timm's test_vit.r160_in1k"
    assert start.mean == tuple(timm.create_model("test_vit.r160_in1k").pretrained_cfg["mean"])
    with pytest.raises(TrainingError, match="cannot be fetched from the hub") as said:
        load_start(StudentParams(model=MODEL, weights=f"{MODEL}.r160_in1k"), store)
    assert "name a local file" in str(said.value)
