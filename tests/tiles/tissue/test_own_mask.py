"""Masks made elsewhere: polygons and pictures mean what they say, and only of their own slide."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from made.slides import make_slide, tissue_picture
from PIL import Image

from pipeline.base.errors import SlideRefused
from pipeline.base.store import Store
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.sources import sources
from pipeline.tiles.stage import make_tiles
from pipeline.tiles.tissue.own_mask import load_mask

SLIDE, SIZE = (1000, 600), (100, 60)


def box(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def feature(kind: str, coordinates: Any, name: str = "Tissue") -> dict[str, Any]:
    geometry = {"type": kind, "coordinates": coordinates}
    properties = {"objectType": "annotation", "classification": {"name": name, "color": [1, 2, 3]}}
    return {"type": "Feature", "id": "x", "geometry": geometry, "properties": properties}


def drawn(tmp_path: Path, found: Any) -> np.ndarray:
    path = tmp_path / "m.geojson"
    path.write_text(json.dumps(found))
    return load_mask(path, SLIDE, SIZE)


def expected(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((60, 100), bool)
    mask[y0:y1, x0:x1] = True
    return mask


@given(st.tuples(*[st.integers(0, 100)] * 2), st.tuples(*[st.integers(0, 60)] * 2))
def test_a_rectangle_covers_its_pixels(tmp_path_factory: pytest.TempPathFactory, xs: Any, ys: Any) -> None:
    (x0, x1), (y0, y1) = sorted(xs), sorted(ys)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    found = drawn(tmp_path_factory.mktemp("m"), feature("Polygon", [box(10 * x0, 10 * y0, 10 * x1, 10 * y1)]))
    np.testing.assert_array_equal(found, expected(x0, y0, x1, y1))


def test_holes_and_several_polygons_and_every_wrapping(tmp_path: Path) -> None:
    holed = [box(100, 100, 500, 500), box(200, 200, 300, 300)]
    plain = [box(600, 100, 900, 300)]
    want = (expected(10, 10, 50, 50) & ~expected(20, 20, 30, 30)) | expected(60, 10, 90, 30)
    both = [feature("Polygon", holed), feature("Polygon", plain)]
    for found in (
        both,
        {"type": "FeatureCollection", "features": both},
        feature("MultiPolygon", [holed, plain]),
        {"type": "GeometryCollection", "geometries": [one["geometry"] for one in both]},
    ):
        np.testing.assert_array_equal(drawn(tmp_path, found), want)


def test_what_another_polygon_covers_is_no_hole(tmp_path: Path) -> None:
    found = drawn(
        tmp_path,
        [feature("Polygon", [box(0, 0, 500, 500)]), feature("Polygon", [box(0, 0, 600, 600), box(100, 100, 200, 200)])],
    )
    assert found[:50, :50].all()


def test_ignored_classes_points_and_the_outside_are_left_out(tmp_path: Path) -> None:
    found = [
        feature("Polygon", [box(-500, -500, 100, 100)]),
        feature("Polygon", [box(500, 100, 900, 500)], "Ignore*"),
        feature("Point", [700, 300]),
    ]
    np.testing.assert_array_equal(drawn(tmp_path, found), expected(0, 0, 10, 10))


@pytest.mark.parametrize("mode", ["1", "L", "I;16"])
@pytest.mark.parametrize("scale", [0.5, 1, 3])
def test_a_picture_at_any_scale_is_the_same_mask(mode: str, scale: float, tmp_path: Path) -> None:
    want = expected(20, 10, 60, 40)
    large = Image.fromarray(want.astype(np.uint8)).resize((int(100 * scale), int(60 * scale)), Image.Resampling.NEAREST)
    value = np.asarray(large)
    image = Image.fromarray(value.astype(np.uint16) * 300) if mode == "I;16" else Image.fromarray(value * 255)
    path = tmp_path / "m.tif"
    (image.convert("1") if mode == "1" else image).save(path)
    np.testing.assert_array_equal(load_mask(path, SLIDE, SIZE), want)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("m.geojson", b"{}", "cannot be read"),
        ("m.geojson", b"[]", "no polygon"),
        ("m.json", b"\xff\xfe", "cannot be read"),
        ("m.png", b"nothing", "cannot be read"),
        ("m.geojson", json.dumps(feature("Polygon", [box(5000, 0, 6000, 10)])).encode(), "marks nothing"),
    ],
)
def test_a_mask_that_says_nothing_is_refused(name: str, data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SlideRefused, match=reason):
        load_mask(tmp_path / name, SLIDE, SIZE)


def test_a_picture_of_other_proportions_is_of_another_slide(tmp_path: Path) -> None:
    Image.new("L", (100, 100), 255).save(tmp_path / "m.png")
    with pytest.raises(SlideRefused, match="proportions"):
        load_mask(tmp_path / "m.png", SLIDE, SIZE)


def test_a_slide_is_tiled_by_its_own_mask_and_kept_apart_by_it(tmp_path: Path) -> None:
    make_slide(tmp_path / "s.tif", tissue_picture(1000, 600, 1), (0.5, 0.5))
    store, table = Store(tmp_path / "store"), tmp_path / "slides.csv"
    tissue = TissueParams(mask_mpp=4, min_area_mm2=0.001, method="mask")
    params, slides_params = TilesParams(tile_px=50, tissue=tissue), SlidesParams(table=str(table))
    keys = []
    for x1 in (600, 700):
        (tmp_path / "m.geojson").write_text(json.dumps([feature("Polygon", [box(400, 200, x1, 400)])]))
        table.write_text("path,slide_id,mask\ns.tif,masked,m.geojson\n")
        slides = catalogue(slides_params, store, ClusterParams(workers=1))
        manifest = make_tiles(slides, sources(table, store, slides_params), params, store, ClusterParams(workers=1))
        assert manifest.items[0].n == (x1 - 400) // 50 * 4
        keys.append(manifest.items[0].key)
    assert keys[0] != keys[1] and all("-mask" in key for key in keys)
    table.write_text("path,slide_id\ns.tif,bare\n")
    slides = catalogue(slides_params, store, ClusterParams(workers=1))
    with pytest.raises(SlideRefused, match="names none"):
        make_tiles(slides, sources(table, store, slides_params), params, store, ClusterParams(workers=1))


def palette(want: np.ndarray) -> Image.Image:
    """Glass is index 0 and shown white, tissue index 1 and black."""
    image = Image.fromarray(want.astype(np.uint8)).convert("P")
    image.putdata(want.astype(np.uint8).ravel().tolist())
    image.putpalette([255, 255, 255, 0, 0, 0])
    return image


def transparent(want: np.ndarray, colour: tuple[int, int, int]) -> Image.Image:
    """One colour all over, transparent where there is glass."""
    image = Image.new("RGB", want.shape[::-1], colour)
    image.putalpha(Image.fromarray(want.astype(np.uint8) * 255))
    return image


@pytest.mark.parametrize("form", ["palette", "white", "black", "red", "grey and alpha", "colour"])
def test_a_palettes_index_and_transparency_count_and_not_the_colour_shown(form: str, tmp_path: Path) -> None:
    want = expected(20, 10, 60, 40)
    images = {
        "palette": palette(want),
        "white": transparent(want, (255, 255, 255)),
        "black": transparent(want, (0, 0, 0)),
        "red": transparent(want, (200, 0, 0)),
        "grey and alpha": transparent(want, (90, 90, 90)).convert("LA"),
        "colour": Image.fromarray(want[..., None] * np.array([0, 0, 3], np.uint8)),
    }
    images[form].save(tmp_path / "m.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png", SLIDE, SIZE), want)


def as_tiff(values: np.ndarray, **how: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, values, **how)


WANT = expected(20, 10, 60, 40)
STORED = {
    "booleans as tifffile writes them": as_tiff(WANT),
    "0 is white": as_tiff(WANT.astype(np.uint8), photometric="miniswhite"),
    "16 bits, 0 is white": as_tiff(WANT.astype(np.uint16) * 256, photometric="miniswhite"),
    "NaN is glass": as_tiff(np.where(WANT, 1, np.nan).astype(np.float32)),
    "negative": as_tiff(-WANT.astype(np.float32)),
}


@pytest.mark.parametrize("form", STORED)
def test_the_values_of_a_tiff_count_and_not_what_is_shown(form: str, tmp_path: Path) -> None:
    STORED[form](tmp_path / "m.tif")
    np.testing.assert_array_equal(load_mask(tmp_path / "m.tif", SLIDE, SIZE), WANT)


def test_a_jpegs_black_is_glass_though_it_is_not_0(tmp_path: Path) -> None:
    Image.fromarray(WANT.astype(np.uint8) * 255).save(tmp_path / "m.jpg", quality=70)
    assert (np.asarray(Image.open(tmp_path / "m.jpg")) > 0).mean() > 1.2 * WANT.mean()
    assert (load_mask(tmp_path / "m.jpg", SLIDE, SIZE) != WANT).mean() < 0.02


@pytest.mark.parametrize("other", [{"type": "Feature"}, feature("Polygon", []), feature("MultiPolygon", [[[]]])])
def test_an_object_without_an_outline_is_left_out(other: Any, tmp_path: Path) -> None:
    np.testing.assert_array_equal(drawn(tmp_path, [other, feature("Polygon", [box(200, 100, 600, 400)])]), WANT)


@pytest.mark.parametrize(
    "properties",
    [
        {"classification": "Tissue"},
        {"classification": {"names": "Tissue"}},
        {"classification": None},
        {"classification": {"names": ["Tissue", "CD3"]}},
        {"classification": {"name": None}},
        {"classification": ["Tissue"]},
        {},
        None,
        "Tissue",
    ],
)
def test_a_class_in_any_form_is_read(properties: Any, tmp_path: Path) -> None:
    found = feature("Polygon", [box(200, 100, 600, 400)]) | {"properties": properties}
    np.testing.assert_array_equal(drawn(tmp_path, found), expected(20, 10, 60, 40))


@pytest.mark.parametrize("ignored", ["Ignore*", {"name": "Ignore*"}, {"names": ["Tissue", "Ignore*"]}])
def test_an_ignored_class_in_any_form_is_left_out(ignored: Any, tmp_path: Path) -> None:
    left_out = feature("Polygon", [box(0, 0, 100, 100)]) | {"properties": {"classification": ignored}}
    found = drawn(tmp_path, [left_out, feature("Polygon", [box(200, 100, 600, 400)])])
    np.testing.assert_array_equal(found, expected(20, 10, 60, 40))


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "FeatureCollection", "features": [7]}',
        '{"type": "Feature", "geometry": 3, "properties": ["Tissue"]}',
        '{"type": "Polygon", "coordinates": null}',
        '{"type": "Polygon", "coordinates": [[[0, 0], [NaN, 10], [10, 10]]]}',
        '{"type": "Polygon", "coordinates": [[[0, 0], ["a", 10], [10, 10]]]}',
        '{"type": "Polygon", "coordinates": [[[0, 0], [1' + "0" * 400 + ", 10], [10, 10]]]}",
        "[" * 5000 + "]" * 5000,
        "null",
    ],
)
def test_a_mask_that_makes_no_sense_refuses_its_slide_alone(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.geojson").write_text(text)
    with pytest.raises(SlideRefused, match=r"m\.geojson cannot be read"):
        load_mask(tmp_path / "m.geojson", SLIDE, SIZE)


def test_polygons_and_pictures_of_what_was_scanned_lie_where_it_is(tmp_path: Path) -> None:
    scanned, want = (300, 200, 400, 400), expected(40, 30, 60, 50)
    (tmp_path / "m.geojson").write_text(json.dumps(feature("Polygon", [box(100, 100, 300, 300)])))
    np.testing.assert_array_equal(load_mask(tmp_path / "m.geojson", SLIDE, SIZE, scanned), want)
    # A picture in the proportions of what was scanned, which the slide has not.
    Image.fromarray(want[20:60, 30:70].astype(np.uint8) * 255).save(tmp_path / "m.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png", SLIDE, SIZE, scanned), want)
    Image.fromarray(want.astype(np.uint8) * 255).save(tmp_path / "whole.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "whole.png", SLIDE, SIZE, scanned), want)


def test_polygons_that_count_from_elsewhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.geojson").write_text(json.dumps(feature("Polygon", [box(400, 300, 600, 500)])))
    with pytest.raises(SlideRefused, match="take 300, 200 off"):
        load_mask(tmp_path / "m.geojson", SLIDE, SIZE, (300, 200, 400, 400))
