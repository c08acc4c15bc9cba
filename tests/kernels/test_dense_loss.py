"""The kernel, run by Triton's interpreter in a process of its own, against the reference: loss and gradient."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from project import ROOT
from torch import Tensor
from torch.autograd import gradcheck

from bench.kernels.dense_loss import peak_bytes
from kernels.dense_loss import dense_loss, token_norm
from kernels.dense_loss.reference import distance

CODE = """
import sys, torch
from kernels.dense_loss.kernel import dense_loss, token_norm
answers = {}
for name, (prediction, stored, scale, weight, upstream, block) in torch.load(sys.argv[1]).items():
    prediction.requires_grad_()
    loss = dense_loss(prediction, stored, scale, weight, block)
    loss.backward(torch.tensor(upstream))
    answers[name] = (loss.detach(), prediction.grad, token_norm(stored, scale))
again = dense_loss(prediction.detach().requires_grad_(), stored, scale, weight)
again.backward(retain_graph=True)
try:
    again.backward()
except RuntimeError as error:
    answers["twice"] = str(error)
plain = prediction.detach()
for why, arguments in {"fp16": (plain.half(), stored, scale), "turned": (plain, stored)}.items():
    try:
        dense_loss(*arguments, rotation_block=8)
    except ValueError as error:
        answers[why] = str(error)
torch.save(answers, sys.argv[2])
"""


class Case(NamedTuple):
    prediction_NTD: Tensor
    stored_NTD: Tensor
    scale_NT: Tensor | None
    weight_NT: Tensor | None
    upstream: float
    rotation_block: int = 1


def case(
    width: int, dtype: torch.dtype, *, int8: bool = True, weighted: bool = False, upstream: float = 1.0, n: int = 3
) -> Case:
    g = torch.Generator().manual_seed(width)
    prediction_NTD = (torch.randn(n, 4, width, generator=g) * 2).to(dtype)
    stored_NTD = torch.randint(-127, 128, (n, 4, width), dtype=torch.int8, generator=g)
    scale_NT = (torch.rand(n, 4, generator=g) * 0.03 + 1e-3).half()
    weight_NT = torch.rand(n, 4, generator=g) if weighted else None
    if weight_NT is not None:
        weight_NT[0, 1] = 0
    if not int8:
        return Case(prediction_NTD, (stored_NTD * scale_NT[..., None]).half(), None, weight_NT, upstream)
    return Case(prediction_NTD, stored_NTD, scale_NT, weight_NT, upstream)


def with_zeros() -> Case:
    """A prediction of zeros, a token of zeros, and both at once."""
    made = case(8, torch.float32)
    made.prediction_NTD[0, 0] = made.prediction_NTD[0, 1] = 0
    made.stored_NTD[0, 1] = made.stored_NTD[0, 2] = 0
    return made


CASES = {
    "fp32": case(64, torch.float32),
    "fp32, width no power of two": case(24, torch.float32),
    "bf16, width no power of two": case(100, torch.bfloat16),
    "weights": case(40, torch.float32, weighted=True),
    "bf16, weights, upstream gradient": case(48, torch.bfloat16, weighted=True, upstream=-2.5),
    "float16 tokens": case(16, torch.float32, int8=False, upstream=3.0),
    "a ViT-L's width": case(1024, torch.float32, n=1),
    "zeros": with_zeros(),
    "rotated": case(64, torch.float32)._replace(rotation_block=16),
    "rotated, bf16, weights, width no power of two": case(48, torch.bfloat16, weighted=True)._replace(rotation_block=8),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("dense_loss")
    torch.save({name: tuple(one) for name, one in CASES.items()}, folder / "cases.pt")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CODE, str(folder / "cases.pt"), str(folder / "answers.pt")]
    subprocess.run(command, check=True, env=environment)
    loaded: dict[str, Any] = torch.load(folder / "answers.pt")
    return loaded


@pytest.mark.parametrize("name", CASES)
def test_kernel_gives_the_references_loss_and_gradient(name: str, answers: dict[str, Any]) -> None:
    prediction_NTD, stored_NTD, scale_NT, weight_NT, upstream, block = CASES[name]
    leaf = prediction_NTD.clone().requires_grad_()
    expected = dense_loss(leaf, stored_NTD, scale_NT, weight_NT, block)
    expected.backward(torch.tensor(upstream))
    assert leaf.grad is not None
    loss, gradient_NTD, _ = answers[name]
    assert gradient_NTD.dtype == prediction_NTD.dtype
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=1e-6)
    # Rounded to half precision before the upstream gradient multiplies it, and after: two roundings, not one.
    rtol = 1e-5 if prediction_NTD.dtype == torch.float32 else 2 * torch.finfo(prediction_NTD.dtype).eps
    torch.testing.assert_close(gradient_NTD, leaf.grad, rtol=rtol, atol=1e-6 * float(leaf.grad.abs().max()) + 1e-7)


@pytest.mark.parametrize("name", CASES)
def test_kernel_gives_the_references_norms(name: str, answers: dict[str, Any]) -> None:
    expected_NT = token_norm(CASES[name].stored_NTD, CASES[name].scale_NT)
    torch.testing.assert_close(answers[name][2], expected_NT, rtol=1e-5, atol=0.0)


def test_kernel_refuses_a_second_backward_pass(answers: dict[str, Any]) -> None:
    assert "compute the loss again" in answers["twice"]


def test_kernel_and_reference_refuse_alike(answers: dict[str, Any]) -> None:
    prediction_NTD, stored_NTD, scale_NT, *_ = case(16, torch.float32)
    for why, arguments in {
        "fp16": (prediction_NTD.half(), stored_NTD, scale_NT),
        "turned": (prediction_NTD, stored_NTD),
    }.items():
        with pytest.raises(ValueError) as refused:
            dense_loss(*arguments, rotation_block=8)
        assert str(refused.value) == answers[why]


def test_distance_by_hand() -> None:
    prediction, target = torch.tensor([3.0, 4.0]), torch.tensor([4.0, 2.0])
    cosine = (3 * 4 + 4 * 2) / (5 * math.sqrt(20))
    smooth_l1 = ((1.0 - 0.5) + (2.0 - 0.5)) / 2
    assert distance(prediction, target).item() == pytest.approx(0.9 * (1 - cosine) + 0.1 * smooth_l1, rel=1e-6)


def test_loss_is_the_weighted_sum_of_distances_to_the_dequantised_tokens() -> None:
    prediction_NTD, stored_NTD, scale_NT, weight_NT, *_ = case(16, torch.float32, weighted=True)
    assert scale_NT is not None and weight_NT is not None
    total = sum(
        float(weight_NT[n, t] * distance(prediction_NTD[n, t], stored_NTD[n, t] * scale_NT[n, t].float()))
        for n in range(3)
        for t in range(4)
    )
    assert dense_loss(prediction_NTD, stored_NTD, scale_NT, weight_NT).item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_references_gradient(weighted: bool) -> None:
    prediction_NTD, stored_NTD, scale_NT, weight_NT, *_ = case(5, torch.float32, weighted=weighted)
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
