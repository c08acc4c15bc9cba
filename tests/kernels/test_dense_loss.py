"""The dense loss' reference, by hand and by its own gradient, and how the bench counts memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from bench.kernels.dense_loss import peak_bytes
from kernels.dense_loss import dense_loss
from kernels.dense_loss.reference import distance


def case(width: int, *, weighted: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """(prediction_NTD, stored_NTD, scale_NT, weight_NT or None) of 3 tiles of 4 tokens."""
    g = torch.Generator().manual_seed(width)
    prediction_NTD = torch.randn(3, 4, width, generator=g) * 2
    stored_NTD = torch.randint(-127, 128, (3, 4, width), dtype=torch.int8, generator=g)
    scale_NT = (torch.rand(3, 4, generator=g) * 0.03 + 1e-3).half()
    return prediction_NTD, stored_NTD, scale_NT, torch.rand(3, 4, generator=g) if weighted else None


def test_distance_by_hand() -> None:
    prediction, target = torch.tensor([3.0, 4.0]), torch.tensor([4.0, 2.0])
    cosine = (3 * 4 + 4 * 2) / (5 * math.sqrt(20))
    smooth_l1 = ((1.0 - 0.5) + (2.0 - 0.5)) / 2
    assert distance(prediction, target).item() == pytest.approx(0.9 * (1 - cosine) + 0.1 * smooth_l1, rel=1e-6)


def test_loss_is_the_weighted_sum_of_distances_to_the_dequantised_tokens() -> None:
    prediction_NTD, stored_NTD, scale_NT, weight_NT = case(16, weighted=True)
    assert weight_NT is not None
    weight_NT[0, 1] = 0
    total = sum(
        float(weight_NT[n, t] * distance(prediction_NTD[n, t], stored_NTD[n, t] * scale_NT[n, t].float()))
        for n in range(3)
        for t in range(4)
    )
    assert dense_loss(prediction_NTD, stored_NTD, scale_NT, weight_NT).item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_references_gradient(weighted: bool) -> None:
    prediction_NTD, stored_NTD, scale_NT, weight_NT = case(5, weighted=weighted)
    leaf = prediction_NTD.double().requires_grad_()
    assert gradcheck(lambda p: dense_loss(p, stored_NTD, scale_NT, weight_NT), (leaf,))


def test_shapes_are_not_broadcast() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        dense_loss(torch.zeros(2, 3, 4), torch.zeros(2, 1, 4))


@pytest.mark.parametrize(("program", "arrays"), [(lambda x: x.exp() + x.exp(), 3), (lambda x: x.exp().exp().exp(), 2)])
def test_the_benchs_peak_is_what_a_known_program_holds_at_once(
    program: Callable[[Tensor], Tensor], arrays: int
) -> None:
    values = torch.zeros(1024)
    assert peak_bytes(lambda: program(values)) == arrays * 4096
