"""Outlines enclose the mask to the pixel, and no ring touches itself; a slide's tissue is read again as its mask."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from made.slides import make_slide, tissue_picture

from pipeline.embed.slides import EmbedParams
from pipeline.export.outlines import outlines
from pipeline.export.tissue import export_tissue
from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.slides.read.opening import open_slide
from pipeline.tiles.tissue.look import look
from pipeline.tiles.tissue.own_mask import load_mask


def filled(rings: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """What closed rings enclose by the even-odd rule: of each pixel's centre, edges crossed on its left."""
    crossings_HW = np.zeros(shape, int)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            assert (x0 == x1) != (y0 == y1)
            crossings_HW[min(y0, y1) : max(y0, y1), x0:] += x0 == x1
    return crossings_HW % 2 == 1


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans()))
def test_the_rings_enclose_the_mask_and_are_simple(mask_HW: np.ndarray) -> None:
    pieces = outlines(mask_HW)
    rings = [ring for piece in pieces for ring in (piece.ring, *piece.holes)]
    assert (filled(rings, mask_HW.shape) == mask_HW).all()
    assert sum(piece.area_px for piece in pieces) == mask_HW.sum()
    for piece in pieces:
        inside = filled([piece.ring, *piece.holes], mask_HW.shape)
        assert inside.sum() == piece.area_px and (filled([piece.ring], mask_HW.shape) >= inside).all()
    for ring in rings:
        assert len(ring) >= 4
        # All that a ring goes through, not its corners alone, it goes through once.
        steps = [
            tuple(start + i * np.sign(end - start))
            for start, end in zip(ring, np.roll(ring, -1, axis=0), strict=True)
            for i in range(int(abs(end - start).max()))
        ]
        assert len(set(steps)) == len(steps)


PARAMS = EmbedParams(tiles=TilesParams(tile_px=64, tissue=TissueParams(mask_mpp=4, min_area_mm2=0.001)))


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tissue")
    make_slide(folder / "s.tif", tissue_picture(1000, 700, 1), (0.5, 0.5))
    (folder / "none.tif").write_bytes(b"no slide")
    return folder


def test_a_slides_tissue_is_read_again_as_the_same_mask(slides: Path, tmp_path: Path) -> None:
    files = export_tissue([slides], PARAMS, tmp_path)
    assert [path.name for path in files.written] == ["s.geojson"]
    assert [left.slide for left in files.left_out] == [str(slides / "none.tif")]
    with open_slide(slides / "s.tif", None, PARAMS.tiles.reader) as reader:
        mask_HW = look(reader, PARAMS.tiles).mask.tissue
    size_l0, size_px = (1000, 700), (mask_HW.shape[1], mask_HW.shape[0])
    found = json.loads(files.written[0].read_text())["features"]
    scale_xy = np.array(size_l0) / size_px
    rings = [
        np.rint(np.array(ring[:-1]) / scale_xy).astype(int)
        for feature in found
        for ring in feature["geometry"]["coordinates"]
    ]
    assert (filled(rings, mask_HW.shape) == mask_HW).all()
    # As a slide's own mask it is drawn by Pillow, which fills inner corners of stairs.
    again_HW = load_mask(files.written[0], size_l0, size_px)
    assert (again_HW >= mask_HW).all() and (again_HW != mask_HW).mean() < 0.005
    area_mm2 = sum(feature["properties"]["measurements"]["area_mm2"] for feature in found)
    assert area_mm2 == pytest.approx(mask_HW.mean() * 1000 * 700 * 0.25e-6, abs=1e-5)
    for feature in found:
        assert feature["properties"]["objectType"] == "annotation"
        assert all(ring[0] == ring[-1] for ring in feature["geometry"]["coordinates"])


def test_what_was_changed_by_hand_is_kept(slides: Path, tmp_path: Path) -> None:
    slide, path = [slides / "s.tif"], tmp_path / "s.geojson"
    assert export_tissue(slide, PARAMS, tmp_path).written == export_tissue(slide, PARAMS, tmp_path).written == (path,)
    path.write_text("mine")
    (left,) = export_tissue(slide, PARAMS, tmp_path).left_out
    assert "says otherwise" in left.reason and path.read_text() == "mine"
    assert export_tissue(slide, PARAMS, tmp_path, replace=True).written == (path,) and path.read_text() != "mine"
