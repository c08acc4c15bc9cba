from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from pipeline.student.objectives import cls_loss, patch_loss
from pipeline.student.objectives.distance import distance

LOSSES = [pytest.param(cls_loss, (3, 5), id="cls"), pytest.param(patch_loss, (2, 3, 5), id="patch")]


def test_distance_by_hand() -> None:
    prediction, target = torch.tensor([3.0, 4.0]), torch.tensor([4.0, 2.0])
    cosine = (3 * 4 + 4 * 2) / (5 * math.sqrt(20))
    smooth_l1 = ((1.0 - 0.5) + (2.0 - 0.5)) / 2
    assert distance(prediction, target).item() == pytest.approx(0.9 * (1 - cosine) + 0.1 * smooth_l1, rel=1e-6)


@pytest.mark.parametrize(("loss", "shape"), LOSSES)
def test_loss_is_the_mean_of_the_distances(loss: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]) -> None:
    a, b = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    each = [distance(p, t) for p, t in zip(a.reshape(-1, 5), b.reshape(-1, 5), strict=True)]
    assert loss(a, b).item() == pytest.approx(sum(x.item() for x in each) / len(each), rel=1e-6)


@pytest.mark.parametrize(("loss", "shape"), LOSSES)
def test_gradient(loss: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]) -> None:
    a, b = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert gradcheck(loss, (a.requires_grad_(), b))


@pytest.mark.parametrize(("loss", "shape"), LOSSES)
def test_half_precision_is_widened(loss: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]) -> None:
    a, b = torch.randn(2, *shape, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16)
    assert loss(a, b).dtype == torch.float32
    assert loss(a, b).item() == loss(a.float(), b.float()).item()


@pytest.mark.parametrize(("loss", "shape"), LOSSES)
def test_perfect_answer_costs_nothing(loss: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]) -> None:
    a = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    assert abs(loss(a, a.clone()).item()) < 1e-6


def test_shapes_are_not_broadcast() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        cls_loss(torch.zeros(3, 5), torch.zeros(1, 5))
