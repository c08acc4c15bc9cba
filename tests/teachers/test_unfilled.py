"""A teacher whose weights are in a file is made without drawing any, and is no other for that."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline.base.store import Store
from pipeline.params.tokens import TokensParams
from pipeline.teachers.loading import load_teacher

SIDE_PX = 56
KINDS = {
    "vit_tiny_patch16_224": {"depth": 1, "img_size": SIDE_PX},
    # Angles of its positions are computed as it is made, and are in no file.
    "eva02_tiny_patch14_224": {"depth": 1, "img_size": SIDE_PX},
    "test_resnet": {},
}


@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_drawn_and_it_answers_as_one_that_was_filled(name: str, tmp_path: Path, store: Store) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, **KINDS[name]).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    before = torch.random.get_rng_state()
    params = TokensParams(teacher=name, weights=str(tmp_path / "w.safetensors"), model_kwargs=KINDS[name])
    teacher = load_teacher(params, store, 512)
    assert torch.equal(torch.random.get_rng_state(), before)
    buffers = [dict(each.named_buffers()) for each in (teacher.model, model)]
    assert buffers[0].keys() == buffers[1].keys()
    assert all(torch.equal(value, buffers[1][key]) for key, value in buffers[0].items())
    image_NCHW = torch.randn(2, 3, SIDE_PX, SIDE_PX, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model.forward_features(image_NCHW)
        assert torch.equal(teacher.model.forward_features(image_NCHW), expected)
