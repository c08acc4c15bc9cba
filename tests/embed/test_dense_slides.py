"""`histill embed SLIDES --dense`: patch tokens in the tools' files, as the student's adapter answers them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import zarr
from made.shipped import PARAMS, SIDE, WIDTH, ship, ship_adapter
from made.slides import make_slide, tissue_picture
from PIL import Image

from pipeline.base.errors import EmbedError, EngineError, StudentError
from pipeline.embed.slides import Outcome, Wanted, embed_slides
from pipeline.embed.token_file import TokenFile
from pipeline.student.exported import load_dense, load_student

GRID, TILE, INPUT_PX = (4, 3), 96, 64
T = GRID[0] * GRID[1]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ship(tmp_path_factory.mktemp("dense") / "student")
    ship_adapter(folder, GRID)
    return folder


@pytest.fixture
def blurred(here: Path) -> Path:
    """A slide some of whose tiles are too blurred to be kept."""
    (here / "params.yaml").write_text(PARAMS.replace("min_sharpness: 0", "min_sharpness: 0.8"))
    picture_HWC = tissue_picture(SIDE, SIDE)
    soft = Image.fromarray(picture_HWC[: SIDE // 2]).resize((SIDE // 8, SIDE // 16)).resize((SIDE, SIDE // 2))
    picture_HWC[: SIDE // 2] = np.asarray(soft)
    return make_slide(here / "slides" / "one.tif", picture_HWC, kind="plain")


def made(slide: Path, student: Path, out: Path, form: str, **wanted: object) -> Outcome:
    asked = {"student": student, "threads": 2, "dense": True, "engine": "onnxruntime", "device": "cpu", **wanted}
    return embed_slides([slide], Wanted(out, form, **asked))


def expected(student: Path, corner_N2: np.ndarray) -> np.ndarray:
    """By the modules themselves, and Pillow's resizing."""
    picture = Image.fromarray(tissue_picture(SIDE, SIDE))
    images = [picture.crop((x, y, x + TILE, y + TILE)).resize((INPUT_PX,) * 2, 3) for x, y in corner_N2.tolist()]
    image_NCHW = torch.from_numpy(np.stack([np.asarray(image) for image in images])).float().permute(0, 3, 1, 2)
    dense = load_dense(student, load_student(student))
    assert dense is not None
    with torch.inference_mode():
        patch_NTD: np.ndarray = dense((image_NCHW / 255 - 0.5) / 0.5)[1].numpy()
    return patch_NTD


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "eager"])
def test_every_engine_answers_patch_tokens_as_the_adapter_does(
    blurred: Path, student: Path, here: Path, engine: str
) -> None:
    pytest.importorskip("openvino")
    assert made(blurred, student, here / "out", "zarr", engine=engine).made == 1
    group = zarr.open_group(here / "out" / "one.zarr", mode="r")
    patch = group["patch"]
    corner_N2 = np.stack([group["x"][:], group["y"][:]], axis=1)
    # Some tiles of the grid were dropped, so that rows moved up.
    assert patch.shape == (len(corner_N2), T, WIDTH) and 16 < len(corner_N2) < 90 and patch.dtype == np.float16
    assert patch.attrs["grid"] == list(GRID) and patch.metadata.dimension_names == ("tile", "token", "channel")
    sharp_N = corner_N2[:, 1] >= SIDE // 2
    wanted_NTD = expected(student, corner_N2[sharp_N])
    np.testing.assert_allclose(patch[:][sharp_N], wanted_NTD, rtol=2e-3, atol=2e-3)
    assert sharp_N.sum() > 16


@pytest.mark.parametrize(("form", "file"), [("trident", "*/features_*/one.h5"), ("clam", "h5_files/one.h5")])
def test_the_tools_files_have_them_beside_what_their_readers_take(
    slide: Path, student: Path, here: Path, form: str, file: str
) -> None:
    made(slide, student, here / "out", form)
    (path,) = (here / "out").glob(file)
    with h5py.File(path) as opened:
        patch, corner_N2 = opened["patch"], opened["coords"][:]
        assert tuple(patch.attrs["grid"]) == GRID and patch.dtype == np.float16
        assert opened["features"].shape == (len(corner_N2), WIDTH)
        np.testing.assert_allclose(patch[:], expected(student, corner_N2), rtol=2e-3, atol=2e-3)
    assert not list((here / "out").rglob(".*"))
    assert made(slide, student, here / "out", form) == Outcome(there=1)
    assert made(slide, student, here / "out", form, dense=False).made == 1


def test_what_cannot_be_dense_says_why(slide: Path, shipped: Path, student: Path, here: Path) -> None:
    with pytest.raises(EmbedError, match=r"stamp have no place for patch tokens(?s:.)*trident, clam, zarr"):
        made(slide, student, here / "out", "stamp")
    with pytest.raises(StudentError, match="no adapter"):
        made(slide, shipped, here / "out", "zarr")
    with pytest.raises(EngineError, match="patch tokens are not answered by it"):
        made(slide, student, here / "out", "zarr", engine="compile")
    (student / "adapter" / "dense.onnx").rename(here / "away")
    try:
        with pytest.raises(EngineError, match=r"there is no dense\.onnx"):
            made(slide, student, here / "out", "zarr")
    finally:
        (here / "away").rename(student / "adapter" / "dense.onnx")
    assert not (here / "out").exists() or not list((here / "out").rglob("one*"))


def test_tokens_come_back_by_row_in_whatever_order_they_came(tmp_path: Path) -> None:
    tokens, patch_NTD = TokenFile(tmp_path, (2, 3), 5), np.random.default_rng(0).random((9, 6, 5)).astype(np.float16)
    assert not list(tmp_path.iterdir())
    tokens.put([7, 2, 8], patch_NTD[[7, 2, 8]])
    tokens.put([0], patch_NTD[[0]])
    assert np.array_equal(tokens.get(np.array([0, 2, 7, 8])), patch_NTD[[0, 2, 7, 8]])
    tokens.close()
