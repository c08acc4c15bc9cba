"""A student of two teachers: one trunk, a head and an adapter each, and a loss that is the sum of two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from made.cache import Cache
from made.corpus import WIDTH, tiny, write_corpus, write_tokens
from made.training import in_float64, make_training
from torch import Tensor
from typer.testing import CliRunner

from kernels.dequantise import dequantise
from pipeline.base.errors import StudentError, TrainingError
from pipeline.base.items import ImportedFacts, StudentManifest, TeacherFacts
from pipeline.base.store import Ref, Store
from pipeline.corpus.corpus import open_corpus
from pipeline.student.card import UNI_LICENCE, model_card
from pipeline.student.checkpoint import load_checkpoint, save_checkpoint
from pipeline.student.export import load_run
from pipeline.student.recipe import train_recipe
from pipeline.student.shipped import in_space
from pipeline.student.train import train_student
from stages.cli.app import cli

SECOND, GRID = 40, (2, 2)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Tiles that two teachers have answered, the second with a wider vector and fewer, larger cells."""
    store = Store(tmp_path_factory.mktemp("two") / "store")
    tiles, tokens = write_corpus(store, views=2)
    also = write_tokens(store, tiles, name="second", width=SECOND, grid=GRID, views=2, seed=1)
    return Cache(store, tiles, tokens.model_copy(update={"also": (also,)}))


def train(cache: Cache, root: Path, **changed: Any) -> StudentManifest:
    params = tiny(**changed)
    out, curve = root / "student", root / "curve.csv"
    return train_student(cache.tiles, cache.tokens, params, cache.store, out=out, curve=curve)[0]


def distance(x: Tensor, y: Tensor) -> Tensor:
    """0.9 (1 - cosine) + 0.1 smooth-L1, of each vector: what kernels/dense_loss/reference.py says, written anew."""
    cosine = (F.normalize(x, dim=-1) * F.normalize(y, dim=-1)).sum(-1)
    error = (x - y).abs()
    huber = torch.where(error < 1, 0.5 * error**2, error - 0.5).mean(-1)
    return 0.9 * (1 - cosine) + 0.1 * huber


@pytest.mark.parametrize("balance", ["fixed", "uncertainty"])
def test_three_steps_are_those_of_a_plain_loop(balance: str, both: Cache, tmp_path: Path) -> None:
    """Loss by loss: answers, targets and balance from the definitions, gradients by autograd, plain AdamW."""
    weights = {"second": 0.5}
    asked: dict[str, Any] = {"freeze_batch_norm": True, "ema_decay": 0, "clip_norm": 1e9, "warmup_fraction": 0.0}
    with in_float64():
        training = make_training(both, tmp_path, teachers={"balance": balance, "weights": weights}, **asked)
        training._train_mode(fresh=True)
        plain = make_training(both, tmp_path / "plain", teachers={"balance": balance, "weights": weights}, **asked)
        plain.raw.load_state_dict(training.raw.state_dict())
        model, corpora = plain.raw.eval(), training.corpus.each
        student, s_T = model.student, model.log_variance
        cls = [np.concatenate([np.concatenate(list(one.cls_chunks(i))) for i in range(3)]) for one in corpora]
        mean_std = [(x.astype(float).mean(0), x.astype(float).std(0)) for x in cls]
        decay = [p for p in model.parameters() if p.ndim > 1]
        rest = [p for p in model.parameters() if p.ndim <= 1]
        optimiser = torch.optim.AdamW([{"params": decay}, {"params": rest}], lr=1.0, weight_decay=0.0)
        for step, batch in enumerate(training.loader.batches(0, 3)):
            found = training.step(step, batch)
            embedding_NE, maps = student(batch.image_NHWC)
            loss, terms = torch.zeros(()), {}
            for t, (answer, adapter, part) in enumerate(
                zip(embedding_NE.split([WIDTH, SECOND], 1), model.adapters, batch.each, strict=True)
            ):
                assert adapter is not None and part.patch_NTD is not None and part.scale_NT is not None
                mean, std = (torch.from_numpy(x).double() for x in mean_std[t])
                target = (part.cls_ND.double() - mean) / std
                dense = dequantise(part.patch_NTD, part.scale_NT, corpora[t].rotation_block).double()
                name = "" if t == 0 else "@second"
                terms[f"cls{name}"] = distance(answer, target).mean()
                terms[f"patch{name}"] = distance(adapter(maps), dense).mean()
                own = terms[f"cls{name}"] + terms[f"patch{name}"]
                if s_T is not None:
                    own = torch.exp(-s_T[t]) * own + s_T[t]
                loss = loss + (0.5 if t else 1.0) * own
            assert found.keys() == {"loss", *terms}
            for name, value in {"loss": loss, **terms}.items():
                assert found[name] == pytest.approx(float(value.detach()), rel=1e-5), (step, name)
            rate = training.optimizer.param_groups[0]["lr"]
            optimiser.zero_grad()
            loss.backward()
            for group, extent in zip(optimiser.param_groups, (0.05, 0.0), strict=True):
                group["lr"], group["weight_decay"] = rate, extent
            optimiser.step()
        assert (s_T is None) == (balance == "fixed")


@pytest.fixture(scope="module")
def trained(both: Cache, tmp_path_factory: pytest.TempPathFactory) -> tuple[StudentManifest, Path]:
    """Of both, and the folder that it is exported to."""
    root = tmp_path_factory.mktemp("trained")
    return train(both, root, epochs=1, batch_size=40, standardise="phi-s", head_hidden=16), root / "student"


def test_each_head_is_exported_in_its_teachers_units(both: Cache, trained: tuple[StudentManifest, Path]) -> None:
    import onnxruntime

    manifest, out = trained
    facts = manifest.summary
    _, distiller, targets = load_run(both.store.path(Ref("checkpoints", manifest.recipe_key, "run")))
    image_NHWC = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    image_NCHW = (image_NHWC.permute(0, 3, 1, 2) / 255 - distiller.student.mean) / distiller.student.std
    with torch.no_grad():
        z = [answer for answer, _ in distiller(image_NHWC)]
        first = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
        second = timm.create_model(f"local-dir:{in_space(out, 'second')}", pretrained=True).eval()
        x = [first(image_NCHW), second(image_NCHW)]
    onnx = onnxruntime.InferenceSession(out / "model.onnx").run(None, {"image": image_NCHW.numpy()})
    assert [answer.shape for answer in onnx] == [(3, WIDTH), (3, SECOND)]
    for t, (z_ND, x_ND) in enumerate(zip(z, x, strict=True)):
        mean, scale, rotation = (targets[f"cls{t or ''}_{part}"] for part in ("mean", "scale", "rotation"))
        torch.testing.assert_close((x_ND - mean) / scale @ rotation.T, z_ND, atol=2e-3, rtol=2e-3)
        np.testing.assert_allclose(onnx[t], x_ND.numpy(), atol=1e-4, rtol=1e-4)
    assert in_space(out, "synthetic") == out and not (out / "spaces" / "second" / "README.md").exists()
    with pytest.raises(StudentError, match=r"(?s)space of uni.*synthetic, second"):
        in_space(out, "uni")
    adapter = json.loads((out / "spaces" / "second" / "adapter" / "adapter.json").read_text())
    assert adapter["arguments"]["grid"] == list(GRID)
    assert facts.parameters == sum(p.numel() for p in first.parameters())
    (head,) = facts.also
    assert (head.teacher.name, head.width, head.grid, head.weight) == ("second", SECOND, GRID, 1.0)
    assert {"cls", "patch", "cls@second", "patch@second"} <= facts.loss.keys()


def test_the_card_names_all_teachers_and_where_their_answers_are_from(trained: tuple[StudentManifest, Path]) -> None:
    card = (trained[1] / "README.md").read_text()
    assert "distilled from synthetic and second" in card and "| further teacher | `second`" in card
    assert "Not known here: `synthetic`, `second`." in card
    assert "`synthetic`: computed by Histill; `second`: computed by Histill" in card
    config = json.loads((trained[1] / "config.json").read_text())
    assert config["histill"]["also"] == ["second"]
    second = json.loads((in_space(trained[1], "second") / "config.json").read_text())
    assert (second["histill"]["teacher"], second["histill"]["also"]) == ("second", ["synthetic"])
    facts, uni = (
        trained[0].summary,
        {"name": "uni", "weights_digest": "0" * 64, "width": 8, "grid": (1, 1), "input_px": 8},
    )
    imported = ImportedFacts(tool="TRIDENT", encoder="uni_v1", dtype="float16", why="no weights here")
    (head,) = facts.also
    told = head.model_copy(update={"teacher": TeacherFacts.model_validate(uni), "imported": imported})
    card = model_card(facts.model_copy(update={"also": (told,)}))
    assert "strictest of those known here is that of `uni` (cc-by-nc-nd-4.0). Not known here: `synthetic`." in card
    assert UNI_LICENCE in card
    assert "`uni`: imported from TRIDENT, encoder uni_v1, float16, not verified (no weights here)" in card


def test_embed_answers_in_the_space_that_is_asked_for(
    trained: tuple[StudentManifest, Path], both: Cache, tmp_path: Path
) -> None:
    item = both.tiles.items[0]
    tiles = both.store.path(Ref("tiles", both.tiles.recipe_key, item.key))
    asked = ["embed", str(tiles), "--student", str(trained[1]), "--dense"]
    for space, width, grid in (("second", SECOND, GRID), ("synthetic", WIDTH, (4, 4))):
        done = CliRunner().invoke(cli, [*asked, "--space", space, "--out", str(tmp_path / f"{space}.npz")])
        assert done.exit_code == 0, done.output
        with np.load(tmp_path / f"{space}.npz") as found:
            assert found["embedding"].shape == (item.n, width)
            assert found["patch"].shape == (item.n, grid[0] * grid[1], width)
    done = CliRunner().invoke(cli, [*asked, "--space", "uni", "--out", str(tmp_path / "x.npz")])
    assert done.exit_code == 1 and not (tmp_path / "x.npz").exists()
    narrow = ["--space", "second", "--width", "8", "--out", str(tmp_path / "x.npz")]
    done = CliRunner().invoke(cli, [*asked[:-1], *narrow])
    assert done.exit_code == 1 and "nested sizes are of the first teacher's space" in done.output


def test_of_one_teacher_nothing_is_said_of_several(both: Cache) -> None:
    alone = both.tokens.model_copy(update={"also": ()})
    recipes = []
    for tokens in (alone, both.tokens):
        corpus = open_corpus(both.tiles, tokens, both.store)
        recipes.append(train_recipe(tokens, corpus, tiny(teachers={"dense": "first"}), 32))
    one, two = recipes
    assert "also" not in one and "teachers" not in one["student"]
    assert two["also"][0][0] == both.tokens.also[0].recipe_key and two["student"]["teachers"]["dense"] == "first"


def test_patch_tokens_are_read_of_those_teachers_whose_are_learnt(both: Cache, tmp_path: Path) -> None:
    for dense, places in (("first", (0,)), ("all", (0, 1))):
        training = make_training(both, tmp_path / dense, teachers={"dense": dense})
        (batch,) = training.loader.batches(0, 1)
        assert training.loader.dense == places
        assert [one.patch_NTD is not None for one in batch.each] == [True, dense == "all"]


def test_a_killed_training_of_two_goes_on_where_it_was(both: Cache, tmp_path: Path) -> None:
    changed: dict[str, Any] = {
        "teachers": {"balance": "uncertainty"},
        "epochs": 1,
        "batch_size": 20,
        "mix": {"kind": "cutmix"},
    }
    whole = make_training(both, tmp_path / "whole", **changed)
    whole.run()
    for stop in (1, whole.steps):
        cut = make_training(both, tmp_path / "cut", **changed)
        cut.steps = stop
        cut.run()
        if stop < whole.steps:
            save_checkpoint(tmp_path / "cut", cut._state(stop))
            assert (state := load_checkpoint(tmp_path / "cut")) is not None and state["step"] == stop
    for name, value in whole.raw.state_dict().items():
        assert torch.equal(value, cut.raw.state_dict()[name]), name


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_both_teachers_targets_are_mixed_as_the_image_is(kind: str, both: Cache, tmp_path: Path) -> None:
    training = make_training(both, tmp_path, mix={"kind": kind})
    (batch,) = training.loader.batches(0, 1)
    mixed = training.inputs(0, batch)
    shares = []
    for before, after in zip(batch.each, mixed.each, strict=True):
        own, partner = before.cls_ND.double(), before.cls_ND.double()[torch.arange(len(before.cls_ND)) ^ 1]
        along = own - partner
        shares.append(((after.cls_ND.double() - partner) * along).sum(1) / along.square().sum(1))
    torch.testing.assert_close(shares[0], shares[1], atol=2e-3, rtol=0)


def test_a_weight_for_a_teacher_that_there_is_none_of_is_refused(both: Cache, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"(?s)uni is none.*synthetic, second"):
        train(both, tmp_path, teachers={"weights": {"uni": 2}})


def test_teachers_that_answered_other_tiles_are_refused(both: Cache, tmp_path: Path) -> None:
    (also,) = both.tokens.also
    fewer = both.tokens.model_copy(update={"also": (also.model_copy(update={"items": also.items[1:]}),)})
    with pytest.raises(TrainingError, match="other tiles or views"):
        open_corpus(both.tiles, fewer, both.store)
