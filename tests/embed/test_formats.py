"""Each tool's files, read by another reader than what wrote them, hold the same rows as TRIDENT's, in the tool's units.

With HISTILL_TOOLS naming interpreters that have them (PATH:PATH), the tools read them too.
"""

from __future__ import annotations

import csv
import json
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import zarr
from made.shipped import PARAMS, WIDTH, ship
from made.slides import make_slide, tissue_picture

from pipeline.embed.formats import FORMATS
from pipeline.embed.formats.zarr_store import ZarrStore
from pipeline.embed.slides import Outcome, Wanted, embed_slides

MPP, SIDE, TILE_L0 = 0.25, 1200, 192
Rows = tuple[np.ndarray, np.ndarray]
"""(features, top left corners in level-0 pixels)."""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a student, params and a slide of 0.25 um/px in a subfolder, embedded for TRIDENT."""
    root = tmp_path_factory.mktemp("formats")
    ship(root / "student")
    (root / "params.yaml").write_text(PARAMS)
    (root / "slides" / "case-1").mkdir(parents=True)
    make_slide(root / "slides" / "case-1" / "one.ome.tif", tissue_picture(SIDE, SIDE), (MPP, MPP), kind="plain")
    embed(root, "trident")
    return root


def embed(root: Path, form: str, **wanted: object) -> Outcome:
    here = Path.cwd()
    os.chdir(root)
    try:
        asked = Wanted(Path(form), form, student=Path("student"), engine="onnxruntime", threads=1, **wanted)
        return embed_slides([Path("slides")], asked)
    finally:
        os.chdir(here)


def encoder_of(root: Path) -> str:
    (path,) = (root / "trident").glob("*/features_*")
    return path.name.removeprefix("features_")


def read_trident(root: Path) -> Rows:
    (path,) = (root / "trident").glob("*/features_*/one.h5")
    with h5py.File(path) as file:
        return file["features"][:], file["coords"][:]


def read_clam(root: Path) -> Rows:
    tensor = torch.load(root / "clam" / "pt_files" / "one.pt", weights_only=True)
    with h5py.File(root / "clam" / "h5_files" / "one.h5") as file:
        assert np.array_equal(tensor.numpy(), file["features"][:])
        return file["features"][:], file["coords"][:]


def read_stamp(root: Path) -> Rows:
    # As STAMP names it: `.ome` is no part of the suffix.
    with h5py.File(root / "stamp" / encoder_of(root) / "case-1" / "one.ome.h5") as file:
        told = dict(file.attrs)
        feats_ND, coords_N2 = file["feats"][:], file["coords"][:]
    assert feats_ND.dtype == np.float16 and coords_N2.dtype == np.float32
    assert (told["unit"], told["feat_type"], told["stamp_version"]) == ("um", "tile", "2.1.0")
    assert (told["tile_size_um"], told["tile_size_px"]) == (48.0, 96) and told["extractor"] == encoder_of(root)
    return feats_ND.astype(np.float32), np.rint(coords_N2 / MPP)


def read_slideflow(root: Path) -> Rows:
    folder = root / "slideflow"
    centre_N2 = np.load(folder / "one.index.npz")["arr_0"]
    config = json.loads((folder / "bags_config.json").read_text())
    assert set(config) == {"extractor", "normalizer", "num_features", "tile_px", "tile_um"}
    assert "." in config["extractor"]["class"] and config["normalizer"] is None
    assert (config["num_features"], config["tile_px"], config["tile_um"]) == (WIDTH, 96, 48.0)
    return torch.load(folder / "one.pt", weights_only=True).numpy(), centre_N2 - TILE_L0 // 2


def read_slide2vec(root: Path) -> Rows:
    folder = root / "slide2vec"
    with np.load(folder / "tiles" / "one.coordinates.npz", allow_pickle=False) as arrays:
        kinds = {name: str(arrays[name].dtype) for name in arrays}
        corner_N2 = np.stack([arrays["x"], arrays["y"]], axis=1)
        assert (arrays["tile_index"] == np.arange(len(corner_N2))).all()
    assert kinds == {"tile_index": "int32", "x": "int64", "y": "int64", "tissue_fractions": "float32"}
    assert (np.lexsort((corner_N2[:, 1], corner_N2[:, 0])) == np.arange(len(corner_N2))).all()
    meta = json.loads((folder / "tile_embeddings" / "one.meta.json").read_text())
    tiling = json.loads(Path(meta["coordinates_meta_path"]).read_text())
    assert set(tiling) == {"provenance", "slide", "tiling", "segmentation", "filtering", "artifact"}
    assert tiling["tiling"]["n_tiles"] == meta["num_tiles"] == len(corner_N2)
    assert tiling["tiling"]["tile_size_lv0"] == meta["tile_size_lv0"] == TILE_L0
    assert Path(tiling["provenance"]["image_path"]) == root / "slides" / "case-1" / "one.ome.tif"
    with open(folder / "process_list.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["sample_id"], row["tiling_status"], row["feature_status"]) == ("one", "success", "success")
    return torch.load(row["feature_path"], weights_only=True).numpy(), corner_N2


def read_wsidata(root: Path) -> Rows:
    store = zarr.open_group(root / "wsidata" / "one.zarr", mode="r")
    spec = store.attrs["tile_spec"]["tiles"]
    assert (spec["width"], spec["mpp"], spec["base_downsample"], spec["ops_downsample"]) == (96, 0.5, 2.0, 2.0)
    table = store[f"tables/{encoder_of(root)}_tiles"]
    shapes = pq.read_table(root / "wsidata" / "one.zarr" / "shapes" / "tiles" / "shapes.parquet")
    corner_N2 = np.stack([shapes["x"].to_numpy(), shapes["y"].to_numpy()], axis=1)
    for wkb, (x, y) in zip(shapes["geometry"].to_pylist(), corner_N2, strict=True):
        assert wkb[:13] == struct.pack("<BIII", 1, 3, 1, 5)
        ring_52 = np.frombuffer(wkb, "<f8", offset=13).reshape(5, 2)
        assert (ring_52.min(0) == (x, y)).all() and (ring_52.max(0) == (x + TILE_L0, y + TILE_L0)).all()
    assert table["obs/tile_id"][:].tolist() == shapes["tile_id"].to_pylist() == list(range(len(corner_N2)))
    assert table.attrs["region"] == "tiles" and table["obs/library_id/categories"][:].tolist() == ["tiles"]
    return table["X"][:], corner_N2


def read_h5ad(root: Path) -> Rows:
    with h5py.File(root / "h5ad" / "one.h5ad") as file:
        corner_N2 = np.stack([file["obs/x"][:], file["obs/y"][:]], axis=1)
        assert (file["obsm/spatial"][:] == corner_N2 + TILE_L0 / 2).all()
        assert file["obs/_index"].asstr()[:].tolist() == [str(i) for i in range(len(corner_N2))]
        assert file["uns/tile_mpp"][()] == 0.5 and file["uns/encoder"].asstr()[()] == encoder_of(root)
        return file["X"][:], corner_N2


def read_zarr(root: Path) -> Rows:
    group = zarr.open_group(root / "zarr" / "one.zarr", mode="r")
    assert group.attrs["coordinates"] == "x y tissue" and group.attrs["tile_px"] == 96
    assert group["features"].metadata.dimension_names == ("tile", "channel")
    assert set(zarr.open_consolidated(root / "zarr" / "one.zarr").array_keys()) == {"features", "x", "y", "tissue"}
    return group["features"][:], np.stack([group["x"][:], group["y"][:]], axis=1)


def read_parquet(root: Path) -> Rows:
    table = pq.read_table(root / "parquet" / "one.parquet")
    about = json.loads(table.schema.metadata[b"about"])
    assert (about["tile_mpp"], about["tile_width_l0"], about["slide_width_l0"]) == (0.5, TILE_L0, SIDE)
    corner_N2 = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)
    return np.stack(table["embedding"].to_numpy()), corner_N2


READERS: dict[str, Callable[[Path], Rows]] = {
    name.removeprefix("read_"): read for name, read in globals().items() if name.startswith("read_")
}


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_every_format_holds_the_same_rows_and_is_known_when_it_is_there(work: Path, form: str) -> None:
    if form != "trident":
        assert embed(work, form).made == 1
    features_ND, corner_N2 = READERS[form](work)
    expected_ND, expected_N2 = read_trident(work)
    assert len(expected_ND) > 9 and len(features_ND) == len(expected_ND)
    found, expected = (np.lexsort(corners.T) for corners in (corner_N2, expected_N2))
    assert (corner_N2[found] == expected_N2[expected]).all()
    # STAMP keeps half precision.
    tolerance = 2e-3 if form == "stamp" else 0
    np.testing.assert_allclose(features_ND[found], expected_ND[expected], rtol=tolerance, atol=tolerance / 2)
    if form != "slide2vec":
        assert (corner_N2 == expected_N2).all()
    assert not list((work / form).rglob(".*"))
    assert embed(work, form) == Outcome(there=1)


def test_texts_and_numbers_are_what_zarr_reads(tmp_path: Path) -> None:
    texts = ["", "a", "ümlaut", *(str(i) for i in range(3000))]
    store = ZarrStore(tmp_path / "s.zarr", {"of": "the root"})
    store.group("inner", {"told": [1, 2]})
    values = np.random.default_rng(0).normal(size=(90_000, 30)).astype(np.float32)
    store.array("inner/values", values, {"unit": "um"})
    store.array("inner/texts", texts)
    store.array("flags", np.array([True, False, True]))
    store.array("empty", np.empty((0, 4), np.float32))
    store.close()
    for group in (zarr.open_group(tmp_path / "s.zarr", mode="r"), zarr.open_consolidated(tmp_path / "s.zarr")):
        assert group.attrs["of"] == "the root" and group["inner"].attrs["told"] == [1, 2]
        assert np.array_equal(group["inner/values"][:], values) and group["inner/values"].attrs["unit"] == "um"
        assert [str(text) for text in group["inner/texts"][:]] == texts
        assert group["flags"][:].tolist() == [True, False, True] and group["empty"].shape == (0, 4)


TOOLS = {
    "anndata": (
        "h5ad",
        "import anndata; a = anndata.read_h5ad('h5ad/one.h5ad'); assert a.X.shape == (N, D) and a.obs_names[1] == '1'\n"
        "assert list(a.obs.columns) == ['tile_id', 'x', 'y', 'tissue'] and a.obsm['spatial'].shape == (N, 2)\n"
        "assert a.uns['tile_px'] == 96; a.write_h5ad('again.h5ad')",
    ),
    "xarray": (
        "zarr",
        "import xarray; s = xarray.open_zarr('zarr/one.zarr'); assert dict(s.sizes) == {'tile': N, 'channel': D}\n"
        "assert set(s.coords) == {'x', 'y', 'tissue'} and list(s.data_vars) == ['features']\n"
        "assert s.features.values.shape == (N, D)",
    ),
    "wsidata": (
        "wsidata",
        "import wsidata; w = wsidata.open_wsi('slides/case-1/one.ome.tif', store='wsidata/one.zarr')\n"
        "(key,) = w.tables; a = w.fetch.features_anndata(key.removesuffix('_tiles'), 'tiles')\n"
        "assert a.X.shape == (N, D) and a.obsm['spatial'].shape == (N, 2)\n"
        "assert list(a.obs.columns)[:1] == ['tile_id'] and w.tile_spec('tiles').base_width == 192\n"
        "assert w.shapes['tiles'].geometry.iloc[0].area == 192 * 192",
    ),
    "hs2p": (
        "slide2vec",
        "from pathlib import Path; from hs2p.tiling.io import _load_tiling_result_from_paths as load\n"
        "from hs2p.tiling.io import validate_tiling_result_provenance as check\n"
        "t = load(Path('slide2vec/tiles/one.coordinates.npz'), Path('slide2vec/tiles/one.coordinates.meta.json'))\n"
        "assert t.num_tiles == N; kw = dict(mask_path=None, tissue_mask_tissue_value=None)\n"
        "check(t, sample_id='one', image_path='slides/case-1/one.ome.tif', **kw)",
    ),
    "slide2vec": (
        "slide2vec",
        "from slide2vec.artifacts import load_array, load_metadata\n"
        "a = load_array('slide2vec/tile_embeddings/one.pt')\n"
        "m = load_metadata('slide2vec/tile_embeddings/one.meta.json')\n"
        "assert tuple(a.shape) == (N, D) and m['num_tiles'] == N and m['feature_dim'] == D",
    ),
}


@pytest.mark.parametrize("tool", sorted(TOOLS))
def test_the_tool_itself_reads_it(work: Path, tool: str) -> None:
    form, code = TOOLS[tool]
    # Not with our own packages on its path.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pythons = [path for path in os.environ.get("HISTILL_TOOLS", "").split(":") if path]
    have = [
        p for p in pythons if not subprocess.run([p, "-c", f"import {tool}"], env=env, capture_output=True).returncode
    ]
    if not have:
        pytest.skip(
            f"{tool} in none of HISTILL_TOOLS: python -m venv DIR, pip install {tool}, HISTILL_TOOLS=DIR/bin/python"
        )
    embed(work, form)
    n = len(read_trident(work)[0])
    done = subprocess.run(
        [have[0], "-c", f"N, D = {n}, {WIDTH}\n{code}"], cwd=work, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
