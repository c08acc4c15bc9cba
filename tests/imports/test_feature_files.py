"""A tool's file of features is read as the rows and places that were written, whichever tool it is of."""

from __future__ import annotations

import mmap
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.command import histill
from made.embedded import embedded_job
from made.feature_jobs import JOBS, MPP, SLIDE_PX, clam, stamp, tiling_attributes, trident
from made.slides import make_slide

from pipeline.base.errors import SlideRefused, TableError
from pipeline.imports.encoders import channels, require_teacher, teacher_called
from pipeline.imports.filling import Asked, with_features
from pipeline.imports.formats import chunks as chunks_of_file
from pipeline.imports.formats.chunk_index import chunk_places
from pipeline.imports.formats.chunks import pieces_of, rows_of
from pipeline.imports.formats.opening import open_features
from pipeline.imports.found import feature_files
from pipeline.slides.table import Row, read_table
from pipeline.tiles.coords.tiling import read_tiling

SIDE, WIDTH = 64, 1024
LEVELS = [(640, 640, 1.0)]
CORNERS = np.array([(x, y) for y in range(0, 640, SIDE) for x in range(0, 640, SIDE) if (x + y) % 3])
VALUES = np.random.default_rng(0).normal(0, 3, (len(CORNERS), WIDTH)).astype(np.float32)
ENCODERS = {"trident": "uni_v1", "clam": None, "slideflow": "slideflow.model.extractors.uni.UNIFeatures"}


def asked(root: Path, **wanted: object) -> Asked:
    return Asked("uni", root / "tilings", root, **wanted)


def no_scale(row: Row) -> tuple[float, float]:
    return MPP, MPP


@pytest.mark.parametrize("form", JOBS)
def test_a_file_of_each_tool_gives_its_rows_and_a_tiling_of_level_0(tmp_path: Path, form: str) -> None:
    job = tmp_path / "job"
    written = JOBS[form](job, "one", VALUES, CORNERS, SIDE)
    filled = with_features([Row(2, "one.tif", "one")], job, asked(tmp_path), no_scale)
    assert not filled.refused and not filled.remarks
    (row,), (found,) = filled.rows, filled.files
    assert row.coords == "tilings/one.h5"
    # Of CLAM's two files the one that has coordinates is named.
    assert tmp_path / row.features == (written if form != "clam" else job / "h5_files" / "one.h5")
    tiling = read_tiling(tmp_path / row.coords, LEVELS)
    assert np.array_equal(tiling.corner_N2, CORNERS) and tiling.side_l0 == SIDE
    assert found.encoder == ENCODERS.get(form, "uni")
    assert found.dtype == ("float16" if form == "stamp" else "float32")
    expected = VALUES.astype(np.float16).astype(np.float32) if form == "stamp" else VALUES
    read = open_features(tmp_path / row.features, "one").read()
    assert np.array_equal(read.astype(np.float32), expected) and (found.n, found.width) == VALUES.shape


@pytest.mark.parametrize("form", ["trident", "clam", "stamp", "slideflow", "slide2vec", "parquet"])
def test_what_histill_embed_writes_for_a_tool_is_taken_as_it_was_written(tmp_path: Path, form: str) -> None:
    written = embedded_job(tmp_path / "job", form, Path("one.tif"), (SLIDE_PX, SLIDE_PX), WIDTH)
    filled = with_features([Row(2, "one.tif", "one")], tmp_path / "job", asked(tmp_path), no_scale)
    assert not filled.refused and not filled.remarks, (filled.refused, filled.remarks)
    row = filled.rows[0]
    features = open_features(tmp_path / row.features, "one")
    tiling = read_tiling(tmp_path / row.coords, LEVELS)
    assert tiling.side_l0 == SIDE and features.n == len(written) == 100
    # slide2vec has them in an order of its own: each row is that of its tile.
    row_of = {tuple(corner): i for i, corner in enumerate(written.corner_N2.tolist())}
    expected_ND = written.embedding_ND[[row_of[tuple(corner)] for corner in tiling.corner_N2.tolist()]]
    assert np.array_equal(features.read().astype(np.float16), expected_ND.astype(np.float16))


def test_the_command_fills_the_table_and_says_which_slides_have_none(tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    for name in ("one", "two"):
        make_slide(tmp_path / "slides" / f"{name}.tif", np.full((SLIDE_PX, SLIDE_PX, 3), 200, np.uint8), kind="plain")
    stamp(tmp_path / "job", "one", VALUES, CORNERS, SIDE)
    words = ("import", "features", "job", "--teacher", "uni", "--slides", "slides", "--out", "slides.csv")
    done = histill(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert "no features for two" in done.stderr
    one, two = read_table(tmp_path / "slides.csv").rows
    assert one.path == "slides/one.tif" and (tmp_path / one.features).is_file() and not two.features
    # STAMP's micrometres, at the scale that the slide itself has.
    assert np.abs(read_tiling(tmp_path / one.coords, LEVELS).corner_N2 - CORNERS).max() <= 1
    done = histill(tmp_path, *words[:4], "virchow2", *words[5:])
    assert "which is the teacher uni, not virchow2" in done.stderr


def test_the_same_tiles_are_the_same_tiling_whichever_tool_they_are_of(tmp_path: Path) -> None:
    tilings = set()
    for form in ("clam", "stamp", "slide2vec", "slideflow", "h5"):
        JOBS[form](tmp_path / form, "one", VALUES, CORNERS, SIDE)
        with_features([Row(2, "one.tif", "one")], tmp_path / form, asked(tmp_path), no_scale)
        tilings.add((tmp_path / "tilings" / "one.h5").read_bytes())
    assert len(tilings) == 1


def test_a_tensor_of_clams_alone_lies_where_its_h5_says(tmp_path: Path) -> None:
    clam(tmp_path, "one", VALUES, CORNERS, SIDE)
    filled = with_features([Row(2, "one.tif", "one")], tmp_path / "pt_files", asked(tmp_path), no_scale)
    assert filled.rows[0].features == "pt_files/one.pt"
    assert np.array_equal(read_tiling(tmp_path / "tilings" / "one.h5", LEVELS).corner_N2, CORNERS)


@pytest.mark.parametrize("form", ["h5", "npz"])
def test_a_side_that_no_file_tells_is_asked_for(tmp_path: Path, form: str) -> None:
    (tmp_path / "job").mkdir()
    if form == "h5":
        with h5py.File(tmp_path / "job" / "one.h5", "w") as file:
            file["features"], file["coords"] = VALUES, CORNERS
    else:
        np.savez(tmp_path / "job" / "one.npz", features=VALUES, coords=CORNERS)
    rows, job = [Row(2, "one.tif", "one")], tmp_path / "job"
    ((_, error),) = with_features(rows, job, asked(tmp_path), no_scale).refused
    assert "how large a tile" in error.what and "--tile-l0" in error.fix
    for wanted in ({"side_l0": 64.0}, {"side_um": 64 * MPP}):
        assert not with_features(rows, job, asked(tmp_path, **wanted), no_scale).refused
        assert read_tiling(tmp_path / "tilings" / "one.h5", LEVELS).side_l0 == SIDE


def _another_step(path: Path) -> None:
    """As where half-size patches were extracted, and the attributes of the first try were kept."""
    with h5py.File(path, "r+") as file:
        file["coords"][...] = CORNERS // 2


def _another_scale(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["coords"].attrs.update(tiling_attributes(SIDE, SIDE, 640) | {"patch_size_level0": 2.0 * SIDE})


def _a_row_less(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["features"].resize((len(VALUES) - 1, WIDTH))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_another_step, "lie 32 px apart, and the file says that a tile is 64 px"),
        (_another_scale, "a patch is 128 level-0 pixels wide, and by its magnifications 64"),
        (_a_row_less, f"{len(VALUES) - 1} rows of features, and {len(VALUES)} coordinates"),
        (_cut, "cannot be read"),
    ],
    ids=lambda case: getattr(case, "__name__", ""),
)
def test_a_file_that_disagrees_with_itself_is_refused_and_costs_no_other_slide(tmp_path: Path, damage, said) -> None:
    for name in ("one", "two"):
        path = trident(tmp_path / "job", name, VALUES, CORNERS, SIDE)
    damage(path)
    rows = [Row(2, "one.tif", "one"), Row(3, "two.tif", "two")]
    filled = with_features(rows, tmp_path / "job", asked(tmp_path), no_scale)
    ((slide, error),) = filled.refused
    assert slide == "two" and said in error.what and error.fix
    assert filled.rows[0].features and filled.rows[1] == rows[1]


def test_another_encoders_features_are_refused_by_their_name_and_by_their_width(tmp_path: Path) -> None:
    trident(tmp_path / "job", "one", VALUES, CORNERS, SIDE, encoder="virchow2")
    trident(tmp_path / "few", "one", VALUES[:, :512], CORNERS, SIDE)
    for job, said in (("job", "which is the teacher virchow2"), ("few", "512 channels, and uni answers with 1024")):
        filled = with_features([Row(2, "one.tif", "one")], tmp_path / job, asked(tmp_path), no_scale)
        assert said in filled.refused[0][1].what
    assert teacher_called("hoptimus1") == "h-optimus-1" and teacher_called("conch_v1") is None
    # A name that nobody here knows says nothing; one of another encoder of the tools' does.
    require_teacher("ours", "uni")
    require_teacher("conch_v1", "vit_large_patch16_224")
    for encoder, teacher in (("gigapath", "uni2-h"), ("conch_v15", "h0-mini"), ("prov-gigapath", "h-optimus-1")):
        with pytest.raises(SlideRefused, match="another encoder"):
            require_teacher(encoder, teacher)
    # Virchow2's makers recommend CLS and the mean of the patch tokens: the first half is CLS.
    assert channels(2560, "virchow2", 1280) == 1280
    with pytest.raises(SlideRefused, match="2048 channels"):
        channels(2048, "uni", 1024)


def test_of_several_encoders_the_teachers_are_taken_else_one_is_asked_for(tmp_path: Path) -> None:
    for encoder in ("uni_v1", "conch_v1"):
        path = trident(tmp_path, "one", VALUES, CORNERS, SIDE, encoder=encoder)
    assert [found.parent.name for found in feature_files(tmp_path, "uni")] == ["features_uni_v1"]
    with pytest.raises(TableError, match="features of several kinds"):
        feature_files(tmp_path, "virchow2")
    assert feature_files(path.parent, "virchow2") == [path]
    (tmp_path / "20x_64px_0px_overlap" / "patches").mkdir()
    with pytest.raises(TableError, match="no features here"):
        feature_files(tmp_path / "20x_64px_0px_overlap" / "patches", "uni")


@given(
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from(["row", "whole", "gzip", "part", "grown", "unwritten", "latest", "attributes"]),
    st.sampled_from([50, 700, 1 << 20]),
)
def test_rows_copied_from_where_chunks_lie_are_those_that_hdf5_reads(
    tmp_path_factory: pytest.TempPathFactory, n: int, width: int, chunk: int, kind: str, block: int
) -> None:
    path = tmp_path_factory.mktemp("chunks") / "a.h5"
    values = np.random.default_rng(n).normal(size=(n, width)).astype(np.float32)
    with h5py.File(path, "w", libver="latest" if kind == "latest" else None) as file:
        chunks = {"whole": None, "part": (min(chunk, n), max(1, width - 1))}.get(kind, (min(chunk, n), width))
        if kind == "grown":
            # Rows that come a few at a time, with another data set between them.
            grown = file.create_dataset("a", (0, width), np.float32, maxshape=(None, width), chunks=chunks)
            for start in range(0, n, 3):
                stop = min(n, start + 3)
                grown.resize((stop, width))
                grown[start:stop] = values[start:stop]
                file.create_dataset(f"b{start}", data=np.arange(5))
        elif kind == "unwritten":
            some = file.create_dataset("a", values.shape, np.float32, chunks=chunks)
            some[: n // 2] = values[: n // 2]
        else:
            file.create_dataset("a", data=values, chunks=chunks, compression="gzip" if kind == "gzip" else None)
            for i in range(8 * (kind == "attributes")):
                # More than the object header has room for: it goes on elsewhere.
                file["a"].attrs[f"note {i}"] = "x" * 50
    with (
        open(path, "rb", buffering=0) as raw,
        mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        h5py.File(path) as file,
        pytest.MonkeyPatch.context() as patch,
    ):
        assert np.array_equal(rows_of(file["a"], raw), file["a"][...])
        # What h5py writes unless told otherwise is read by its index, and not a chunk a call.
        assert kind not in ("row", "grown", "attributes") or chunk_places(file["a"], mapped) is not None
        # Blocks of less than a chunk, and of a few rows, so that chunks go on in the next.
        patch.setattr(chunks_of_file, "BLOCK_NBYTES", block)
        seen, found = bytearray(), np.full_like(values, np.nan)
        for first, rows in pieces_of(file["a"], raw, seen.extend):
            found[first : first + len(rows)] = rows
        assert np.array_equal(found, file["a"][...]) and bytes(seen) == path.read_bytes()


@pytest.mark.parametrize("damage", ["cut", "circle", "elsewhere"])
def test_a_damaged_index_of_chunks_is_left_to_the_library(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.ones((300, 2), np.float32), chunks=(1, 2))
    data = bytearray(path.read_bytes())
    leaves = [at for at in range(len(data) - 8) if data[at : at + 6] == b"TREE\x01\x00"]
    assert len(leaves) > 2
    # Of a leaf: the right sibling's address, then the place of its first chunk.
    at, value = {
        "cut": (leaves[1] + 16, len(data) - 8),
        "circle": (leaves[-1] + 16, leaves[0]),
        "elsewhere": (leaves[1] + 24 + 32, len(data)),
    }[damage]
    data[at : at + 8] = value.to_bytes(8, "little")
    path.write_bytes(data)
    with (
        open(path, "rb") as raw,
        mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        h5py.File(path) as file,
    ):
        assert chunk_places(file["a"], mapped) is None
