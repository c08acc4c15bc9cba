"""Reading by strips changes nothing: each tile once, its own pixels, whatever it was read with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from made.slides import make_slide, tissue_picture

from pipeline.params.tiles import TilesParams
from pipeline.slides.read.direct import How
from pipeline.slides.read.opening import open_slide
from pipeline.tiles.grid import Geometry, geometry_of, lay
from pipeline.tiles.resample import shrink
from pipeline.tiles.strips import strips


@st.composite
def cases(draw: st.DrawFn) -> tuple[Geometry, np.ndarray, np.ndarray]:
    """A geometry, and some tiles of its grid."""
    mpp = draw(st.tuples(st.floats(0.2, 0.5), st.floats(0.2, 0.5)))
    size = draw(st.tuples(st.integers(300, 3000), st.integers(300, 3000)))
    downsample = draw(st.sampled_from([1.0, 2.0, 2.0005, 3.0]))
    levels = [(*size, 1.0), (int(size[0] / downsample), int(size[1] / downsample), downsample)]
    params = TilesParams(tile_px=draw(st.integers(16, 90)), target_mpp=draw(st.floats(0.5, 1.5)))
    geometry = geometry_of(levels, mpp, params)
    x_l0, y_l0 = lay(geometry, draw(st.sampled_from(["skip", "shift"]))).corners()
    kept = np.random.default_rng(draw(st.integers(0, 99))).random(len(x_l0)) < draw(st.floats(0, 1))
    return geometry, x_l0[kept], y_l0[kept]


def a_float_beyond_two() -> tuple[Geometry, np.ndarray, np.ndarray]:
    """A grid whose scale is not quite a whole number."""
    geometry = Geometry(16, 16, (2.0000000000000004, 2.0), (300, 300), 0, (300, 300), 1.0)
    return geometry, *lay(geometry, "skip").corners()


@given(case=cases(), max_px=st.integers(1, 400_000))
@example(case=a_float_beyond_two(), max_px=1)
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
            # A level that ends a pixel early moves its last tile back by that pixel; another half is rounding.
            at_l0 = strip.x_l0 + box.left * geometry.downsample
            assert at_l0 == pytest.approx(x_l0[row], abs=2 * geometry.downsample)
            # Whole pixels; what a float has beyond a whole number is no further pixel.
            assert -1e-6 <= box.right - box.left - geometry.size_px[0] < 1 or box.right == geometry.level_px[0]
            alone = strip.single(strip.rows.index(row), geometry)
            assert geometry.at_level(alone.x_l0) == geometry.at_level(strip.x_l0) + box.left
            assert geometry.at_level(alone.y_l0) == geometry.at_level(strip.y_l0) + box.top
    assert seen == list(range(len(x_l0)))


@given(case=cases())
def test_a_tile_is_cut_out_alike_whichever_strip_it_is_read_in(case: tuple[Geometry, np.ndarray, np.ndarray]) -> None:
    geometry, x_l0, y_l0 = case

    def cuts(max_px: int, exact: bool = True) -> list[tuple[int, ...]]:
        at = geometry.at_level
        return [
            (at(strip.x_l0) + box.left, at(strip.y_l0) + box.top, box.right - box.left, box.bottom - box.top)
            for strip in strips(geometry, x_l0, y_l0, max_px, exact=exact)
            for box in strip.boxes
        ]

    assert cuts(1 << 40) == cuts(1) == cuts(1 << 40, exact=False)


@pytest.mark.parametrize(("mpp", "levels"), [(0.293, []), (0.25, [(450, 340)]), (0.2, [(449, 340)]), (0.5, [])])
@pytest.mark.parametrize("how", ["direct", "openslide"])
def test_pixels_do_not_depend_on_the_strip(tmp_path: Path, mpp: float, levels: list[tuple[int, int]], how: How) -> None:
    path = make_slide(tmp_path / "slide.tif", tissue_picture(900, 680), (mpp, mpp), levels)
    with open_slide(path, None, how) as reader:
        sizes = zip(reader.level_dimensions, reader.level_downsamples, strict=True)
        geometry = geometry_of([(w, h, d) for (w, h), d in sizes], reader.mpp_xy, TilesParams(tile_px=64))
        x_l0, y_l0 = lay(geometry, "shift").corners()

        def tiles(max_px: int) -> list[np.ndarray]:
            found = []
            for strip in strips(geometry, x_l0, y_l0, max_px, exact=reader.exact(geometry.level)):
                rgb = reader.read(geometry.level, strip.x_l0, strip.y_l0, strip.width_px, strip.height_px)
                found += [shrink(rgb[b.top : b.bottom, b.left : b.right], geometry.size_px, 64) for b in strip.boxes]
            return found

        whole, single = tiles(1 << 40), tiles(1)
    assert len(whole) > 20
    np.testing.assert_array_equal(whole, single)
