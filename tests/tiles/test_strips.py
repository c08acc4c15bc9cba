"""Reading by strips changes nothing: each tile once, its own pixels, whatever it was read with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_slides import make_slide, tissue_picture

from pipeline.params import TilesParams
from pipeline.slides.reader import SlideReader
from pipeline.tiles.grid import Geometry, lay, plan
from pipeline.tiles.pixels import resize
from pipeline.tiles.strips import strips


@st.composite
def cases(draw: st.DrawFn) -> tuple[Geometry, np.ndarray, np.ndarray]:
    """A geometry, and some tiles of its grid."""
    mpp = draw(st.tuples(st.floats(0.2, 0.5), st.floats(0.2, 0.5)))
    size = draw(st.tuples(st.integers(300, 3000), st.integers(300, 3000)))
    downsample = draw(st.sampled_from([1.0, 2.0, 2.0005, 3.0]))
    levels = [(*size, 1.0), (int(size[0] / downsample), int(size[1] / downsample), downsample)]
    params = TilesParams(tile_px=draw(st.integers(16, 90)), target_mpp=draw(st.floats(0.5, 1.5)))
    geometry = plan(levels, mpp, params)
    x_l0, y_l0 = lay(geometry, draw(st.sampled_from(["skip", "shift"]))).corners()
    kept = np.random.default_rng(draw(st.integers(0, 99))).random(len(x_l0)) < draw(st.floats(0, 1))
    return geometry, x_l0[kept], y_l0[kept]


@given(case=cases(), max_px=st.integers(1, 400_000))
def test_each_tile_is_read_once_in_order_and_inside_its_level(
    case: tuple[Geometry, np.ndarray, np.ndarray], max_px: int
) -> None:
    geometry, x_l0, y_l0 = case
    seen = []
    for strip in strips(geometry, x_l0, y_l0, max_px):
        seen.extend(strip.rows)
        assert len(strip.rows) == 1 or strip.width_px * strip.height_px <= max_px
        assert strip.x_l0 / geometry.downsample + strip.width_px <= geometry.level_px[0] + 1
        assert strip.y_l0 / geometry.downsample + strip.height_px <= geometry.level_px[1] + 1
        for row, box in zip(strip.rows, strip.boxes, strict=True):
            assert 0 <= box.left < box.right <= strip.width_px and 0 <= box.top < box.bottom <= strip.height_px
            x0, y0, x1, y1 = box.inner
            assert 0 <= x0 < x1 <= box.right - box.left and 0 <= y0 < y1 <= box.bottom - box.top
            at_l0 = strip.x_l0 + (box.left + x0) * geometry.downsample
            assert at_l0 == pytest.approx(x_l0[row], abs=1e-3)
            assert (x1 - x0) * geometry.downsample == pytest.approx(geometry.size_l0[0], abs=1.01 * geometry.downsample)
    assert seen == list(range(len(x_l0)))


@given(case=cases())
def test_a_tile_is_cut_out_alike_whichever_strip_it_is_read_in(case: tuple[Geometry, np.ndarray, np.ndarray]) -> None:
    geometry, x_l0, y_l0 = case

    def cuts(max_px: int) -> list[tuple[object, ...]]:
        return [
            (strip.x_l0 + box.left * geometry.downsample, strip.y_l0 + box.top * geometry.downsample, box.inner)
            for strip in strips(geometry, x_l0, y_l0, max_px)
            for box in strip.boxes
        ]

    for whole, single in zip(cuts(1 << 40), cuts(1), strict=True):
        assert whole[:2] == pytest.approx(single[:2])
        assert whole[2] == pytest.approx(single[2], abs=1e-9)


@pytest.mark.parametrize(("mpp", "levels"), [(0.293, []), (0.25, [(450, 340)]), (0.2, [(449, 340)]), (0.5, [])])
def test_pixels_do_not_depend_on_the_strip(tmp_path: Path, mpp: float, levels: list[tuple[int, int]]) -> None:
    path = make_slide(tmp_path / "slide.tif", tissue_picture(900, 680), (mpp, mpp), levels)
    with SlideReader(path) as reader:
        sizes = zip(reader.level_dimensions, reader.level_downsamples, strict=True)
        geometry = plan([(w, h, d) for (w, h), d in sizes], reader.mpp_xy, TilesParams(tile_px=64))
        x_l0, y_l0 = lay(geometry, "shift").corners()

        def tiles(max_px: int) -> list[np.ndarray]:
            found = []
            for strip in strips(geometry, x_l0, y_l0, max_px):
                rgb = reader.read(geometry.level, strip.x_l0, strip.y_l0, strip.width_px, strip.height_px)
                found += [resize(rgb[b.top : b.bottom, b.left : b.right], (64, 64), b.inner) for b in strip.boxes]
            return found

        whole, single = tiles(1 << 40), tiles(1)
    assert len(whole) > 20
    np.testing.assert_array_equal(whole, single)
