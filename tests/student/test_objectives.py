from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from kernels.dense_loss.reference import distance
from pipeline.student.objectives import cls_loss, contrastive_loss, patch_loss, relation_loss, unremarkable

Loss = Callable[[Tensor, Tensor], Tensor]
BANK_KD = F.normalize(torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(9)), dim=-1)
DISTANCES = [pytest.param(cls_loss, (3, 5), id="cls"), pytest.param(patch_loss, (2, 3, 5), id="patch")]
LOSSES = [
    *DISTANCES,
    pytest.param(partial(cls_loss, kind="mse"), (3, 5), id="mse"),
    pytest.param(partial(cls_loss, kind="smooth_l1"), (3, 5), id="smooth-L1"),
    pytest.param(lambda a, b: relation_loss(a, b, BANK_KD, 0.1), (3, 5), id="relation"),
    pytest.param(
        lambda a, b: patch_loss(a, b, mask_NT=torch.tensor([[True, False, True], [False, False, True]])),
        (2, 3, 5),
        id="patch, some tokens left out",
    ),
]


@pytest.mark.parametrize(("loss", "shape"), DISTANCES)
def test_loss_is_the_mean_of_the_distances(loss: Loss, shape: tuple[int, ...]) -> None:
    a, b = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    each = [distance(p, t) for p, t in zip(a.reshape(-1, 5), b.reshape(-1, 5), strict=True)]
    assert loss(a, b).item() == pytest.approx(sum(x.item() for x in each) / len(each), rel=1e-5)


@pytest.mark.parametrize(("loss", "shape"), LOSSES)
def test_gradient(loss: Loss, shape: tuple[int, ...]) -> None:
    a, b = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    if loss is patch_loss or "patch" in getattr(loss, "__name__", ""):
        b = b.float()
    assert gradcheck(loss, (a.requires_grad_(), b))


@pytest.mark.parametrize(("loss", "shape"), LOSSES)
def test_half_precision_is_widened(loss: Loss, shape: tuple[int, ...]) -> None:
    a, b = torch.randn(2, *shape, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16)
    assert loss(a, b).dtype == torch.float32
    assert loss(a, b).item() == loss(a.float(), b.float()).item()


@pytest.mark.parametrize(("loss", "shape"), LOSSES)
def test_perfect_answer_costs_nothing(loss: Loss, shape: tuple[int, ...]) -> None:
    a = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    assert abs(loss(a, a.clone()).item()) < 1e-5


@pytest.mark.parametrize("kind", ["cosine", "mse", "smooth_l1"])
def test_shapes_are_not_broadcast(kind: str) -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        cls_loss(torch.zeros(3, 5), torch.zeros(1, 5), kind)


def test_mse_by_hand() -> None:
    embedding_ND, cls_ND = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[3.0, 2.0], [0.0, -1.0]])
    assert cls_loss(embedding_ND, cls_ND, "mse").item() == pytest.approx((4 + 0 + 0 + 1) / 4)


def test_smooth_l1_by_hand() -> None:
    embedding_ND, cls_ND = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[4.0, 2.0], [0.0, -0.5]])
    assert cls_loss(embedding_ND, cls_ND, "smooth_l1").item() == pytest.approx((2.5 + 0 + 0 + 0.125) / 4)


def test_contrastive_by_hand() -> None:
    bank_KD = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    embedding_ND, cls_ND = torch.tensor([[0.0, 5.0]]), torch.tensor([[2.0, 0.0]])
    # The bank's first is the tile itself, so only the other two are others; they have cosines of 1 and 0.
    expected = -math.log(1 / (1 + math.exp(2) + 1))
    assert contrastive_loss(embedding_ND, cls_ND, bank_KD, 0.5).item() == pytest.approx(expected, rel=1e-5)


def test_contrastive_is_least_where_an_answer_is_the_teachers_and_has_its_gradient() -> None:
    generator = torch.Generator().manual_seed(8)
    bank_KD = F.normalize(torch.randn(64, 5, dtype=torch.float64, generator=generator), dim=-1)
    cls_ND = torch.randn(4, 5, dtype=torch.float64, generator=generator)
    perfect = contrastive_loss(cls_ND, cls_ND, bank_KD, 0.05)
    swapped = contrastive_loss(cls_ND.roll(1, 0), cls_ND, bank_KD, 0.05)
    assert perfect < 0.5 * swapped
    assert contrastive_loss(7 * cls_ND, cls_ND, bank_KD, 0.05).item() == pytest.approx(perfect.item())
    answer_ND = torch.randn(4, 5, dtype=torch.float64, generator=generator).requires_grad_()
    assert gradcheck(lambda a: contrastive_loss(a, cls_ND, bank_KD, 0.1), (answer_ND,))
    half_ND = answer_ND.detach().to(torch.bfloat16)
    assert contrastive_loss(half_ND, cls_ND, bank_KD, 0.1).dtype == torch.float32


def test_relation_by_hand() -> None:
    bank_KD = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    embedding_ND, cls_ND = torch.tensor([[0.0, 5.0]]), torch.tensor([[2.0, 0.0]])
    high, low = (math.exp(s / 0.5) / (math.exp(2) + 1) for s in (1, 0))
    expected = high * math.log(high / low) + low * math.log(low / high)
    assert relation_loss(embedding_ND, cls_ND, bank_KD, 0.5).item() == pytest.approx(expected, rel=1e-5)


def test_relation_is_blind_to_length_and_to_what_the_bank_does_not_span() -> None:
    bank_KD = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    bank_KD[:, 4] = 0
    bank_KD = F.normalize(bank_KD, dim=-1)
    cls_ND = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    turned_ND = torch.cat([3 * cls_ND[:, :4], -3 * cls_ND[:, 4:]], 1)
    assert relation_loss(turned_ND, cls_ND, bank_KD, 0.1).item() == pytest.approx(0, abs=1e-12)


def test_tokens_left_out_do_not_count_and_tiles_count_alike() -> None:
    a, b = torch.randn(2, 2, 3, 5, generator=torch.Generator().manual_seed(6))
    mask_NT = torch.tensor([[True, False, True], [False, False, True]])
    expected = ((distance(a[0, 0], b[0, 0]) + distance(a[0, 2], b[0, 2])) / 2 + distance(a[1, 2], b[1, 2])) / 2
    assert patch_loss(a, b, mask_NT=mask_NT).item() == pytest.approx(expected.item(), rel=1e-5)


def norms(tokens: int = 196) -> Tensor:
    """Lengths of standardised tokens of D = 64: near 8, within a few per cent."""
    return torch.randn(4, tokens, 64, generator=torch.Generator().manual_seed(7)).norm(dim=-1)


def test_ordinary_tokens_all_count() -> None:
    assert unremarkable(norms()).all()


@pytest.mark.parametrize("share", [1, 4, 80], ids="{} of 196 tokens".format)
def test_artefacts_are_left_out_however_many(share: int) -> None:
    norm_NT = norms()
    norm_NT[2, :share] *= 4
    mask_NT = unremarkable(norm_NT)
    assert not mask_NT[2, :share].any()
    assert mask_NT[2, share:].all() and mask_NT[[0, 1, 3]].all()


def test_a_tile_of_equal_tokens_keeps_one_that_hardly_differs() -> None:
    norm_NT = torch.full((1, 16), 8.0)
    norm_NT[0, 3], norm_NT[0, 4] = 8.5, 80.0
    assert unremarkable(norm_NT)[0].tolist() == [t != 4 for t in range(16)]


def test_small_and_undefined_norms_count() -> None:
    norm_NT = norms()
    norm_NT[0, 0], norm_NT[1, 0] = 0.0, float("nan")
    assert unremarkable(norm_NT).all()
