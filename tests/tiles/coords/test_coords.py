"""Tilings in and out: what TRIDENT and CLAM write is read, and what they would read is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from made.slides import make_slide, tissue_picture

from pipeline.base.errors import SlideRefused, TableError
from pipeline.base.items import SlidesManifest, TilesManifest
from pipeline.base.store import Ref, Store
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.sources import sources
from pipeline.slides.table import Row
from pipeline.tiles.choice import geometry_given
from pipeline.tiles.coords.exporting import export_coords, go_on
from pipeline.tiles.coords.geojson import tile_object, write_objects
from pipeline.tiles.coords.importing import with_coords
from pipeline.tiles.coords.tiling import read_tiling
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.stage import make_tiles

LEVELS = [(1000, 700, 1.0), (500, 350, 2.0)]
PARAMS = TilesParams(tile_px=64, tissue=TissueParams(mask_mpp=4, min_area_mm2=0.001))
ONE = ClusterParams(workers=1)
TRIDENT: dict[str, Any] = {
    "patch_size": 64,
    "patch_size_level0": 128,
    "level0_magnification": 40,
    "target_magnification": 20,
    "overlap": 0,
    "name": "s",
    "savetodir": "x",
    "level0_width": 1000,
    "level0_height": 700,
}
CLAM: dict[str, Any] = {
    "patch_size": 64,
    "patch_level": 1,
    "downsample": (2.0, 2.0),
    "downsampled_level_dim": (500, 350),
    "level_dim": (500, 350),
    "name": "s",
    "save_path": "x",
}


def write(path: Path, attributes: dict[str, Any], coords: Any = ((384, 256), (256, 256), (384, 256))) -> Path:
    with h5py.File(path, "w") as file:
        file["coords"] = np.array(coords)
        file["coords"].attrs.update(attributes)
    return path


def test_attributes_may_be_the_files(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "s.h5", {}), "a") as file:
        file.attrs.update(TRIDENT)
    assert (
        read_tiling(tmp_path / "s.h5", LEVELS).side_l0 == read_tiling(write(tmp_path / "t.h5", TRIDENT), LEVELS).side_l0
    )


@pytest.mark.parametrize(
    "attributes",
    [
        TRIDENT,
        {"patch_size": 64, "level0_magnification": 40, "target_magnification": 20},
        CLAM,
        {"patch_size": 64, "patch_level": 1},
        {"patch_size": 64, "patch_level": 0, "custom_downsample": 2},
    ],
    ids=["trident", "trident-old", "clam", "legacy", "custom-downsample"],
)
def test_all_dialects_say_the_same(attributes: dict[str, Any], tmp_path: Path) -> None:
    tiling = read_tiling(write(tmp_path / "s.h5", attributes), LEVELS)
    assert tiling.side_l0 == 128
    assert tiling.corner_N2.tolist() == [[384, 256], [256, 256], [384, 256]] and tiling.corner_N2.dtype == np.int64


@pytest.mark.parametrize(
    ("attributes", "coords", "reason"),
    [
        ({}, [[0, 0]], "does not say how large"),
        ({"patch_size": 64, "patch_level": 7}, [[0, 0]], "does not say how large"),
        (TRIDENT | {"level0_width": 999}, [[0, 0]], "999 x 700 px, and this one has 1000 x 700"),
        (TRIDENT | {"patch_size_level0": 0}, [[0, 0]], "0 px wide"),
        (TRIDENT, np.zeros((0, 2), int), "holds no tile"),
        (TRIDENT, [1, 2, 3], "holds no tile"),
    ],
)
def test_what_cannot_be_used_is_refused(attributes: dict[str, Any], coords: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(SlideRefused, match=reason):
        read_tiling(write(tmp_path / "s.h5", attributes, coords), LEVELS)


def test_a_file_that_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.h5").write_bytes(b"nothing")
    with pytest.raises(SlideRefused, match=r"s\.h5: the file cannot be read"):
        read_tiling(tmp_path / "s.h5", LEVELS)


def test_given_tiles_are_never_upsampled(tmp_path: Path) -> None:
    tiling = read_tiling(write(tmp_path / "s.h5", TRIDENT), LEVELS)
    assert geometry_given(LEVELS, tiling, PARAMS).level == 1
    with pytest.raises(SlideRefused, match=r"tiles of 128 px, and tiles\.tile_px is 224"):
        geometry_given(LEVELS, tiling, TilesParams())


class Bench:
    """A slide in a folder, its table and a store."""

    def __init__(self, folder: Path, mpp: float) -> None:
        self.folder, self.store, self.table = folder, Store(folder / "store"), folder / "slides.csv"
        make_slide(folder / "s.tif", tissue_picture(1000, 700, 1), (mpp, mpp))

    def tiles(
        self, header: str = "path", line: str = "s.tif", tiles: TilesParams = PARAMS
    ) -> tuple[SlidesManifest, TilesManifest]:
        self.table.write_text(f"{header}\n{line}\n")
        params = SlidesParams(table=str(self.table))
        slides = catalogue(params, self.store, ONE)
        return slides, make_tiles(slides, sources(self.table, self.store, params), tiles, self.store, ONE)

    def reader(self, tiles: TilesManifest) -> TileReader:
        return TileReader(self.store.path(Ref("tiles", tiles.recipe_key, tiles.items[0].key)))


@pytest.mark.parametrize("form", ["trident", "clam"])
@pytest.mark.parametrize("mpp", [0.5, 0.25])
def test_what_is_written_is_read_back_as_the_same_tiles(form: str, mpp: float, tmp_path: Path) -> None:
    bench = Bench(tmp_path, mpp)
    slides, own = bench.tiles()
    ((path,), _) = export_coords(slides, own, bench.store, form, tmp_path / "out")
    assert path.parent.name == "patches"
    _, given = bench.tiles("path,coords", f"s.tif,{path.relative_to(tmp_path)}")
    assert given.items[0].key != own.items[0].key and given.items[0].n == own.items[0].n
    one, other = bench.reader(own), bench.reader(given)
    assert one.table.drop("source").equals(other.table.drop("source"))
    assert other.table["source"].to_pylist() == [str(row) for row in range(len(one))]
    assert all(one.jpeg(row) == other.jpeg(row) for row in range(len(one)))


def test_trident_gets_the_true_scale_and_not_that_of_a_name(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 0.293)
    slides, tiles = bench.tiles()
    ((path,), _) = export_coords(slides, tiles, bench.store, "trident", tmp_path / "out")
    with h5py.File(path) as file:
        coords, attributes = file["coords"][:], dict(file["coords"].attrs)
    assert coords.dtype == np.int64 and coords.shape == (tiles.items[0].n, 2)
    assert attributes["patch_size"] == 64 and attributes["patch_size_level0"] == 109
    assert attributes["level0_magnification"] == pytest.approx(10 / 0.293) and attributes["target_magnification"] == 20
    assert (attributes["level0_width"], attributes["level0_height"]) == (1000, 700)
    read = attributes["patch_size"] * attributes["level0_magnification"] / attributes["target_magnification"]
    assert read == pytest.approx(64 * 0.5 / 0.293)


def test_the_overlap_written_is_the_grids_own_and_not_that_of_a_given_tiling(tmp_path: Path) -> None:
    bench, params = Bench(tmp_path, 0.5), PARAMS.model_copy(update={"overlap_px": 16})
    for i, columns in enumerate(
        (("path", "s.tif"), ("path,coords", "s.tif,out0/20x_64px_16px_overlap/patches/s_patches.h5"))
    ):
        ((path,), _) = export_coords(*bench.tiles(*columns, params), bench.store, "trident", tmp_path / f"out{i}")
        with h5py.File(path) as file:
            assert file["coords"].attrs["overlap"] == (16, 0)[i]


def test_trident_s_file_is_where_trident_looks_and_nothing_is_written_over_unsaid(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 0.293)
    found, out = bench.tiles(), tmp_path / "job"
    ((path,), _) = export_coords(*found, bench.store, "trident", out)
    assert path == out / "20x_64px_0px_overlap" / "patches" / "s_patches.h5"
    assert go_on("trident", [path], out)[0].endswith("--coords_dir 20x_64px_0px_overlap")
    before = path.read_bytes()
    assert export_coords(*found, bench.store, "trident", out) == ([path], [])
    with h5py.File(path, "r+") as file:
        file["coords"].attrs["note"] = "mine"
    ((), (line,)) = export_coords(*found, bench.store, "trident", out)
    assert "says otherwise" in line and path.read_bytes() != before
    assert export_coords(*found, bench.store, "trident", out, replace=True) == ([path], [])
    assert path.read_bytes() == before and [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_slide_whose_pixels_are_not_square_is_for_qupath_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 0.5)
    make_slide(tmp_path / "s.tif", tissue_picture(1000, 700, 1), (0.25, 0.5))
    slides, tiles = bench.tiles()
    for form in ("trident", "clam"):
        written, (left_out,) = export_coords(slides, tiles, bench.store, form, tmp_path / "out")
        assert not written and left_out.startswith("s: its pixels are not square (a tile is 128.0 x 64.0 of them)")
    ((path,), left) = export_coords(slides, tiles, bench.store, "qupath", tmp_path / "out")
    (ring,) = json.loads(path.read_text())["features"][0]["geometry"]["coordinates"]
    assert not left and (ring[2][0] - ring[0][0], ring[2][1] - ring[0][1]) == (128, 64)


def test_qupath_gets_a_square_a_tile(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 0.5)
    slides, tiles = bench.tiles()
    ((path,), _) = export_coords(slides, tiles, bench.store, "qupath", tmp_path / "out")
    found = json.loads(path.read_text())
    table = bench.reader(tiles).table
    assert found["type"] == "FeatureCollection" and len(found["features"]) == len(table)
    (ring,) = found["features"][0]["geometry"]["coordinates"]
    x, y = table["x_l0"][0].as_py(), table["y_l0"][0].as_py()
    assert ring[0] == ring[-1] == [x, y] and ring[2] == [x + 64, y + 64]
    assert found["features"][0]["properties"]["objectType"] == "tile"


def test_another_tiling_makes_another_item_and_a_changed_one_is_noticed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 0.5)
    attributes = {"patch_size": 64, "patch_level": 0}
    write(tmp_path / "a.h5", attributes, [[400, 300], [464, 300]])
    slides, first = bench.tiles("path,coords", "s.tif,a.h5")
    assert first.items[0].n == 2 and not first.items[0].remarks
    write(tmp_path / "a.h5", attributes, [[400, 300], [990, 300]])
    params = SlidesParams(table=str(bench.table))
    store = Store(tmp_path / "other")
    with pytest.raises(SlideRefused, match="changed since"):
        make_tiles(
            slides, sources(bench.table, store, params), PARAMS.model_copy(update={"on_error": "fail"}), store, ONE
        )
    _, second = bench.tiles("path,coords", "s.tif,a.h5")
    assert second.items[0].key != first.items[0].key
    assert second.items[0].n == 2 and "1 of its coordinates stick out" in second.items[0].remarks[0]


def test_a_tilings_rows_are_kept_all_and_in_their_order(tmp_path: Path) -> None:
    """What overhangs, is blank, comes twice or not in raster order: features made elsewhere have just these rows."""
    bench = Bench(tmp_path, 0.5)
    coords = [[500, 300], [960, 660], [0, 0], [436, 300], [500, 300], [-20, 340], [436, 236], [372, 300]]
    coords += [[1100, 300], [300, -900], [2**40, 0]]
    write(tmp_path / "a.h5", {"patch_size": 64, "patch_level": 0}, coords)
    _, tiles = bench.tiles("path,coords", "s.tif,a.h5")
    reader = bench.reader(tiles)
    table = reader.table
    assert np.stack([table["x_l0"].to_numpy(), table["y_l0"].to_numpy()], axis=1).tolist() == coords
    assert table["source"].to_pylist() == [str(row) for row in range(len(coords))]
    picture = tissue_picture(1000, 700, 1)
    for row, (x, y) in enumerate(coords):
        tile = np.zeros((64, 64, 3), np.uint8)
        part = picture[max(0, y) : max(0, y + 64), max(0, x) : x + 64]
        tile[max(0, -y) : max(0, -y) + len(part), max(0, -x) : max(0, -x) + part.shape[1]] = part
        assert np.abs(reader.image(row).astype(int) - tile).mean() < 3
    assert "5 of its coordinates stick out" in tiles.items[0].remarks[0]


def test_coordinates_that_have_no_tile_are_said_and_the_others_name_their_rows(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 0.5)
    coords = [[64 * (i % 6) + 300, 64 * (i // 6) + 200] for i in range(24)][::-1]
    write(tmp_path / "a.h5", {"patch_size": 64, "patch_level": 0}, coords)
    _, tiles = bench.tiles("path,coords", "s.tif,a.h5", PARAMS.model_copy(update={"max_tiles_per_slide": 5}))
    table = bench.reader(tiles).table
    rows = [int(row) for row in table["source"].to_pylist()]
    assert len(rows) == 5 and rows == sorted(rows)
    assert [[x, y] for x, y in zip(table["x_l0"].to_pylist(), table["y_l0"].to_pylist(), strict=True)] == [
        coords[row] for row in rows
    ]
    assert "19 of its 24 coordinates have no tile" in tiles.items[0].remarks[0]


@pytest.mark.parametrize(("on", "words"), [([], "2 coordinates none is"), ([[0, 0]], "3 coordinates 1 is")])
def test_coordinates_that_are_mostly_off_the_slide_are_of_another(on: Any, words: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, 0.5)
    write(tmp_path / "a.h5", {"patch_size": 64, "patch_level": 0}, [[5000, 300], [300, 9000], *on])
    with pytest.raises(SlideRefused, match=words):
        bench.tiles("path,coords", "s.tif,a.h5")


def test_of_a_finished_job_the_patches_are_taken_and_not_the_features(tmp_path: Path) -> None:
    for name in ("20x_256px/patches/a_patches.h5", "20x_256px/features_uni/a.h5"):
        (tmp_path / name).parent.mkdir(parents=True)
        write(tmp_path / name, TRIDENT)
    (row,), remarks = with_coords([Row(2, "in/a.svs", "a")], tmp_path, tmp_path)
    assert row.coords == "20x_256px/patches/a_patches.h5" and not remarks
    (row,), _ = with_coords([Row(2, "in/a.svs", "a")], tmp_path / "20x_256px" / "features_uni", tmp_path)
    assert row.coords == "20x_256px/features_uni/a.h5"


def test_the_table_is_filled_by_name(tmp_path: Path) -> None:
    (tmp_path / "job" / "patches").mkdir(parents=True)
    for name in ("a_patches.h5", "b.h5", "stranger.h5"):
        write(tmp_path / "job" / "patches" / name, CLAM)
    rows = [Row(2, "in/a.svs", "a"), Row(3, "in/b.svs", "bee"), Row(4, "in/c.svs", "c")]
    filled, remarks = with_coords(rows, tmp_path / "job", tmp_path)
    assert [row.coords for row in filled] == ["job/patches/a_patches.h5", "job/patches/b.h5", None]
    assert any("stranger" in remark for remark in remarks) and any("for c:" in remark for remark in remarks)
    with pytest.raises(TableError, match="none of its 3 files"):
        with_coords([Row(2, "z.svs", "z")], tmp_path / "job", tmp_path)
    with pytest.raises(TableError, match=r"no \.h5 file"):
        with_coords(rows, tmp_path / "nowhere", tmp_path)


def test_a_tiling_that_fits_two_slides_is_given_to_neither(tmp_path: Path) -> None:
    (tmp_path / "patches").mkdir()
    (tmp_path / "patches" / "slide_patches.h5").touch()
    rows = [Row(2, "P1/slide.tif", "P1_slide"), Row(3, "P2/slide.tif", "P2_slide")]
    filled, remarks = with_coords(rows, tmp_path, tmp_path)
    assert [row.coords for row in filled] == [None, None]
    assert "fits 2 slides and is given to none" in remarks[0]
    filled, _ = with_coords([rows[0], Row(3, "P2/slide.tif", "slide")], tmp_path, tmp_path)
    assert [row.coords for row in filled] == [None, None]


def test_a_tiling_of_an_ome_tiff_has_its_stem(tmp_path: Path) -> None:
    (tmp_path / "a_patches.h5").touch()
    (row,), _ = with_coords([Row(2, "in/a.ome.tif", "a")], tmp_path, tmp_path)
    assert row.coords == "a_patches.h5"


def test_qupath_gets_numbers_alone(tmp_path: Path) -> None:
    found = tile_object((3, 4), (10.5, 10.5), {"row": 0, "cosine": float("nan"), "tissue": 0.5}, color=[1, 2, 3])
    write_objects(tmp_path / "tiles.geojson", [found])
    told = json.loads((tmp_path / "tiles.geojson").read_text(), parse_constant=pytest.fail)
    (feature,) = told["features"]
    assert told["type"] == "FeatureCollection" and feature["type"] == "Feature"
    assert feature["properties"] == {
        "objectType": "tile",
        "color": [1, 2, 3],
        "measurements": {"row": 0, "tissue": 0.5},
    }
    (ring,) = feature["geometry"]["coordinates"]
    assert feature["geometry"]["type"] == "Polygon" and ring[0] == ring[-1] == [3, 4] and ring[2] == [13.5, 14.5]
