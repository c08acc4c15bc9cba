"""Bad slides: refused with the reason, or tiled with the damaged tiles left out and counted; never white tiles."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from made.partials import orphaned
from made.slides import make_slide, overwrite, put, set_tag, spans, tissue_picture

from pipeline.base.errors import HistillError, SlideRefused
from pipeline.base.store import Ref, Store
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.read.direct import How
from pipeline.slides.read.opening import open_slide
from pipeline.slides.sources import Source, sources
from pipeline.tiles.coords.tiling import write_tiling
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.pixels import decode_jpeg
from pipeline.tiles.stage import make_tiles
from pipeline.tiles.whole_slide import write_slide_tiles

PARAMS = TilesParams(tile_px=64, tissue=TissueParams(mask_mpp=4, min_area_mm2=0.001), min_sharpness=0)
WIDTH, HEIGHT = 1280, 896


def pyramid(path: Path, mpp: float = 0.5, kind: str = "jpeg-rgb") -> Path:
    """Tissue in levels 1, 2, 8, so that the tissue is found on another level than the tiles are read from."""
    path.write_bytes(pyramid_bytes(mpp, kind))
    return path


@cache
def pyramid_bytes(mpp: float, kind: str) -> bytes:
    """Made once: half of the tests damage such a slide."""
    sizes = [(WIDTH // factor, HEIGHT // factor) for factor in (2, 8)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tif"
        return make_slide(path, tissue_picture(WIDTH, HEIGHT), (mpp, mpp), sizes, kind, tile_px=64).read_bytes()


def tile(path: Path, out: Path, params: TilesParams = PARAMS) -> TileReader:
    out.mkdir()
    write_slide_tiles(Source("it", "file", path, None), out, params)
    return TileReader(out)


Whole = Callable[[float, str, How], TileReader]


@pytest.fixture(scope="module")
def whole_pyramid(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The tiles of an undamaged pyramid, by its mpp and kind and by who reads it; each made once."""

    @cache
    def made(mpp: float, kind: str, how: How) -> TileReader:
        folder = tmp_path_factory.mktemp("whole")
        return tile(pyramid(folder / "a.tif", mpp, kind), folder / "tiles", PARAMS.model_copy(update={"reader": how}))

    return made


def places(tiles: TileReader) -> dict[tuple[int, int], int]:
    table = tiles.table
    return {at: row for row, at in enumerate(zip(table["x_l0"].to_pylist(), table["y_l0"].to_pylist(), strict=True))}


def all_tiles(tiles: TileReader) -> int:
    return len(tiles) + sum(tiles.meta.dropped.values())


@pytest.mark.parametrize("how", ["auto", "openslide"])
@pytest.mark.parametrize(
    ("mpp", "kind"), [(0.5, "jpeg-rgb"), (0.293, "jpeg-rgb"), (0.25, "jpeg-rgb"), (0.5, "deflate"), (0.293, "deflate")]
)
def test_damaged_tiles_are_left_out_and_counted_and_the_others_are_as_ever(
    tmp_path: Path, whole_pyramid: Whole, mpp: float, kind: str, how: How
) -> None:
    params = PARAMS.model_copy(update={"reader": how})
    path, whole = pyramid(tmp_path / "a.tif", mpp, kind), whole_pyramid(mpp, kind, how)
    page = whole.meta.read_level
    across = -(-WIDTH // (1, 2, 8)[page] // 64)
    zeroed = [5 * across + 8, 5 * across + 9, 6 * across + 9] if page == 0 else [3 * across + 5]
    for i in zeroed:
        offset, nbytes = spans(path, page)[i]
        put(path, offset, bytes(nbytes))
    part = tile(path, tmp_path / "part", params)
    lost = places(whole).keys() - places(part).keys()
    assert len(lost) == part.meta.dropped["damaged"] > 0 == whole.meta.dropped["damaged"]
    assert len(part) + len(lost) == len(whole)
    # Just those that touch a damaged tile are gone, and all of them.
    size, side = whole.meta.size_l0_px[0], 64 * (1, 2, 8)[page]
    bad = [((i % across) * side, (i // across) * side) for i in zeroed]
    touching = {(x, y) for x, y in places(whole) for u, v in bad if u - size < x < u + side and v - size < y < v + side}
    assert lost == touching
    for at, row in places(part).items():
        assert part.jpeg(row) == whole.jpeg(places(whole)[at])


def test_flipped_bytes_never_become_other_tiles_in_silence(tmp_path: Path, whole_pyramid: Whole) -> None:
    path, whole = pyramid(tmp_path / "a.tif"), whole_pyramid(0.5, "jpeg-rgb", "auto")
    rng = np.random.default_rng(0)
    for offset, nbytes in spans(path)[60:200:4]:
        at = offset + int(rng.integers(nbytes // 4, nbytes - 80))
        put(path, at, rng.integers(0, 256, 64, np.uint8).tobytes())
    part = tile(path, tmp_path / "part")
    assert part.meta.dropped["damaged"] >= 20
    assert all_tiles(part) == all_tiles(whole)
    # What still decodes by chance is not white: flipped bits are noise.
    for row in range(len(part)):
        assert part.image(row).std() > 4


@pytest.mark.parametrize("how", ["auto", "openslide"])
def test_damage_where_the_tissue_is_looked_for_is_counted_too(tmp_path: Path, real_data: Path, how: How) -> None:
    side = 80
    params = PARAMS.model_copy(update={"reader": how, "tile_px": side})
    path = tmp_path / "one-level.svs"
    shutil.copy(real_data / "slides" / "CMU-1-Small-Region.svs", path)
    whole = tile(path, tmp_path / "whole", params)
    offset, nbytes = spans(path)[44]
    put(path, offset, bytes(nbytes))
    part = tile(path, tmp_path / "part", params)
    x0, y0 = 44 % 10 * 240, 44 // 10 * 240
    touching = [(x, y) for x, y in places(whole) if x0 - side < x < x0 + 240 and y0 - side < y < y0 + 240]
    assert len(touching) == 9 and not places(part).keys() & set(touching)
    assert part.meta.dropped["damaged"] >= len(touching)
    assert all_tiles(part) == all_tiles(whole)


@pytest.mark.parametrize("how", ["auto", "openslide"])
@pytest.mark.parametrize(("mpp", "kind"), [(0.5, "jpeg-rgb"), (0.45, "deflate")])
def test_tissue_that_the_file_leaves_out_is_damage_and_glass_is_not(
    tmp_path: Path, mpp: float, kind: str, how: How
) -> None:
    params = PARAMS.model_copy(update={"reader": how})
    # The second level is the picture's, in which nothing is missing.
    path = make_slide(tmp_path / "a.tif", tissue_picture(1280, 960), (mpp, mpp), [(1024, 768)], kind, tile_px=64)
    whole = tile(path, tmp_path / "whole", params)
    across = 1280 // 64
    inside, glass = [(8, 5), (9, 5), (9, 6)], [(x, y) for x in range(across) for y in (0, 14)]
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tag = tiff.pages[0].tags["TileByteCounts"]
        left_out = {y * across + x for x, y in inside + glass}
        tag.overwrite([0 if i in left_out else nbytes for i, nbytes in enumerate(tag.value)])
    part = tile(path, tmp_path / "part", params)
    lost, size = places(whole).keys() - places(part).keys(), whole.meta.size_l0_px[0]
    shares = {
        (x, y): sum(
            max(0, min(x + size, 64 * u + 64) - max(x, 64 * u)) * max(0, min(y + size, 64 * v + 64) - max(y, 64 * v))
            for u, v in inside
        )
        / size**2
        for x, y in places(whole)
    }
    assert lost == {at for at, share in shares.items() if share > 0.11}
    assert len(lost) == part.meta.dropped["damaged"] > 0 and all_tiles(part) == all_tiles(whole)
    assert all(part.image(row).std() > 4 for row in range(len(part)))


def test_glass_that_a_file_leaves_out_stays_glass_on_the_thumbnails_level_too(tmp_path: Path) -> None:
    path = make_slide(tmp_path / "a.tif", tissue_picture(1280, 960), kind="jpeg-rgb", tile_px=64)
    whole = tile(path, tmp_path / "whole")
    glass = {y * 20 + x for x in range(20) for y in (0, 14)} | {y * 20 + x for x in (0, 19) for y in range(15)}
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tag = tiff.pages[0].tags["TileByteCounts"]
        tag.overwrite([0 if i in glass else nbytes for i, nbytes in enumerate(tag.value)])
    sparse = tile(path, tmp_path / "sparse")
    assert places(sparse) == places(whole) and sparse.meta.dropped == whole.meta.dropped
    assert sparse.meta.dropped["damaged"] == 0
    assert all(sparse.jpeg(row) == whole.jpeg(row) for row in range(len(whole)))


@pytest.mark.parametrize("how", ["auto", "openslide"])
def test_zeros_on_the_thumbnails_own_level_are_damage_counted_and_never_white_tiles(tmp_path: Path, how: How) -> None:
    path = make_slide(
        tmp_path / "a.tif", tissue_picture(1280, 960), level_sizes=[(1024, 768)], kind="jpeg-rgb", tile_px=64
    )
    whole = tile(path, tmp_path / "whole")
    # Its 16 x 12 tiles are 80 px of level 0 wide: a box amid the tissue, from (560, 400) to (720, 560).
    overwrite(path, [5 * 16 + 7, 5 * 16 + 8, 6 * 16 + 7, 6 * 16 + 8], page=1)
    part = tile(path, tmp_path / "part", PARAMS.model_copy(update={"reader": how}))
    lost = places(whole).keys() - places(part).keys()
    assert lost and all(560 - 64 < x < 720 and 400 - 64 < y < 560 for x, y in lost)
    assert part.meta.dropped["damaged"] >= len(lost) and all_tiles(part) == all_tiles(whole)
    assert all(part.image(row).std() > 4 for row in range(len(part)))


@pytest.mark.parametrize("by", ["mask", "coords"])
def test_damage_of_the_thumbnail_costs_no_tile_that_a_mask_or_coordinates_name(tmp_path: Path, by: str) -> None:
    path = make_slide(tmp_path / "a.tif", tissue_picture(1280, 960), level_sizes=[(1024, 768)], tile_px=64)
    box_l0 = {"type": "Polygon", "coordinates": [[[256, 256], [1024, 256], [1024, 704], [256, 704], [256, 256]]]}
    (tmp_path / "m.geojson").write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": box_l0}))
    corners = [(x, y) for y in range(256, 704, 64) for x in range(256, 1024, 64)]
    write_tiling(tmp_path / "c.h5", np.array(corners), {"patch_size": 64, "patch_level": 0})
    mask, coords = (tmp_path / "m.geojson", None) if by == "mask" else (None, tmp_path / "c.h5")
    overwrite(path, range(5 * 16, 7 * 16), page=1)
    (tmp_path / "out").mkdir()
    write_slide_tiles(Source("it", "file", path, None, mask=mask, coords=coords), tmp_path / "out", PARAMS)
    tiles = TileReader(tmp_path / "out")
    assert list(places(tiles)) == corners
    assert tiles.meta.dropped["damaged"] == tiles.meta.dropped.get("blank", 0) == 0


def test_two_megabytes_of_zeros_in_a_real_slide_cost_their_own_tiles(tmp_path: Path, real_data: Path) -> None:
    path = tmp_path / "zeroed.tif"
    shutil.copy(real_data / "slides" / "region-40x.tif", path)
    params = TilesParams(tile_px=256)
    whole = tile(path, tmp_path / "whole", params)
    put(path, max(spans(path), key=lambda span: span[1])[0], bytes(2 << 20))
    part = tile(path, tmp_path / "part", params)
    damaged = part.meta.dropped["damaged"]
    assert damaged > 20 and len(part) + damaged == len(whole)
    same = places(whole)
    assert all(part.jpeg(row) == whole.jpeg(same[at]) for at, row in places(part).items())


@pytest.mark.parametrize("keep", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_slide_is_refused_or_its_damage_is_counted(
    tmp_path: Path, whole_pyramid: Whole, keep: float
) -> None:
    path, whole = pyramid(tmp_path / "a.tif"), whole_pyramid(0.5, "jpeg-rgb", "auto")
    with open(path, "r+b") as file:
        file.truncate(int(path.stat().st_size * keep))
    try:
        part = tile(path, tmp_path / "part")
    except SlideRefused as refused:
        assert refused.fix
    else:
        assert all_tiles(part) == all_tiles(whole)


LIES = [(0, 0), (0, 112), (1, 1), (160, 1), (160, 12000), (1 << 30, 1 << 30)]
NOT_OPENED, LYING = "OpenSlide does not open it", "it lies about its size"


@pytest.fixture
def true_pyramid(tmp_path: Path, whole_pyramid: Whole) -> tuple[Path, TileReader]:
    return pyramid(tmp_path / "a.tif", mpp=0.25), whole_pyramid(0.25, "jpeg-rgb", "auto")


@pytest.mark.parametrize("how", ["auto", "openslide"])
@pytest.mark.parametrize(
    ("size", "reason"),
    [*zip(LIES, [NOT_OPENED, NOT_OPENED, LYING, NOT_OPENED, LYING, NOT_OPENED], strict=True)]
    # A size that could be: the tiles would lie in the wrong places, or some of them nowhere.
    + [(size, LYING) for size in ((1216, 896), (1280, 832), (1280, 448))],
)
def test_a_slide_that_lies_about_its_own_size_is_refused(
    tmp_path: Path, true_pyramid: tuple[Path, TileReader], size: tuple[int, int], reason: str, how: How
) -> None:
    path = true_pyramid[0]
    set_tag(path, 0, ImageWidth=size[0], ImageLength=size[1])
    with pytest.raises(SlideRefused, match=reason):
        tile(path, tmp_path / "part", PARAMS.model_copy(update={"reader": how}))


@pytest.mark.parametrize("size", LIES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("page", [1, 2])
def test_a_reduced_level_that_lies_about_its_size_costs_no_tile(
    tmp_path: Path, true_pyramid: tuple[Path, TileReader], size: tuple[int, int], page: int
) -> None:
    path, whole = true_pyramid
    set_tag(path, page, ImageWidth=size[0], ImageLength=size[1])
    if (page, size) == (1, (160, 1)):
        with pytest.raises(SlideRefused, match=NOT_OPENED):
            tile(path, tmp_path / "part")
        return
    part, same = tile(path, tmp_path / "part"), places(whole)
    assert places(part) == same and part.meta.dropped == whole.meta.dropped
    # They are read from the level before the one that lies, where it is their own.
    assert (whole.meta.read_level, part.meta.read_level) == (1, page - 1)
    for row in range(len(part)):
        assert page == 2 or np.abs(part.image(row).astype(int) - whole.image(row)).mean() < 12
        assert page == 1 or part.jpeg(row) == whole.jpeg(row)


def test_a_last_level_of_one_pixel_is_no_trouble(tmp_path: Path) -> None:
    make_slide(tmp_path / "a.tif", tissue_picture(WIDTH, HEIGHT), level_sizes=[(1, 1)], kind="jpeg-rgb", tile_px=64)
    assert len(tile(tmp_path / "a.tif", tmp_path / "out")) > 50


@pytest.mark.parametrize("mpp", [(0.25, 0.5), (0.5, 0.25), (0.3, 0.45)])
def test_pixels_that_are_not_square_make_tiles_that_are(tmp_path: Path, mpp: tuple[float, float]) -> None:
    """A disc, scanned with oblong pixels, is round again in the tiles."""
    side_um = 400.0
    width, height = round(side_um / mpp[0]), round(side_um / mpp[1])
    y_H1, x_1W = np.ogrid[:height, :width]
    inside = ((x_1W + 0.5) * mpp[0] - side_um / 2) ** 2 + ((y_H1 + 0.5) * mpp[1] - side_um / 2) ** 2 < 150**2
    disc = np.where(inside[..., None], (170, 80, 160), 243).astype(np.uint8)
    make_slide(tmp_path / "a.tif", disc, mpp, kind="plain", tile_px=64)
    params = PARAMS.model_copy(
        update={"tile_px": 32, "tissue": TissueParams(mask_mpp=1, min_coverage=1e-3, min_area_mm2=0.001, fat=False)}
    )
    tiles = tile(tmp_path / "a.tif", tmp_path / "out", params)
    assert tiles.meta.size_l0_px == pytest.approx([32 * 0.5 / mpp[0], 32 * 0.5 / mpp[1]], rel=1e-3)
    canvas = np.full((800, 800), 243, np.uint8)
    for (x_l0, y_l0), row in places(tiles).items():
        x, y = round(x_l0 * mpp[0] / 0.5), round(y_l0 * mpp[1] / 0.5)
        canvas[y : y + 32, x : x + 32] = decode_jpeg(tiles.jpeg(row))[..., 1]
    dark = np.argwhere(canvas < 160)
    assert np.ptp(dark[:, 0]) == pytest.approx(600, abs=6) and np.ptp(dark[:, 1]) == pytest.approx(600, abs=6)


def table(folder: Path, names: list[str]) -> tuple[Path, SlidesParams]:
    path = folder / "slides.csv"
    path.write_text("path,slide_id\n" + "".join(f"{name}.tif,{name}\n" for name in names))
    return path, SlidesParams(table=str(path))


def test_a_killed_runs_leftovers_block_nothing(tmp_path: Path) -> None:
    pyramid(tmp_path / "a.tif")
    path, slides_params = table(tmp_path, ["a"])
    store, one = Store(tmp_path / "store"), ClusterParams(workers=1)
    slides = catalogue(slides_params, store, one)
    made = make_tiles(slides, sources(path, store, slides_params), PARAMS, store, one)
    # Killed in the middle: a partial of a process that is gone, with a chunk in it, and no item.
    orphaned(store, Ref("tiles", made.recipe_key, made.items[0].key))
    assert make_tiles(slides, sources(path, store, slides_params), PARAMS, store, one) == made


def test_a_tiff_with_an_endless_chain_of_pages_ends(tmp_path: Path) -> None:
    path = pyramid(tmp_path / "a.tif")
    data = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)
    path.write_bytes(data)
    try:
        with open_slide(path) as slide:
            slide.read(0, 0, 0, 64, 64)
    except HistillError as error:
        assert error.what
