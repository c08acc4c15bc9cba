"""`histill embed --width`: the first numbers of a student's nested vector, in each engine, for slides and images."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from made.shipped import SIDE, ship, ship_nested
from made.slides import tissue_picture
from PIL import Image
from safetensors.torch import load_file

from pipeline.base.errors import EmbedError, StudentError
from pipeline.embed.images import embed
from pipeline.embed.slides import Outcome, Wanted, embed_slides

TILE, INPUT_PX, SIZES = 96, 64, (4, 8, 16)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ship(tmp_path_factory.mktemp("nested") / "student")
    ship_nested(folder, SIZES)
    return folder


def made(slide: Path, student: Path, out: Path, **wanted: object) -> Outcome:
    asked = {"student": student, "threads": 2, "engine": "onnxruntime", "device": "cpu", **wanted}
    return embed_slides([slide], Wanted(out, "trident", **asked))


def expected(student: Path, images: list[Image.Image], size: int) -> np.ndarray:
    """By timm, the exported file and Pillow alone."""
    model = timm.create_model(f"local-dir:{student}", pretrained=True).eval()
    small = [np.asarray(image.resize((INPUT_PX,) * 2, Image.Resampling.BICUBIC)) for image in images]
    image_NCHW = (torch.from_numpy(np.stack(small)).float().permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    layers = load_file(student / "nested" / "nested.safetensors")
    with torch.inference_mode():
        feature_NF = model.forward_head(model.forward_features(image_NCHW), pre_logits=True)
        return F.linear(feature_NF, layers["project.weight"], layers["project.bias"])[:, :size].numpy()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "eager"])
def test_every_engine_writes_the_first_numbers_and_the_file_says_so(
    engine: str, here: Path, slide: Path, student: Path
) -> None:
    pytest.importorskip(engine) if engine != "eager" else None
    assert made(slide, student, here / "out", width=8, engine=engine).made == 1
    (path,) = (here / "out").rglob("features_*-8/one.h5")
    with h5py.File(path) as file:
        corner_N2, found_N8 = file["coords"][:], file["features"][:]
        stamp = json.loads(file.attrs["histill"])
    picture = Image.fromarray(tissue_picture(SIDE, SIDE))
    tiles = [picture.crop((x, y, x + TILE, y + TILE)) for x, y in corner_N2.tolist()]
    np.testing.assert_allclose(found_N8, expected(student, tiles, 8), rtol=1e-3, atol=1e-4)
    assert stamp["width"] == 8 and stamp["nested"]


def test_each_width_has_files_of_its_own_and_the_full_one_is_as_before(here: Path, slide: Path, student: Path) -> None:
    for width in (None, 4, 8):
        assert made(slide, student, here / "out", width=width).made == 1
        assert made(slide, student, here / "out", width=width).there == 1
    files = sorted((here / "out").rglob("features_*/one.h5"))
    arrays = {}
    for path in files:
        with h5py.File(path) as file:
            arrays[file["features"].shape[1]] = file["features"][:]
            assert ("nested" in json.loads(file.attrs["histill"])) == (file["features"].shape[1] != 24)
    assert sorted(arrays) == [4, 8, 24] and np.array_equal(arrays[4], arrays[8][:, :4])


def test_images_are_embedded_at_a_width_too(here: Path, student: Path) -> None:
    picture = Image.fromarray(tissue_picture(TILE, TILE))
    picture.save(here / "one.png")
    embed([here / "one.png"], student, here / "out.h5", width=16)
    with h5py.File(here / "out.h5") as file:
        np.testing.assert_allclose(file["embedding"][:], expected(student, [picture], 16), rtol=1e-3, atol=1e-4)


def test_what_cannot_be_had_is_refused_with_what_can(here: Path, slide: Path, student: Path, shipped: Path) -> None:
    with pytest.raises(StudentError, match=r"no embedding of 12 numbers(?s:.)*4, 8, 16"):
        made(slide, student, here / "out", width=12)
    with pytest.raises(StudentError, match=r"trained without student\.nested"):
        made(slide, shipped, here / "out", width=8)
    for other in ({"dense": "fp16"}, {"teacher": "uni"}):
        with pytest.raises(EmbedError, match=f"not with --{next(iter(other))}"):
            made(slide, student, here / "out", width=8, **other)
