"""What every training shares: the rate of each step, what decays, and the plain loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pipeline.base.fitting import Fitting, fit

HOW = Fitting(steps=40, lr=0.1, weight_decay=0.05, warmup_steps=4, warmup_lr=0.025, lr_min=0.001, clip_norm=0.5)


def rate(step: int) -> float:
    """The docstring's: linear from `warmup_lr`, then on the cosine over all steps."""
    if step < HOW.warmup_steps:
        return HOW.warmup_lr + step * (HOW.lr - HOW.warmup_lr) / HOW.warmup_steps
    return HOW.lr_min + (HOW.lr - HOW.lr_min) * (1 + math.cos(math.pi * step / HOW.steps)) / 2


def test_the_rate_rises_in_a_line_and_falls_on_the_cosine_of_all_steps():
    optimizer, schedule = HOW.start(nn.Linear(2, 2))
    for step in range(HOW.steps):
        schedule.step_update(step)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate(step)] * 2, rel=1e-12)


@pytest.mark.parametrize("decay_all", [False, True])
def test_biases_decay_only_where_all_decay(decay_all: bool):
    how = Fitting(steps=4, lr=0.1, weight_decay=0.5, decay_all=decay_all)
    model = nn.Linear(3, 3)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    fit(model, (0 * (model.weight.sum() + model.bias.sum()) for _ in range(how.steps)), how)
    assert (model.weight.abs() < before["weight"].abs()).all()
    assert torch.equal(model.bias, before["bias"]) != decay_all


def test_the_loop_is_the_one_written_out():
    torch.manual_seed(0)
    model, reference = (nn.Linear(5, 3).double() for _ in range(2))
    reference.load_state_dict(model.state_dict())
    x_NC, y_NK = torch.randn(HOW.steps, 8, 5).double(), torch.randn(HOW.steps, 8, 3).double()
    told: list[float] = []
    found = fit(model, ((model(x) - y).square().sum() for x, y in zip(x_NC, y_NK, strict=True)), HOW, told.append)
    groups = [{"params": [reference.weight], "weight_decay": 0.05}, {"params": [reference.bias], "weight_decay": 0.0}]
    plain, expected = torch.optim.AdamW(groups), []
    for step, (x, y) in enumerate(zip(x_NC, y_NK, strict=True)):
        loss = (reference(x) - y).square().sum()
        plain.zero_grad()
        loss.backward()
        norm = torch.cat([value.grad.ravel() for value in reference.parameters()]).norm()
        for value in reference.parameters():
            value.grad *= min(1.0, HOW.clip_norm / (float(norm) + 1e-6))
        for group in plain.param_groups:
            group["lr"] = rate(step)
        plain.step()
        expected.append(loss.item())
    assert found == told == pytest.approx(expected, rel=1e-10)
    torch.testing.assert_close(model.weight, reference.weight)
