"""`histill embed SLIDES --out DIR`: one file a slide, resumable, each bad slide left out with its reason."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from made.python_server import loaded_python
from made.shipped import PARAMS, SIDE, WIDTH, by_timm, ship
from made.slides import make_slide, overwrite, tissue_picture
from PIL import Image, ImageFilter
from typer.testing import CliRunner

from pipeline.base.errors import EmbedError, EngineError, StudentError
from pipeline.base.living.owners import LEASE_S, me
from pipeline.base.store import Ref, Store
from pipeline.embed.claim import Claim
from pipeline.embed.slides import Outcome, Wanted, embed_slides, project_params
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.sources import sources
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.resample import shrink
from pipeline.tiles.stage import make_tiles
from stages.cli.app import cli

TILE = 96


def features(out: Path, name: str = "one") -> Path:
    (path,) = out.glob(f"*/features_*/{name}.h5")
    return path


def made(slide: Path, student: Path, out: Path, **wanted: object) -> Outcome:
    return embed_slides([slide], Wanted(out, student=student, threads=2, **{"engine": "onnxruntime", **wanted}))


def left_out(out: Path) -> dict[str, str]:
    with open(out / "left_out.csv", newline="") as file:
        return {row["slide"]: row["reason"] for row in csv.DictReader(file)}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "eager", "auto"])
def test_every_engine_answers_the_slides_own_pixels_as_timm_does(
    slide: Path, shipped: Path, here: Path, engine: str
) -> None:
    pytest.importorskip("openvino")
    outcome = made(slide, shipped, here / "out", engine=engine)
    picture_HWC = tissue_picture(SIDE, SIDE)
    with h5py.File(features(here / "out")) as file:
        corner_N2, found_ND = file["coords"][:], file["features"][:]
    tiles = [picture_HWC[y : y + TILE, x : x + TILE] for x, y in corner_N2]
    np.testing.assert_allclose(found_ND, by_timm(shipped, tiles), rtol=1e-4, atol=1e-4)
    assert outcome.made == 1 and outcome.tiles == len(corner_N2) > 32
    order = np.lexsort((corner_N2[:, 0], corner_N2[:, 1]))
    assert (order == np.arange(len(corner_N2))).all()


def test_tiles_are_those_of_the_tiles_stage(here: Path, shipped: Path) -> None:
    picture_HWC = tissue_picture(SIDE, SIDE)
    blurred = Image.fromarray(picture_HWC[:, : SIDE // 2]).filter(ImageFilter.GaussianBlur(4))
    picture_HWC[:, : SIDE // 2] = np.asarray(blurred)
    make_slide(here / "slides" / "one.tif", picture_HWC, kind="plain")
    (here / "slides.csv").write_text("path\nslides/one.tif\n")
    (here / "params.yaml").write_text(PARAMS.replace("min_sharpness: 0", "min_sharpness: 0.8"))
    table, store, one = SlidesParams(), Store(here / "store"), ClusterParams(workers=1)
    slides = catalogue(table, store, one)
    located = sources(here / "slides.csv", store, table)
    tiles = make_tiles(slides, located, project_params().tiles, store, one)
    columns = TileReader(store.path(Ref.of(tiles, tiles.items[0]))).table
    made(here / "slides.csv", shipped, here / "out")
    with h5py.File(features(here / "out")) as file:
        corner_N2 = file["coords"][:]
    assert tiles.items[0].dropped["blurred"] > 5
    assert (corner_N2 == np.stack([columns["x_l0"].to_numpy(), columns["y_l0"].to_numpy()], axis=1)).all()


def test_trident_has_every_attribute_that_its_readers_ask_for(slide: Path, shipped: Path, here: Path) -> None:
    made(slide, shipped, here / "out", stands_for="uni_v1")
    assert features(here / "out").relative_to(here / "out") == Path("20x_96px_0px_overlap/features_uni_v1/one.h5")
    with h5py.File(features(here / "out")) as file:
        told = dict(file["coords"].attrs)
        assert file["features"].dtype == np.float32 and file["features"].chunks == (1, WIDTH)
        assert file["coords"].dtype == np.int64 and file["features"].attrs["encoder"] == "uni_v1"
        assert '"stands_for": "uni_v1"' in file.attrs["histill"] and '"encoder": "histill-' in file.attrs["histill"]
    assert (told["patch_size"], told["patch_size_level0"], told["overlap"]) == (96, 96, 0)
    assert told["level0_magnification"] == told["target_magnification"] == 20
    assert (told["level0_width"], told["level0_height"], told["name"]) == (SIDE, SIDE, "one")
    with h5py.File(here / "out" / "20x_96px_0px_overlap" / "patches" / "one_patches.h5") as tiling:
        kept = dict(tiling["coords"].attrs)
    assert {name: kept[name] for name in kept if name != "savetodir"} == {
        name: told[name] for name in told if name != "savetodir"
    }


def test_clam_has_both_its_files(slide: Path, shipped: Path, here: Path) -> None:
    made(slide, shipped, here / "out", form="clam")
    with h5py.File(here / "out" / "h5_files" / "one.h5") as file:
        features_ND, coords = file["features"][:], file["coords"]
        assert coords.dtype == np.int32 and file["features"].chunks == (32, WIDTH)
    tensor = torch.load(here / "out" / "pt_files" / "one.pt", weights_only=True)
    assert tensor.dtype == torch.float32 and np.array_equal(tensor.numpy(), features_ND)
    with h5py.File(here / "out" / "patches" / "one.h5") as tiling:
        assert tiling["coords"].attrs["patch_size"] == 96 and tiling["coords"].attrs["patch_level"] == 0


def test_a_finished_slide_is_skipped_and_another_student_makes_it_anew(
    slide: Path, shipped: Path, here: Path, tmp_path: Path
) -> None:
    out = here / "out"
    made(slide, shipped, out, stands_for="x")
    before = features(out).stat()
    assert made(slide, shipped, out, stands_for="x", engine="openvino") == Outcome(there=1)
    assert features(out).stat().st_mtime_ns == before.st_mtime_ns
    other = ship(here / "other", seed=1)
    assert made(slide, other, out, stands_for="x").made == 1
    # Of the same name, another slide.
    make_slide(slide, tissue_picture(SIDE, SIDE, 5), kind="deflate")
    assert made(slide, other, out, stands_for="x").made == 1


def test_what_others_made_is_not_overwritten(slide: Path, shipped: Path, here: Path) -> None:
    final = here / "out" / "20x_96px_0px_overlap" / "features_uni_v1" / "one.h5"
    final.parent.mkdir(parents=True)
    with h5py.File(final, "w") as file:
        file["features"] = np.ones(3)
    kept = final.read_bytes()
    outcome = made(slide, shipped, here / "out", stands_for="uni_v1")
    assert outcome.made == 0 and "not written by `histill embed`" in left_out(here / "out")["one"]
    assert final.read_bytes() == kept


def test_a_bad_slide_is_left_out_and_the_rest_go_on(slide: Path, shipped: Path, here: Path) -> None:
    (here / "slides" / "broken.svs").write_bytes(b"no slide")
    make_slide(here / "slides" / "without.tif", tissue_picture(SIDE, SIDE), None, [(256, 256)])
    make_slide(here / "slides" / "coarse.tif", tissue_picture(SIDE, SIDE), mpp=(4.0, 4.0))
    words = ["embed", "slides", "--out", "out", "--student", str(shipped), "--engine", "onnxruntime"]
    failed = CliRunner().invoke(cli, words)
    assert failed.exit_code == 3 and "1 slide made" in failed.output and "3 left out" in failed.output
    said = left_out(here / "out")
    assert set(said) == {"without", "coarse", "slides/broken.svs"}
    assert said["without"] == "no mpp in its metadata" and said["coarse"].startswith("coarser than the target")
    assert not [path for path in (here / "out").rglob("*") if path.name.startswith(".")]
    # The remedies that were named.
    with open(here / "out" / "left_out.csv", newline="") as file:
        fixes = {row["slide"]: row["what to do"] for row in csv.DictReader(file)}
    assert "raise tiles.target_mpp (--target-mpp)" in fixes["coarse"] and "params.yaml" in fixes["coarse"]
    assert "params.yaml" not in fixes["without"]
    assert made(here / "slides" / "coarse.tif", shipped, here / "coarse", target_mpp=4.0).made == 1
    (here / "slides.csv").write_text("path,mpp\nslides/without.tif,0.5\nslides/one.tif,\n")
    done = CliRunner().invoke(cli, ["embed", "slides.csv", *words[2:], "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["made"], told["there"], told["left_out"]) == (1, 1, []) and told["tiles"] > 0
    # In a project, what it took is kept for `histill plan --after`.
    kept = json.loads((here / "metrics" / "embed.json").read_text())
    assert kept == {"slides": 1, **{name: told[name] for name in ("tiles", "nbytes", "seconds")}}
    (file,) = (here / "out").glob("*/features_*/without.h5")
    (tiling,) = (here / "out").glob("*/patches/without_patches.h5")
    assert kept["nbytes"] == file.stat().st_size + tiling.stat().st_size
    assert set(left_out(here / "out")) == {"coarse", "slides/broken.svs"}


def test_a_damaged_tile_is_left_out_of_a_grid_and_refused_of_a_given_tiling(here: Path, shipped: Path) -> None:
    slide = make_slide(here / "slides" / "hurt.tif", tissue_picture(SIDE, SIDE), kind="jpeg-ycbcr-444", tile_px=256)
    made(slide, shipped, here / "whole")
    tiling = here / "whole" / "20x_96px_0px_overlap"
    n = len(h5py.File(tiling / "patches" / "hurt_patches.h5")["coords"])
    overwrite(slide, [5])
    made(slide, shipped, here / "out")
    with h5py.File(features(here / "out", "hurt")) as file:
        assert 0 < len(file["features"]) < n
    outcome = made(slide, shipped, here / "given", coords=tiling)
    assert outcome.made == 0 and "do not decode" in left_out(here / "given")["hurt"]


def test_a_given_tiling_keeps_its_rows_and_order_and_is_black_beyond_the_slide(
    slide: Path, shipped: Path, here: Path
) -> None:
    corner_N2 = np.array([[500, 500], [-30, 400], [960, 980], [96, 608], [404, 300], [1000, 10]])
    patches = here / "job" / "10x_96px_0px_overlap" / "patches"
    patches.mkdir(parents=True)
    told = {"patch_size": 96, "patch_size_level0": 192, "level0_magnification": 20, "target_magnification": 10.0}
    with h5py.File(patches / "one_patches.h5", "w") as file:
        file["coords"] = corner_N2
        file["coords"].attrs.update({**told, "overlap": 0, "savetodir": "elsewhere", "custom": 7})
    made(slide, shipped, here / "job", coords=here / "job")
    with h5py.File(features(here / "job")) as file:
        found_ND, coords_N2, attributes = file["features"][:], file["coords"][:], dict(file["coords"].attrs)
    assert (coords_N2 == corner_N2).all() and attributes["custom"] == 7 and attributes["patch_size_level0"] == 192
    padded_HWC = np.zeros((SIDE + 400, SIDE + 400, 3), np.uint8)
    padded_HWC[200 : 200 + SIDE, 200 : 200 + SIDE] = tissue_picture(SIDE, SIDE)
    boxes = [padded_HWC[200 + y : 392 + y, 200 + x : 392 + x] for x, y in corner_N2]
    expected_ND = by_timm(shipped, [shrink(box, (192.0, 192.0), 96) for box in boxes])
    np.testing.assert_allclose(found_ND, expected_ND, rtol=1e-4, atol=1e-4)
    # The tool's own tiling stays as it was.
    with h5py.File(patches / "one_patches.h5") as file:
        assert "histill" not in file.attrs and file["coords"].attrs["savetodir"] == "elsewhere"


def test_a_slide_without_a_tiling_in_the_job_is_left_out(slide: Path, shipped: Path, here: Path) -> None:
    made(slide, shipped, here / "job")
    make_slide(here / "slides" / "two.tif", tissue_picture(SIDE, SIDE, 2))
    outcome = made(here / "slides", shipped, here / "out", coords=here / "job")
    assert outcome.made == 1 and "no coordinates" in left_out(here / "out")["two"]


def test_two_processes_on_one_folder_share_the_work(slide: Path, shipped: Path, here: Path) -> None:
    for i in range(5):
        make_slide(here / "slides" / f"more{i}.tif", tissue_picture(SIDE, SIDE, i), kind="plain")
    words = ["embed", "slides", "--out", "out", "--student", str(shipped), "--engine", "onnxruntime", "--jobs", "1"]
    command = [loaded_python(), "-m", "stages", *words]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    counts = [int(text.split("embed: ")[-1].split(" slide")[0]) for text in said]
    assert sum(counts) == 6, said
    assert len(list((here / "out").glob("*/features_*/*.h5"))) == 6


def test_a_slide_that_another_process_is_at_is_waited_for(slide: Path, shipped: Path, here: Path) -> None:
    made(slide, shipped, here / "first")
    final = here / "out" / features(here / "first").relative_to(here / "first")
    code = (
        "import sys, time; from pathlib import Path; from pipeline.embed.claim import Claim\n"
        "claim = Claim.take([Path(sys.argv[1])]); print('mine', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen(
        [loaded_python(), "-c", code, str(final)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert owner.stdout is not None and owner.stdout.readline() == "mine\n"
        assert Claim.take([final]) is None
    finally:
        owner.kill()
        owner.communicate()
    # Its owner has died: what it left is no one's, and the slide is made.
    assert final.with_name(f".{final.name}.partial").is_dir()
    assert made(slide, shipped, here / "out").made == 1
    assert not list(final.parent.glob(".*"))


def test_a_slide_that_another_machine_is_at_is_left_to_it_until_it_is_given_up(here: Path) -> None:
    final = here / "out" / "one.h5"
    first = Claim.take([final])
    assert first is not None and Claim.take([final]) is None
    (owner,) = final.parent.glob(".*/*.owner")
    theirs = me().model_copy(update={"host": "other", "machine": "other", "boot": "other", "pid": 1})
    text = theirs.model_dump_json()
    first.release()
    assert not list(final.parent.iterdir())
    owner.parent.mkdir()
    owner.write_text(text)
    assert Claim.take([final]) is None
    os.utime(owner, ns=(0, time.time_ns() - int((LEASE_S + 1) * 1e9)))
    taken = Claim.take([final])
    assert taken is not None and not owner.exists()
    taken.partials[0].parent.mkdir()
    taken.partials[0].write_bytes(b"whole")
    taken.commit()
    taken.release()
    assert [path.name for path in final.parent.iterdir()] == ["one.h5"] and final.read_bytes() == b"whole"


def test_the_fastest_engine_is_measured_once_and_remembered(
    slide: Path, shipped: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    made(slide, shipped, here / "a", engine="auto")
    said = capsys.readouterr().err
    assert "ms an image on one core" in said and "onnxruntime" in said and "openvino" in said
    made(slide, shipped, here / "b", engine="auto")
    assert "as measured here before" in capsys.readouterr().err


def test_what_cannot_be_asked_says_why(slide: Path, shipped: Path, here: Path) -> None:
    with pytest.raises(EmbedError, match="neither a file nor a folder"):
        made(here / "absent", shipped, here / "out")
    with pytest.raises(StudentError, match="no exported student here"):
        made(slide, here, here / "out")
    (here / "empty").mkdir()
    with pytest.raises(EmbedError, match=r"(?s)nothing here that OpenSlide recognises.*FILE\.h5"):
        made(here / "empty", shipped, here / "out")
    (shipped / "model.onnx").rename(here / "away")
    try:
        with pytest.raises(EngineError, match=r"there is no model\.onnx"):
            made(slide, shipped, here / "out")
    finally:
        (here / "away").rename(shipped / "model.onnx")
    assert not list((here / "out").rglob("*.h5"))


def test_slides_need_no_torch(slide: Path, shipped: Path, here: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.embed.slides import Wanted, embed_slides\n"
        "wanted = Wanted(Path('out'), 'clam', student=Path(sys.argv[1]), engine='onnxruntime')\n"
        "assert embed_slides([Path('slides')], wanted).made == 1; sys.exit('torch' in sys.modules)"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code, str(shipped)], env=env, check=False).returncode == 0
