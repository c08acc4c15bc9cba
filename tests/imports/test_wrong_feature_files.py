"""A file that says of its rows what cannot be is refused for its slide; forms that differ in no number are taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from made.feature_jobs import JOBS, MPP, SLIDE_PX, parquet

from pipeline.base.errors import TableError
from pipeline.imports.filling import Asked, Filled, with_features
from pipeline.imports.formats.opening import open_features
from pipeline.slides.table import Row
from pipeline.tiles.coords.tiling import read_tiling

SIDE, WIDTH = 64, 1024
CORNERS = np.array([(x, y) for y in range(0, 640, SIDE) for x in range(0, 640, SIDE) if (x + y) % 3])
N = len(CORNERS)
VALUES = np.random.default_rng(0).normal(0, 3, (N, WIDTH)).astype(np.float32)
Change = Callable[[Path], None]


def _filled(root: Path, *names: str) -> Filled:
    rows = [Row(i, f"{name}.tif", name) for i, name in enumerate(names, start=2)]
    return with_features(rows, root / "job", Asked("uni", root / "tilings", root), lambda row: (MPP, MPP))


def _made(root: Path, form: str, change: Change) -> None:
    change(JOBS[form](root / "job", "one", VALUES, CORNERS, SIDE))


def data(name: str, values: object, **how: object) -> Change:
    """Another data set of that name, with the attributes that it had."""

    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            attributes = dict(file[name].attrs) if name in file else {}
            if name in file:
                del file[name]
            file.create_dataset(name, data=values, **how).attrs.update(attributes)

    return change


def says(of: str, **attributes: object) -> Change:
    """Attributes of the file (`/`) or a data set; None: it has none."""

    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            for name, value in attributes.items():
                file[of].attrs.pop(name, None)
                if value is not None:
                    file[of].attrs[name] = value

    return change


def arrays(**changed: object) -> Change:
    """Of an npz; None: it has none."""

    def change(path: Path) -> None:
        kept = dict(np.load(path)) | changed
        np.savez(path, **{name: value for name, value in kept.items() if value is not None})

    return change


def tensor(value: object) -> Change:
    return lambda path: torch.save(value, path)


def beside(name: str, **changed: object) -> Change:
    """Of a JSON file in the same folder."""

    def change(path: Path) -> None:
        file = path.with_name(name)
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))

    return change


def index(centres: np.ndarray) -> Change:
    return lambda path: np.savez(path.with_name("one.index.npz"), centres)


def elsewhere(path: Path) -> None:
    """Its rows are in another file, which no checksum of this one knows."""
    shutil.move(path, path.with_suffix(".data"))
    with h5py.File(path, "w") as file:
        for name in ("features", "coords"):
            file[name] = h5py.ExternalLink(f"{path.stem}.data", name)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def no_h5_of_patches(path: Path) -> None:
    (path.parent.parent / "patches" / "one.h5").write_bytes(b"no h5")


T = torch.from_numpy(VALUES)
WRONG: list[tuple[str, Change, str]] = [
    ("trident", data("coords", CORNERS.T), f"coords is int64[2, {N}], not (N, 2)"),
    ("trident", data("coords", CORNERS[None]), f"coords is int64[1, {N}, 2]"),
    ("trident", data("coords", CORNERS > 100), "coords is bool"),
    ("trident", data("coords", np.repeat(CORNERS[:1], N, 0)), f"lie at 1 place, and have {N} rows"),
    ("trident", data("coords", np.where(np.arange(N)[:, None] == 3, np.nan, CORNERS)), "place of row 3"),
    ("trident", data("features", h5py.Empty("f4")), "holds no features"),
    ("trident", data("features", VALUES[None]), f"float32[1, {N}, {WIDTH}], not (N, D)"),
    ("trident", data("slide", "two"), "no row of a slide called one"),
    ("trident", data("slide", ["one"] * 3), "slide is [3], not a name a row"),
    ("trident", says("coords", patch_size_level0=np.nan), "a patch is nan level-0 pixels wide"),
    ("trident", says("coords", patch_size_level0=0.0), "a patch is 0 level-0 pixels wide"),
    ("trident", says("coords", target_magnification=0.0), "is of magnification 0"),
    ("trident", says("features", encoder="gigapath"), "another encoder than uni"),
    ("trident", elsewhere, "keeps features in another file"),
    ("stamp", says("/", unit="px"), "says unit px"),
    ("stamp", says("/", feat_type="slide"), "says feat_type slide"),
    ("stamp", says("/", tile_size_um=np.nan), "tiles nan level-0 pixels wide"),
    ("h5", says("/", side_um=32.0), "twice, as side_um and as side_l0"),
    ("h5", says("/", side_l0=-3.0), "tiles -3 level-0 pixels wide"),
    ("npz", arrays(side_l0=np.array(64.0)), "twice, as side_um and as side_l0"),
    ("npz", arrays(coords=CORNERS.T), f"coords is int64[2, {N}]"),
    ("npz", arrays(slide=np.array("two")), "no row of a slide called one"),
    ("npz", arrays(coords=None), "say nothing of where its tiles lie"),
    ("clam", lambda path: shutil.move(path, path.parent.parent / "h5_files" / "one.pt"), "two files of one slide"),
    ("clam", no_h5_of_patches, "the coordinates of its features"),
    ("slideflow", index(CORNERS[:-1] + SIDE // 2), f"{N} rows of features, and {N - 1} coordinates"),
    ("slideflow", index(np.repeat(CORNERS, 3, 1)[:, :3]), f"coords is int64[{N}, 3]"),
    ("slideflow", beside("bags_config.json", tile_um="20x"), "is of tiles of 20x um"),
    ("slideflow", tensor({"features": T}), "holds a dict, not one tensor"),
    ("slideflow", tensor(VALUES), "damaged, or holds something else than a tensor"),
    ("slideflow", tensor(T.to_sparse()), "sparse tensor"),
    ("slideflow", cut, "damaged, or holds something else than a tensor"),
    ("slide2vec", beside("one.meta.json", tile_size_lv0=None), "without tile_size_lv0"),
    ("slide2vec", lambda path: path.with_name("one.meta.json").unlink(), "stand without one.meta.json"),
]


@pytest.mark.parametrize(("form", "change", "said"), WRONG, ids=[f"{form}-{said[:28]}" for form, _, said in WRONG])
@pytest.mark.filterwarnings("ignore:.*[Ss]parse")
def test_what_cannot_be_is_refused_for_its_slide(tmp_path: Path, form: str, change: Change, said: str) -> None:
    _made(tmp_path, form, change)
    try:
        filled = _filled(tmp_path, "one")
    except TableError as error:
        assert said in error.what and error.fix
        return
    ((slide, refused),) = filled.refused
    assert slide == "one" and said in refused.what and refused.fix and not refused.trace
    assert filled.rows[0].features is None


one = np.array
SAME: list[tuple[str, Change]] = [
    ("trident", data("coords", CORNERS.astype(">f8"))),
    ("trident", data("features", VALUES.astype(">f4"))),
    ("trident", data("features", VALUES, compression="gzip", chunks=(7, 100), shuffle=True)),
    ("trident", says("coords", patch_size=one([SIDE]), level0_magnification=one([20]), overlap=one([0]))),
    ("trident", says("coords", patch_size="64", patch_size_level0=b"64", target_magnification="20")),
    ("trident", says("coords", level0_magnification=None)),
    ("trident", says("features", encoder=one([b"uni_v1"]))),
    ("trident", data("slide", "one")),
    ("npz", arrays(side_um=one([SIDE * MPP]))),
    ("npz", arrays(coords=None, x=CORNERS[:, :1], y=CORNERS[:, 1:])),
    ("slideflow", tensor(torch.nn.Parameter(T))),
    ("slideflow", tensor(T.T.contiguous().T)),
    ("slideflow", beside("bags_config.json", extractor="uni")),
]


@pytest.mark.parametrize(("form", "change"), SAME, ids=[f"{form}-{i}" for i, (form, _) in enumerate(SAME)])
def test_another_form_of_the_same_numbers_is_taken_as_they_are(tmp_path: Path, form: str, change: Change) -> None:
    _made(tmp_path, form, change)
    filled = _filled(tmp_path, "one")
    assert not filled.refused, filled.refused
    (row,) = filled.rows
    tiling = read_tiling(tmp_path / row.coords, [(SLIDE_PX, SLIDE_PX, 1.0)])
    assert np.array_equal(tiling.corner_N2, CORNERS) and tiling.side_l0 == SIDE
    assert np.array_equal(open_features(tmp_path / row.features, "one").read(), VALUES)


def _table_of(root: Path, features: pa.Array, **more: pa.Array) -> None:
    """A parquet of the slides one and another, with those features."""
    table = pq.read_table(parquet(root / "job", "one", VALUES, CORNERS, SIDE))
    kept = {name: table[name] for name in ("slide", "x", "y")} | ({"features": features} if features else {}) | more
    pq.write_table(pa.table(kept).replace_schema_metadata(table.schema.metadata), root / "job" / "all.parquet")


def test_lists_of_other_lengths_are_never_taken_for_one_anothers_numbers(tmp_path: Path) -> None:
    lists = [*VALUES.tolist(), *VALUES[:3].tolist()]
    # As many numbers in all as if each had its own.
    lists[1], lists[0] = lists[1] + lists[0][1000:], lists[0][:1000]
    x_N = pa.array([*CORNERS[:, 0].tolist(), 0, SIDE, 2 * SIDE])
    _table_of(tmp_path, pa.array(lists, pa.list_(pa.float32())), x=x_N)
    filled = _filled(tmp_path, "one", "another")
    ((slide, refused),) = filled.refused
    assert slide == "one" and "lists of 1000 to 1048 features" in refused.what
    assert filled.rows[1].features == "job/all.parquet"
    with pytest.raises(TableError, match="lists of 1000 to 1048"):
        _filled(tmp_path, "one")


def test_columns_of_channels_are_those_of_one_name_without_a_gap(tmp_path: Path) -> None:
    whole = np.concatenate([VALUES, VALUES[:3]])
    channels = {f"feature_{i}": pa.array(whole[:, i]) for i in range(WIDTH)}
    year = {"label_2024": pa.array(whole[:, 0])}
    _table_of(tmp_path, None, **year, **channels)
    assert np.array_equal(open_features(tmp_path / "job" / "all.parquet", "one").read(), VALUES)
    del channels["feature_17"]
    _table_of(tmp_path, None, **year, **channels)
    with pytest.raises(TableError, match="1023 columns like feature_0, and none of number 17"):
        _filled(tmp_path, "one")
