"""Tissue is found, glass and ink are not, and coverage is exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.slides import tissue_picture
from scipy import ndimage

from bench.tiles.tissue import evaluate
from pipeline.demo.slides import make_demo_slide
from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.tiles.tissue import METHODS, coverage, find_tissue
from pipeline.tiles.tissue.otsu import calm, otsu
from pipeline.tiles.tissue.pen import pen_marks
from pipeline.tiles.tissue.shape import drop_small
from pipeline.tiles.tissue.web import _narrower, _wider

PARAMS = TissueParams()
MPP = (8.0, 8.0)


@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 999),
    corners=st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=5),
)
def test_coverage_is_the_exact_share_of_fractional_boxes(
    shape: tuple[int, int], seed: int, corners: list[tuple[float, float, float, float]]
) -> None:
    height, width = shape
    mask = np.random.default_rng(seed).random(shape) < 0.5
    boxes = []
    for xa, xb, ya, yb in corners:
        x0, x1, y0, y1 = min(xa, xb) * width, max(xa, xb) * width, min(ya, yb) * height, max(ya, yb) * height
        if x1 - x0 > 1e-3 and y1 - y0 > 1e-3:
            boxes.append((x0, y0, x1, y1))
    if not boxes:
        return
    expected = []
    for x0, y0, x1, y1 in boxes:
        in_x = np.clip(np.minimum(np.arange(width) + 1, x1) - np.maximum(np.arange(width), x0), 0, None)
        in_y = np.clip(np.minimum(np.arange(height) + 1, y1) - np.maximum(np.arange(height), y0), 0, None)
        expected.append((in_y[:, None] * in_x * mask).sum() / ((x1 - x0) * (y1 - y0)))
    np.testing.assert_allclose(coverage(mask, np.array(boxes)), expected, atol=1e-6)


def test_stained_tissue_is_found_where_it_is() -> None:
    picture = tissue_picture(300, 200)
    mask = find_tissue(picture, MPP, PARAMS)
    truth = (picture < 240).any(-1)
    assert (mask.tissue & truth).sum() / (mask.tissue | truth).sum() > 0.97
    assert mask.area_mm2 == pytest.approx(mask.tissue.sum() * 64e-6)
    assert not mask.pen.any()


@pytest.mark.parametrize("noise", [0, 1, 6])
@pytest.mark.parametrize("glass", [(255, 255, 255), (243, 243, 243), (236, 232, 225), (200, 200, 200), (0, 0, 0)])
def test_empty_glass_has_no_tissue(glass: tuple[int, int, int], noise: int) -> None:
    rng = np.random.default_rng(1)
    empty = np.clip(np.full((200, 200, 3), glass) + rng.normal(0, noise, (200, 200, 3)), 0, 255).astype(np.uint8)
    assert not find_tissue(empty, MPP, PARAMS).tissue.any()


def test_a_picture_that_is_all_tissue_is_all_tissue() -> None:
    assert find_tissue(tissue_picture(400, 400)[120:280, 120:280], MPP, PARAMS).tissue.mean() > 0.99


def test_dirt_is_dropped_and_small_holes_are_filled() -> None:
    picture = tissue_picture(300, 200)
    picture[4:10, 4:10] = (170, 80, 160)
    picture[100:106, 150:156] = 243
    mask = find_tissue(picture, MPP, PARAMS)
    assert not mask.tissue[:14, :14].any() and mask.tissue[100:106, 150:156].all()


INKS = {
    "blue": (30, 60, 170),
    "green": (40, 140, 80),
    "black": (25, 24, 28),
    "red": (205, 25, 40),
    "teal": (0, 120, 130),
}


@pytest.mark.parametrize("ink", INKS)
def test_ink_is_not_tissue(ink: str) -> None:
    picture = tissue_picture(300, 200)
    picture[90:110] = INKS[ink]
    mask = find_tissue(picture, MPP, PARAMS)
    assert not mask.tissue[88:112].any() and mask.pen[90:110].all()
    assert mask.tissue[60:80, 140:160].all()


@pytest.mark.parametrize("stain", [(110, 70, 150), (230, 150, 190), (200, 90, 120), (60, 40, 90), (190, 60, 90)])
def test_haematoxylin_eosin_and_blood_are_not_ink(stain: tuple[int, int, int]) -> None:
    assert not pen_marks(np.full((4, 4, 3), stain, np.uint8), np.ones((4, 4), bool), 0).any()


def test_ink_is_kept_where_asked() -> None:
    picture = tissue_picture(300, 200)
    picture[90:110] = INKS["blue"]
    mask = find_tissue(picture, MPP, TissueParams(exclude_pen=False))
    assert mask.tissue[90:110].all() and not mask.pen.any()


@given(low=st.floats(0.05, 0.3), gap=st.floats(0.2, 0.6), n=st.integers(5, 500))
def test_otsu_separates_two_groups(low: float, gap: float, n: int) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(low, 0.01, 300), rng.normal(low + gap, 0.01, n)]).clip(0, 1)
    assert low < otsu(values.astype(np.float32)) < low + gap


def test_parts_smaller_than_the_limit_go() -> None:
    mask = np.zeros((9, 9), bool)
    mask[0, 0] = mask[2:5, 2:5] = True
    kept = drop_small(mask, 4)
    assert kept.sum() == 9 and not kept[0, 0]
    assert not drop_small(np.zeros((3, 3), bool), 1).any()


def fat_picture(side: int = 240, line: tuple[int, int, int] = (238, 222, 231)) -> np.ndarray:
    """Stained tissue on the left, a web of membranes with empty cells of 9 px in the middle, glass on the right."""
    picture = np.full((side, side, 3), 244, np.uint8)
    middle = np.zeros((side, side), bool)
    middle[40:200, 80:160] = True
    y, x = np.mgrid[:side, :side]
    web = middle & ((y % 9 < 2) | ((x + 4 * (y // 9 % 2)) % 9 < 2))
    picture[web] = line
    picture[40:200, 20:80] = tissue_picture(400, 400)[120:280, 120:180]
    return picture


@pytest.mark.parametrize("method", sorted(METHODS))
def test_fat_that_adjoins_stained_tissue_is_found_and_glass_is_not(method: str) -> None:
    params = TissueParams.model_validate({"method": method})
    found = find_tissue(fat_picture(), MPP, params).tissue
    assert found[48:192, 84:150].mean() > 0.95 and found[45:195, 25:75].all()
    assert not found[:, 168:].any() and not found[:30].any()
    without = find_tissue(fat_picture(), MPP, params.model_copy(update={"fat": False})).tissue
    assert without[48:192, 90:150].mean() < 0.05


def test_a_web_by_itself_is_not_taken_for_tissue() -> None:
    picture = fat_picture()
    picture[:, :90] = 244
    picture[100:140, 4:40] = tissue_picture(400, 400)[120:160, 120:156]
    found = find_tissue(picture, MPP, PARAMS).tissue
    assert found[105:135, 8:36].all() and not found[:, 60:].any()


@pytest.mark.parametrize("what", ["grey web", "noise", "one fibre", "scanned fields"])
def test_what_lies_on_glass_is_not_fat(what: str) -> None:
    picture = fat_picture(line=(222, 222, 222) if what == "grey web" else (244, 244, 244))
    rng = np.random.default_rng(0)
    if what == "noise":
        glass = picture[..., 1] > 240
        noise = rng.normal(0, 5, picture.shape)
        picture[glass] = (picture + noise).clip(0, 255).astype(np.uint8)[glass]
    if what == "one fibre":
        picture[100:102, 80:200] = (230, 190, 215)
    if what == "scanned fields":
        picture[:, 120:] = np.minimum(picture[:, 120:] + 11, 255)
    found = find_tissue(picture, MPP, PARAMS).tissue
    assert not found[:, 88:].any() and found[45:195, 25:75].all()


@pytest.fixture(scope="module", params=[1, 3])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a demo slide, once for all methods."""
    folder = tmp_path_factory.mktemp("demo")
    make_demo_slide(request.param, 1536, folder)
    return folder


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_masks_of_demo_slides_agree_with_their_label_maps(method: str, demo: Path) -> None:
    scores = evaluate(demo, TilesParams(tissue=TissueParams.model_validate({"method": method})))
    assert scores["iou"] > 0.95 and scores["tile_f1"] > 0.94


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 999))
def test_calm_is_the_median_of_nine(height: int, width: int, seed: int) -> None:
    level = np.random.default_rng(seed).integers(0, 256, (height, width))
    found = calm((level / 255).astype(np.float32)) * 255
    np.testing.assert_allclose(found, ndimage.median_filter(level, size=3, mode="nearest"), atol=1e-3)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9), st.integers(0, 99))
def test_wider_and_narrower_are_the_extremes_of_a_square(height: int, width: int, reach: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    size = 2 * reach + 1
    np.testing.assert_array_equal(_wider(picture, reach, 1), ndimage.maximum_filter(picture, size, mode="nearest"))
    np.testing.assert_array_equal(_narrower(picture, reach, 1), ndimage.minimum_filter(picture, size, mode="nearest"))
