"""bf16 autocast, as on GPUs, on a real EfficientViT: its attention's division stays in fp32, whatever autocast says."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.efficientvit_mit import LiteMLA


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_the_attentions_division_is_fp32_under_autocast(scale: float) -> None:
    torch.manual_seed(0)
    attention = LiteMLA(32, 32, dim=16).eval()
    x_NCHW = scale * torch.randn(2, 32, 7, 7)
    with torch.no_grad():
        expected = attention(x_NCHW)
        with torch.autocast("cpu", torch.bfloat16):
            found = attention(x_NCHW)
    assert torch.isfinite(found).all()
    assert F.cosine_similarity(found.float().flatten(1), expected.flatten(1)).min() > 0.999


def test_answers_and_gradients_under_autocast_are_those_of_fp32_within_bf16() -> None:
    torch.manual_seed(0)
    model = timm.create_model("efficientvit_b0", num_classes=64).train()
    image_NCHW, target_ND = torch.randn(8, 3, 96, 96), torch.randn(8, 64)
    answers, gradients = [], []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            answer_ND = model(image_NCHW)
        answers.append(answer_ND.float().detach())
        F.mse_loss(answer_ND.float(), target_ND).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert all(torch.isfinite(value).all() for value in (*answers, *gradients))
    assert F.cosine_similarity(*answers).min() > 0.98
    assert F.cosine_similarity(*gradients, dim=0) > 0.95
