"""`histill embed SLIDES --dense`: patch tokens in the tools' files, as the student's adapter answers them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.linalg
import torch
import zarr
from imports import ROOT
from made.exported import export
from made.shipped import PARAMS, SIDE, WIDTH, ship, ship_adapter
from made.slides import make_slide, tissue_picture
from PIL import Image

from kernels.epilogue import reference
from kernels.hadamard.blocks import block_of
from pipeline.base.errors import EmbedError, EngineError, StudentError
from pipeline.embed.patch_form import PatchForm
from pipeline.embed.slides import Outcome, Wanted, embed_slides
from pipeline.embed.token_file import TokenFile
from pipeline.student.adapters.adapter import Grid
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
    asked = {"student": student, "threads": 2, "dense": "fp16", "engine": "onnxruntime", "device": "cpu", **wanted}
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
    assert made(slide, student, here / "out", form, dense=None).made == 1


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


@pytest.mark.parametrize("kind", ["pool", "fuse", "bilinear"])
@pytest.mark.parametrize("grid", [GRID, (1, 3)])
def test_every_adapter_has_its_onnx_file_and_it_answers_as_pytorch(tmp_path: Path, kind: str, grid: Grid) -> None:
    """`attention` has in all other tests of this file."""
    runtime = pytest.importorskip("onnxruntime")
    student = tmp_path / "student"
    export(student, WIDTH, 0)
    ship_adapter(student, grid, kind)
    dense = load_dense(student, load_student(student))
    assert dense is not None
    session = runtime.InferenceSession(str(student / "adapter" / "dense.onnx"), providers=["CPUExecutionProvider"])
    image_NCHW = torch.randn(3, 3, INPUT_PX, INPUT_PX, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = [answer.numpy() for answer in dense(image_NCHW)]
    assert wanted[1].shape == (3, grid[0] * grid[1], WIDTH)
    for found, answer in zip(session.run(None, {"image": image_NCHW.numpy()}), wanted, strict=True):
        np.testing.assert_allclose(found, answer, rtol=1e-5, atol=1e-5 * np.abs(answer).max())


def test_tokens_come_back_by_row_in_whatever_order_they_came(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    form = PatchForm((2, 3), 5, (0.0,) * 5, (1.0,) * 5)
    arrays = form.encode(rng.normal(size=(9, 6, 5)).astype(np.float32))
    tokens = TokenFile(tmp_path, form)
    assert not list(tmp_path.iterdir())
    for rows in ([7, 2, 8], [0]):
        tokens.put(rows, [array[rows] for array in arrays])
    for name, array in zip(("patch", "scale"), arrays, strict=True):
        assert np.array_equal(tokens.get(name, np.array([0, 2, 7, 8])), array[[0, 2, 7, 8]])
    tokens.close()


@pytest.mark.parametrize("width", [24, 384, 5])
def test_int8_is_what_the_stores_kernel_makes(width: int) -> None:
    rng = np.random.default_rng(0)
    mu_D, sigma_D = rng.normal(size=width).astype(np.float32), rng.uniform(0.2, 2, width).astype(np.float32)
    patch_NTD = (mu_D + sigma_D * rng.standard_t(3, size=(7, 6, width))).astype(np.float32)
    patch_NTD[0, 0], patch_NTD[1, 1] = mu_D, mu_D + 1e9 * sigma_D
    form = PatchForm((2, 3), width, tuple(mu_D.tolist()), tuple(sigma_D.tolist()))
    q_NTD, scale_NT = form.encode(patch_NTD)
    folded = reference.fold(torch.from_numpy(mu_D), torch.from_numpy(sigma_D), block_of(width))
    wanted_NTD, wanted_NT = (found.numpy() for found in reference.quantise(torch.from_numpy(patch_NTD), folded))
    np.testing.assert_allclose(scale_NT, wanted_NT, rtol=1e-3)
    off_NTD = np.abs(q_NTD.astype(int) - wanted_NTD)
    # Sums in another order round another way now and then.
    assert q_NTD.dtype == np.int8 and off_NTD.max() <= 1 and (off_NTD > 0).mean() < 0.01


def read_as_documented(item: zarr.Group | h5py.File) -> np.ndarray:
    """By the lines of docs/artifacts.md."""
    text = (ROOT / "docs" / "artifacts.md").read_text(encoding="utf-8")
    (lines,) = re.findall(
        r"Reading int8 tokens without Histill\.\*\*.*?```python\nitem = [^\n]*\n(.*?)```", text, re.DOTALL
    )
    known: dict[str, Any] = {"item": item, "rows": slice(None), "np": np, "scipy": scipy, "shape": item["patch"].shape}
    exec(lines, known)
    found: np.ndarray = known["x"]
    return found


@pytest.mark.parametrize(("form", "file"), [("zarr", "one.zarr"), ("trident", "*/features_*/one.h5")])
def test_int8_is_read_back_by_the_documented_lines(
    slide: Path, student: Path, here: Path, form: str, file: str
) -> None:
    assert made(slide, student, here / "out", form, dense="int8").made == 1
    (path,) = (here / "out").glob(file)
    item = zarr.open_group(path, mode="r") if form == "zarr" else h5py.File(path)
    x, y = (item["x"][:], item["y"][:]) if form == "zarr" else item["coords"][:].T
    found, wanted = read_as_documented(item), expected(student, np.stack([x, y], axis=1))
    assert item["patch"].dtype == np.int8 and tuple(item["patch"].attrs["grid"]) == GRID
    sigma_D = np.array(item["patch"].attrs["sigma"])
    lost = np.linalg.norm((found - wanted) / sigma_D) / np.linalg.norm(wanted / sigma_D)
    assert found.shape == wanted.shape and lost < 0.02, lost
    if form != "zarr":
        item.close()
    assert made(slide, student, here / "out", form, dense="int8") == Outcome(there=1)
    assert made(slide, student, here / "out", form).made == 1, "float16 is another file"


def test_an_export_that_says_no_scale_has_no_int8(slide: Path, student: Path, here: Path) -> None:
    told = student / "adapter" / "space.json"
    told.rename(here / "space.json")
    try:
        with pytest.raises(StudentError, match=r"no space\.json(?s:.)*--patch fp16"):
            made(slide, student, here / "out", "zarr", dense="int8")
        assert made(slide, student, here / "out", "zarr").made == 1
    finally:
        (here / "space.json").rename(told)
