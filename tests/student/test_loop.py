"""The training loop's own parts, on trainings of a few steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from made.cache import Cache
from made.corpus import tiny
from made.training import make_training
from torch import Tensor, nn

from pipeline.base.errors import TrainingError
from pipeline.corpus.loader import Batch
from pipeline.student.loop import Training
from pipeline.student.train import train_student


class SteepAt2(Training):
    """At step 2 its loss is finite, and infinitely steep."""

    def step(self, step: int, batch: Batch) -> dict[str, float]:
        if step == 2:
            self.before = {name: value.clone() for name, value in self.raw.named_parameters()}
            total, self.losses.total = (
                self.losses.total,
                lambda terms, s_T: total(terms, s_T) + (0 * terms["cls"]).sqrt(),
            )
        return super().step(step, batch)


def test_a_gradient_that_is_not_finite_names_its_step_and_moves_no_weight(cache: Cache, tmp_path: Path) -> None:
    training = make_training(cache, tmp_path, SteepAt2)
    with pytest.raises(TrainingError, match=r"^step 2: the gradient is not finite; slides: alpha, beta, delta"):
        training.run()
    assert all(torch.equal(value, training.before[name]) for name, value in training.raw.named_parameters())


def test_weights_that_the_last_step_made_infinite_are_refused(cache: Cache, tmp_path: Path) -> None:
    params = tiny(epochs=1, batch_size=40, lr=3e37, ema_decay=0.0)
    with pytest.raises(TrainingError, match="weights that are not finite: "):
        train_student(cache.tiles, cache.tokens, params, cache.store, out=tmp_path / "out", curve=tmp_path / "c.csv")


def test_the_environment_does_not_divide_the_gradient(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gradient() -> Tensor:
        training = make_training(cache, tmp_path)
        weight = torch.ones(1, requires_grad=True)
        training.accelerator.backward((3 * weight).sum())
        assert weight.grad is not None
        return weight.grad

    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert gradient().item() == 3


def test_with_bf16_the_losses_see_the_models_own_answers(cache: Cache, tmp_path: Path) -> None:
    training = make_training(cache, tmp_path)
    assert training.raw.autocast is None or training.accelerator.device.type == "cuda"
    training.raw.autocast = torch.bfloat16
    (batch,) = training.loader.batches(0, 1)
    (answers,) = training.model(batch.to(training.accelerator.device).image_NHWC)
    assert [answer.dtype for answer in answers] == [torch.bfloat16, torch.bfloat16]
    training.step(0, batch)
    assert all(value.dtype == torch.float32 for value in training.raw.parameters())


def test_the_average_is_the_recurrence_over_the_weights(cache: Cache, tmp_path: Path) -> None:
    training = make_training(cache, tmp_path, ema_decay=0.5)
    name, weight = next(iter(training.raw.named_parameters()))
    expected = weight.detach().clone()
    for step, batch in enumerate(training.loader.batches(0, 5)):
        training.step(step, batch)
        # The first step's weights are copied; then the decay rises to its own value (timm's warm-up, power 2/3).
        decay = min(0.5, 1 - (1 + step) ** (-2 / 3))
        expected = decay * expected + (1 - decay) * weight.detach()
    assert not torch.allclose(expected, weight)
    torch.testing.assert_close(dict(training.final().named_parameters())[name], expected)


def test_without_an_average_the_last_weights_are_exported(cache: Cache, tmp_path: Path) -> None:
    training = make_training(cache, tmp_path, ema_decay=0.0, epochs=1)
    training.run()
    last = {name: value.detach().clone() for name, value in training.raw.named_parameters()}
    assert all(torch.equal(value, last[name]) for name, value in training.final().named_parameters())


def test_the_learning_rate_by_hand(cache: Cache, tmp_path: Path) -> None:
    training = make_training(cache, tmp_path, epochs=2, lr=0.01, warmup_fraction=0.4, objective={"patch": 0})
    training.run()
    rates = [row["lr"] for row in training.curve]
    assert rates[:4] == pytest.approx([0.0025 + step * 0.0075 / 4 for step in range(4)])
    cosine = [1e-4 + (0.01 - 1e-4) * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(4, 10)]
    assert rates[4:] == pytest.approx(cosine)


@pytest.mark.parametrize("clip", [1e-3, 1e6])
def test_a_large_gradient_is_clipped(clip: float, cache: Cache, tmp_path: Path) -> None:
    training, norms = make_training(cache, tmp_path, clip_norm=clip), []

    def look(*_: object) -> None:
        gradients = [p.grad.flatten() for p in training.raw.parameters() if p.grad is not None]
        norms.append(float(torch.cat(gradients).norm()))

    training.optimizer.optimizer.register_step_pre_hook(look)
    (batch,) = training.loader.batches(0, 1)
    training.step(0, batch)
    assert norms == [pytest.approx(clip, rel=1e-2)] if clip < 1 else norms[0] > 1e-2


def test_batch_norm_is_what_the_exported_weights_make_of_train_tiles(cache: Cache, tmp_path: Path) -> None:
    training = make_training(cache, tmp_path, epochs=1, lr=0.05)
    training.run()
    seen: dict[str, list[Tensor]] = {"raw": [], "exported": []}
    batches = list(training.loader.batches(5, 10))
    models = {"raw": training.raw.eval(), "exported": training.final()}
    for kind, model in models.items():
        norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
        norm.register_forward_pre_hook(lambda _, given, kind=kind: seen[kind].append(given[0].mean((0, 2, 3))))
        with torch.no_grad():
            for batch in batches:
                model(batch.to(next(model.parameters()).device).image_NHWC)
    raw_C, exported_C = (torch.stack(means).mean(0).cpu() for means in seen.values())
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, exported_C, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(norm.running_mean, raw_C, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("changed", [{"ema_decay": 0.0}, {"freeze_batch_norm": True}], ids=["last", "frozen"])
def test_batch_norm_is_measured_in_fp32_and_eager_however_training_runs(
    changed: dict[str, Any], cache: Cache, tmp_path: Path
) -> None:
    plain, fast = (make_training(cache, tmp_path, **changed) for _ in range(2))
    fast.raw.autocast, compiled = torch.bfloat16, []
    fast.raw.compile(backend=lambda graph, _: compiled.append(graph) or graph.forward)
    for training in (plain, fast):
        training._train_mode(fresh=True)
    expected, found = plain.final().state_dict(), fast.final().state_dict()
    assert not compiled, f"{len(compiled)} graphs were compiled to measure batch norm"
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
