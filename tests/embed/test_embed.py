"""`histill embed`: the exported student's answers to files and tiles, in three formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.linalg
import tifffile
import timm
import torch
from made.cache import Cache
from made.command import histill
from made.corpus import GRID, TILE_PX, WIDTH, tiny
from PIL import Image
from typer.testing import CliRunner

from pipeline.base.errors import EmbedError, StudentError
from pipeline.base.store import Ref
from pipeline.embed.images import Embedded, embed, find_images, left_out_file
from pipeline.student.export import load_run
from pipeline.student.train import train_student
from pipeline.tiles.item.reader import TileReader
from stages.cli.app import cli

T = GRID[0] * GRID[1]


@pytest.fixture(scope="module")
def student(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("embed")
    out, params = root / "student", tiny(epochs=1, batch_size=40, seed=9)
    manifest, _ = train_student(cache.tiles, cache.tokens, params, cache.store, out=out, curve=root / "curve.csv")
    (root / "run").symlink_to(cache.store.path(Ref("checkpoints", manifest.recipe_key, "run")))
    return out


@pytest.fixture(scope="module")
def slide(cache: Cache) -> Path:
    return cache.store.path(Ref("tiles", cache.tiles.recipe_key, "key-gamma"))


def read(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        return dict(np.load(path))
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            found: dict[str, Any] = {name: file[name][:] for name in file}
            return found | {"source": found["source"].astype(str)}
    table = pq.read_table(path)
    columns = {name: table[name].to_numpy() for name in table.column_names}
    for name, shape in (("embedding", (WIDTH,)), ("patch", (T, WIDTH)), ("scale", (T,))):
        if name in columns:
            columns[name] = np.stack(columns[name]).reshape(-1, *shape)
    return columns


def test_tiles_are_answered_as_timm_alone_answers_them(student: Path, slide: Path, tmp_path: Path) -> None:
    assert embed([slide], student, tmp_path / "out.h5", batch_size=2) == Embedded(5, 0, None)
    model, tiles = timm.create_model(f"local-dir:{student}", pretrained=True).eval(), TileReader(slide)
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config, is_training=False)
    image_NCHW = torch.stack([transform(Image.fromarray(tiles.image(row))) for row in range(5)])
    with torch.no_grad():
        expected = model(image_NCHW).numpy()
    found = read(tmp_path / "out.h5")
    np.testing.assert_allclose(found["embedding"], expected, rtol=1e-4, atol=1e-4)
    assert found["row"].tolist() == list(range(5)) and set(found["source"]) == {str(slide)}


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".parquet"])
def test_every_format_holds_the_same(student: Path, slide: Path, tmp_path: Path, suffix: str) -> None:
    embed([slide], student, tmp_path / "reference.npz", dense="fp16")
    embed([slide], student, tmp_path / f"out{suffix}", dense="fp16", batch_size=2)
    found, expected = read(tmp_path / f"out{suffix}"), read(tmp_path / "reference.npz")
    assert found["patch"].shape == (5, T, WIDTH) and found["patch"].dtype == np.float16
    for name in ("source", "row"):
        assert np.array_equal(found[name], expected[name])
    for name in ("embedding", "patch"):
        np.testing.assert_allclose(found[name], expected[name], atol=2e-2, rtol=2e-3)


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".parquet"])
def test_int8_holds_what_float16_does_in_every_format(student: Path, slide: Path, tmp_path: Path, suffix: str) -> None:
    embed([slide], student, tmp_path / "fp16.npz", dense="fp16")
    embed([slide], student, tmp_path / f"out{suffix}", dense="int8", batch_size=2)
    found, told = read(tmp_path / f"out{suffix}"), space_of(tmp_path / f"out{suffix}")
    block, mu_D, sigma_D = int(told["rotation_block"]), np.array(told["mu"]), np.array(told["sigma"])
    assert found["patch"].dtype == np.int8 and found["scale"].dtype == np.float16 and tuple(told["grid"]) == GRID
    signs_B = np.array([(-1) ** (i & (i >> 1)).bit_count() for i in range(block)])
    z_NTD = (found["patch"].reshape(5, T, -1, block) @ scipy.linalg.hadamard(block) * signs_B / block**0.5).reshape(
        5, T, WIDTH
    ) * found["scale"].astype(np.float32)[..., None]
    wanted = (read(tmp_path / "fp16.npz")["patch"].astype(np.float32) - mu_D) / sigma_D
    assert np.linalg.norm(z_NTD - wanted) < 0.02 * np.linalg.norm(wanted)


def space_of(path: Path) -> dict[str, Any]:
    """What it takes to read `patch`."""
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return dict(file["patch"].attrs)
    if path.suffix == ".npz":
        return dict(np.load(path))
    return {
        name.decode(): json.loads(value) for name, value in pq.read_schema(path).metadata.items() if name[:2] != b"AR"
    }


def test_dense_answers_are_in_the_teachers_own_space(student: Path, slide: Path, tmp_path: Path) -> None:
    embed([slide], student, tmp_path / "out.npz", dense="fp16")
    _, distiller, targets = load_run(student.parent / "run")
    image_NHWC = torch.from_numpy(np.stack([TileReader(slide).image(row, TILE_PX) for row in range(5)]))
    with torch.no_grad():
        ((_, z_NTD),) = distiller(image_NHWC)
    expected = z_NTD * targets["patch_scale"] + targets["patch_mean"]
    np.testing.assert_allclose(read(tmp_path / "out.npz")["patch"], expected.numpy(), atol=2e-2, rtol=2e-3)


def test_folders_and_files_come_in_the_order_asked_for(student: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("b/2.png", "a.jpg", "b/1.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "in" / name)
    embed([tmp_path / "in" / "b" / "2.png", tmp_path / "in"], student, tmp_path / "out.parquet")
    found = read(tmp_path / "out.parquet")
    order = [str(tmp_path / "in" / name) for name in ("b/2.png", "a.jpg", "b/1.png", "b/2.png")]
    assert found["source"].tolist() == order and "patch" not in found
    assert np.allclose(found["embedding"][0], found["embedding"][3], atol=1e-4)


def test_a_whole_slide_is_not_taken_for_a_tile(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "slide.tif", np.zeros((256, 256, 3), np.uint8), tile=(128, 128), photometric="rgb")
    for path in (tmp_path / "slide.tif", tmp_path):
        with pytest.raises(EmbedError, match=r"(?s)slide\.tif: a whole slide.*dvc repro tiles"):
            find_images([path])
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "slide.tif")
    assert len(find_images([tmp_path])) == 1


def test_what_cannot_be_done_says_why_and_leaves_the_file(student: Path, slide: Path, tmp_path: Path) -> None:
    out, bad = tmp_path / "out.h5", tmp_path / "bad.jpg"
    embed([slide], student, out)
    before = out.read_bytes()
    bad.write_bytes(b"no image")
    with pytest.raises(EmbedError, match=r"bad\.jpg: the image cannot be read"):
        embed([bad], student, out)
    with pytest.raises(EmbedError, match="neither a file nor a folder"):
        embed([tmp_path / "absent"], student, out)
    with pytest.raises(StudentError, match="no exported student here"):
        embed([slide], tmp_path, out)
    with pytest.raises(EmbedError, match=r"no such format: \.csv"):
        embed([slide], student, tmp_path / "out.csv")
    assert out.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ["bad.jpg", "out.h5"]


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".parquet"])
def test_damaged_images_have_no_row_and_are_named_beside_the_file(student: Path, tmp_path: Path, suffix: str) -> None:
    rng, folder, out = np.random.default_rng(0), tmp_path / "in", tmp_path / f"out{suffix}"
    folder.mkdir()
    for name in "abcde":
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(folder / f"{name}.jpg")
    embed([folder], student, out, dense="fp16", batch_size=2)
    before = read(out)
    assert not left_out_file(out).exists()
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:200])
    (folder / "e.jpg").write_bytes(b"")
    Image.new("RGB", (9, 9)).save(folder / "f.gif")
    done, found = embed([folder], student, out, dense="fp16", batch_size=2), read(out)
    assert done == Embedded(3, 3, tmp_path / "out.left_out.csv")
    assert [Path(source).stem for source in found["source"]] == ["a", "c", "d"]
    for name in ("embedding", "patch"):
        np.testing.assert_allclose(found[name], before[name][[0, 2, 3]], atol=2e-2, rtol=2e-3)
    lines = done.named_in.read_text().splitlines()
    assert lines[0] == "image,reason" and len(lines) == 4
    assert all(any(f"{name}," in line for line in lines) for name in ("b.jpg", "e.jpg", "f.gif"))
    for path in (folder / "b.jpg", folder / "e.jpg", folder / "f.gif"):
        path.unlink()
    embed([folder], student, out)
    assert not left_out_file(out).exists(), "what an earlier run left out is not said of this one"


def test_the_command_names_what_it_left_out_and_fails(student: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    words = ["embed", *(str(tmp_path / name) for name in ("good.png", "bad.png")), "--student", str(student)]
    failed = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "e.npz")])
    assert failed.exit_code == 3 and "1 images embedded" in failed.output
    assert "1 left out, named in" in failed.output.replace("\n", " ") and (tmp_path / "e.left_out.csv").exists()


def test_the_command_embeds(student: Path, slide: Path, tmp_path: Path) -> None:
    words = ["embed", str(slide), "--student", str(student), "--out", str(tmp_path / "e.npz"), "--dense"]
    done = histill(tmp_path, *words)
    assert done.returncode == 0 and "5 images embedded" in done.stdout, done.stderr
    told = CliRunner().invoke(cli, [*words, "--json"])
    assert json.loads(told.stdout) == {"out": str(tmp_path / "e.npz"), "n": 5, "left_out": 0, "named_in": None}


def test_the_command_says_what_is_wrong_and_fails(student: Path, slide: Path, tmp_path: Path) -> None:
    words = ["embed", str(slide), "--student", str(student), "--out", str(tmp_path / "e.txt")]
    failed = CliRunner().invoke(cli, words)
    assert failed.exit_code == 1 and "use .h5, .npz, .parquet" in failed.output


def test_options_of_slides_are_refused_for_a_file_of_images(student: Path, tmp_path: Path) -> None:
    """The student would have answered, whatever teacher was asked for."""
    for option, value in (("--teacher", "uni"), ("--as", "uni_v1"), ("--tile-px", "64"), ("--engine", "onnxruntime")):
        done = histill(tmp_path, "embed", ".", "--student", str(student), "--out", "x.h5", option, value)
        assert done.returncode == 1 and f"{option}: of slides" in done.stderr.replace("\n", " ")
        assert not (tmp_path / "x.h5").exists()
