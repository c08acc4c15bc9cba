"""`histill embed SLIDES --teacher NAME`: the teacher's own answers, in the same files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import timm
import torch
from made.shipped import PARAMS, SIDE
from made.slides import tissue_picture
from PIL import Image
from safetensors.torch import save_file

from pipeline.base.errors import EmbedError, EngineError, TeacherError
from pipeline.embed.slides import Wanted, embed_slides

TILE = 96


def test_a_teacher_answers_as_timm_has_it(slide: Path, here: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=0).eval()
    save_file(model.state_dict(), here / "w.safetensors")
    (here / "params.yaml").write_text(f"{PARAMS}tokens: {{teacher: test_vit, weights: w.safetensors}}\n")
    asked = {"teacher": "test_vit", "stands_for": "uni_v1", "device": "cpu", "threads": 2}
    assert embed_slides([slide], Wanted(here / "out", "clam", **asked)).made == 1
    with h5py.File(here / "out" / "h5_files" / "one.h5") as file:
        corner_N2, found_ND = file["coords"][:], file["features"][:]
        assert '"encoder": "test_vit"' in file.attrs["histill"]
    picture_HWC, cfg = tissue_picture(SIDE, SIDE), model.pretrained_cfg
    side = cfg["input_size"][-1]
    images = [
        np.asarray(
            Image.fromarray(picture_HWC[y : y + TILE, x : x + TILE]).resize((side, side), Image.Resampling.BICUBIC)
        )
        for x, y in corner_N2
    ]
    scaled_NHWC = (torch.from_numpy(np.stack(images)) / 255 - torch.tensor(cfg["mean"])) / torch.tensor(cfg["std"])
    with torch.inference_mode():
        expected_ND = model.forward_features(scaled_NHWC.permute(0, 3, 1, 2))[:, 0].numpy()
    np.testing.assert_allclose(found_ND, expected_ND, rtol=1e-4, atol=1e-4)
    with pytest.raises(TeacherError, match="a teacher has none"):
        embed_slides([slide], Wanted(here / "out", engine="openvino", teacher="test_vit"))
    with pytest.raises(EmbedError, match="patch tokens of slides are a student's"):
        embed_slides([slide], Wanted(here / "out", "clam", teacher="test_vit", dense=True))
    with pytest.raises(EngineError, match="no such device"):
        embed_slides([slide], Wanted(here / "out", **{**asked, "device": "abacus"}))
