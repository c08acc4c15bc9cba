"""Each adapter gives a tool the student's own answers to a tile, and nothing that is there is written over unsaid."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from by_source import TOOLS, loaded
from made.exported import SIDE_PX, export
from made.slides import make_slide, tissue_picture
from PIL import Image
from typer.testing import CliRunner

from pipeline.base.errors import ExportError, StudentError
from pipeline.export.adapters import TOOLS as KNOWN
from pipeline.export.adapters import export_adapter
from pipeline.student.shipped import Shipped
from stages.cli.app import cli

WIDTH, TILE_PX = 24, 224


@pytest.fixture(scope="module")
def adapters(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapters") / "out"
    for tool in KNOWN:
        export_adapter(tool, student, out)
    return out


@pytest.fixture(scope="module")
def tile() -> Image.Image:
    return Image.fromarray(tissue_picture(TILE_PX, TILE_PX, 4))


def answer(student: Path, tile: Image.Image) -> torch.Tensor:
    """By timm's own loading and Pillow's resizing."""
    model = timm.create_model(f"local-dir:{student}", pretrained=True).eval()
    small = np.asarray(tile.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)).copy()
    return model((torch.from_numpy(small).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5)


@pytest.mark.parametrize("tool", sorted(TOOLS))
@torch.inference_mode()
def test_the_tool_gets_the_students_own_answer(tool: str, adapters: Path, student: Path, tile: Image.Image) -> None:
    (file,) = adapters.glob(f"histill_{tool}.*")
    found = TOOLS[tool](file, tile, Shipped.of_folder(student).name)
    torch.testing.assert_close(found, answer(student, tile), rtol=1e-4, atol=1e-5)


def test_adapters_share_one_copy_of_the_student_and_leave_nothing_else(adapters: Path, student: Path) -> None:
    names = {path.name for path in adapters.iterdir()} - {"__pycache__"}
    assert names == {"histill_student", "histill_eva.yaml", *(f"histill_{tool}.py" for tool in KNOWN if tool != "eva")}
    assert Shipped.of_folder(adapters / "histill_student").digest == Shipped.of_folder(student).digest
    assert str(student) not in "".join(file.read_text() for file in adapters.glob("*.*"))


def test_what_is_there_is_kept_unless_it_is_the_same(student: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export_adapter("clam", student, out).written and not export_adapter("clam", student, out).written
    file = out / "histill_clam.py"
    file.write_text("mine")
    with pytest.raises(ExportError, match=r"changed by hand(?s:.)*--replace"):
        export_adapter("clam", student, out)
    assert file.read_text() == "mine"
    assert export_adapter("clam", student, out, replace=True).written and "get_encoder" in file.read_text()
    other = tmp_path / "other"
    export(other, WIDTH, seed=4)
    with pytest.raises(ExportError, match=r"another student is there: histill-mobilenetv3_small_050-"):
        export_adapter("eva", other, out)
    assert not (out / "histill_eva.yaml").exists()
    (tmp_path / "elsewhere" / "histill_student").mkdir(parents=True)
    (tmp_path / "elsewhere" / "histill_student" / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="something else is there"):
        export_adapter("eva", student, tmp_path / "elsewhere")
    with pytest.raises(StudentError, match="no exported student here"):
        export_adapter("eva", tmp_path, out)


def test_a_tool_that_is_not_known_is_refused_by_the_command_line(student: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(cli, ["export", "adapter", "--for", "qupath", "--out", str(tmp_path)])
    assert run.exit_code == 2 and "trident" in run.output
    run = CliRunner().invoke(
        cli, ["export", "adapter", "--for", "trident", "--student", str(student), "--out", str(tmp_path / "out")]
    )
    assert run.exit_code == 0 and "--mag 20 --patch_size 224" in run.output, run.output


def test_architecture_arguments_and_an_earlier_export_are_taken_along(student: Path, tmp_path: Path) -> None:
    copy = tmp_path / "student"
    shutil.copytree(student, copy)
    config = json.loads((copy / "config.json").read_text())
    del config["histill"]
    config["model_args"] = {"drop_rate": 0.25}
    (copy / "config.json").write_text(json.dumps(config))
    export_adapter("clam", copy, tmp_path / "out")
    assert loaded(tmp_path / "out" / "histill_clam.py").build().drop_rate == 0.25


def test_adapters_are_short_enough_to_read(adapters: Path) -> None:
    for file in [*adapters.glob("*.py"), adapters / "histill_student" / "__init__.py"]:
        lines = file.read_text().splitlines()
        assert 10 <= len(lines) <= 30 and max(map(len, lines)) <= 140, file


INSTALLED = {
    "thunder": "from thunder.models.utils import load_custom_model_from_file as load\n"
    "m = load('histill_thunder.py')\n"
    "answer = m.get_embeddings(m.get_transform()(tile)[None], m, 'linear_probing')[0]",
    "slide2vec": "import histill_slide2vec, slide2vec\n"
    "from slide2vec.encoders.registry import encoder_registry\n"
    "e = encoder_registry.require(histill_slide2vec.NAME)().to('cpu')\n"
    "answer = e.encode_tiles(e.get_normalization_transform()(tile)[None])[0]",
    "lazyslide": "import geopandas, shapely, wsidata\n"
    "w = wsidata.open_wsi('s.tif', store=None); from lazyslide.preprocess._tiles import _add_tiles\n"
    "spec = wsidata.TileSpec.from_wsidata(w, tile_px=224, mpp=0.5)\n"
    "grid = geopandas.GeoDataFrame({'tile_id': [0], 'x': [0], 'y': [0], 'tissue_id': [0]},"
    " geometry=[shapely.box(0, 0, 224, 224)])\n"
    "_add_tiles(w, grid, spec, key_added='tiles')\n"
    "from histill_lazyslide import NAME, features; features(w, pbar=False)\n"
    "answer = w.fetch.features_anndata(NAME).X[0]",
    "eva": "import os, yaml, jsonargparse, torch, numpy\n"
    "from torchvision import tv_tensors; from typing import Callable\n"
    "from eva.vision.models import TimmModel; c = yaml.safe_load(open('histill_eva.yaml'))\n"
    "b = c['trainer']['init_args']['callbacks'][0]['init_args']['backbone']\n"
    "t = c['data']['init_args']['datasets']['predict'][0]['init_args']['transforms']\n"
    "p = jsonargparse.ArgumentParser()\n"
    "p.add_argument('--b', type=torch.nn.Module); p.add_argument('--t', type=Callable)\n"
    "n = p.instantiate_classes(p.parse_object({'b': b, 't': t}))\n"
    "image = tv_tensors.Image(numpy.array(tile).transpose(2, 0, 1))\n"
    "answer = n.b.eval()(n.t(image)[None])[0]",
    "trident": "from trident.patch_encoder_models import encoder_factory; import histill_trident\n"
    "e = encoder_factory(histill_trident.NAME, weights_path=None); answer = e(e.eval_transforms(tile)[None])[0]",
    "stamp": "import histill_stamp; e = histill_stamp.student(); answer = e.model(e.transform(tile)[None])[0]",
}
"""What the tool itself does with its adapter; `tile` is an image, and `answer` (D,)."""


PACKAGES = {
    "eva": "pip install 'kaiko-eva[vision]' jsonargparse==4.31.0",
    "lazyslide": "pip install lazyslide",
    "slide2vec": "pip install slide2vec",
    "stamp": "pip install git+https://github.com/KatherLab/STAMP",
    "thunder": "pip install thunder-bench",
    "trident": "pip install git+https://github.com/mahmoodlab/TRIDENT",
}


@pytest.mark.parametrize("tool", sorted(INSTALLED))
def test_the_tool_itself_takes_it(tool: str, adapters: Path, student: Path, tile: Image.Image, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pythons = [path for path in os.environ.get("HISTILL_TOOLS", "").split(":") if path]
    have = [
        p for p in pythons if not subprocess.run([p, "-c", f"import {tool}"], env=env, capture_output=True).returncode
    ]
    if not have:
        how = PACKAGES[tool]
        pytest.skip(f"{tool} in none of HISTILL_TOOLS: python -m venv DIR, {how}, HISTILL_TOOLS=DIR/bin/python")
    shutil.copytree(adapters, tmp_path / "adapters")
    tile.save(tmp_path / "adapters" / "tile.png")
    make_slide(tmp_path / "adapters" / "s.tif", np.asarray(tile), kind="plain")
    code = (
        "import sys, torch; sys.path.insert(0, '.'); from PIL import Image; tile = Image.open('tile.png')\n"
        "with torch.inference_mode():\n    " + INSTALLED[tool].replace("\n", "\n    ") + "\n"
        "print('answer:', [float(x) for x in answer])"
    )
    done = subprocess.run(
        [have[0], "-c", code], cwd=tmp_path / "adapters", env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.split("answer:")[1])
    np.testing.assert_allclose(found, answer(student, tile)[0].detach().numpy(), rtol=1e-4, atol=1e-5)
