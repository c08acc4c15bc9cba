"""A project of as many slides as a lab has, each as small as a slide can be: real TIFFs, each another, four tiles each.

A copy of this project's code with `slides/`, a table that names them (one in ten held out, two labels), a ViT of
random weights as teacher, and params under which an item of a stage is the least that the stage makes of a slide.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from pipeline.base.items import SlidesManifest

ROOT = Path(__file__).parents[1]
CODE = ("pipeline", "kernels", "stages", "dvc.yaml")
SIDE_PX, TISSUE_PX, TILE_PX, MPP = 128, 64, 32, 0.5
HELD_OUT = 10
"""One slide in so many."""
VIT = {"img_size": TILE_PX, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
PARAMS: dict[str, dict[str, Any]] = {
    "slides": {"table": "slides.csv"},
    "tiles": {
        "tile_px": TILE_PX,
        "target_mpp": MPP,
        "min_sharpness": 0.0,
        "min_stain": 0.0,
        "tissue": {"mask_mpp": 2.0, "min_area_mm2": 0.0},
    },
    "tokens": {
        "teacher": "vit_tiny_patch16_224",
        "weights": "teacher.safetensors",
        "model_kwargs": VIT,
        "precision": "fp32",
        "calibration_tiles": 16,
        "batch_size": 64,
    },
    "student": {"model": "test_efficientnet", "input_px": TILE_PX, "epochs": 1, "batch_size": 64, "workers": 1},
    "evaluate": {
        "bootstrap": 100,
        "episodes": 2,
        "mil_epochs": 1,
        "robustness_tiles": 0,
        "max_probe_tiles": 400,
        "max_dense_tiles": 100,
    },
    "benchmark": {"batch_sizes": [1], "seconds": 0.02},
    "report": {"max_slides": 60},
    "cluster": {"workers": 1},
}
_GLASS, _STAIN = 240, np.array([190.0, 90.0, 160.0])


def make_lab(root: Path, slides: int) -> None:
    """Write the project to `root`, committed to a git and a DVC of its own."""
    for name in CODE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, root / name)
    write_slides(root, slides)
    torch.manual_seed(0)
    teacher = timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT)
    save_file(teacher.state_dict(), root / "teacher.safetensors")
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    (root / ".gitignore").write_text("/.store/\n/slides/\n/artifacts/\n/models/\n/reports/\n/plots/\n/metrics/\n")
    git(root, "init", "-q", "-b", "main")
    dvc(root, "init", "-q")
    commit(root, "made")


def git(root: Path, *words: str) -> None:
    """A git command in the project. Raises `CalledProcessError`."""
    who = ("-c", "user.name=bench", "-c", "user.email=bench@example.org")
    subprocess.run(["git", "-C", str(root), *who, *words], check=True, capture_output=True)


def commit(root: Path, message: str) -> None:
    """Commit all that git does not ignore."""
    git(root, "add", "-A")
    git(root, "commit", "-qm", message)


def dvc(root: Path, *words: str) -> str:
    """What a DVC command prints. Raises `RuntimeError` with it where the command fails."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words],
        cwd=root,
        env={name: value for name, value in os.environ.items() if name != "HISTILL_STORE"} | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:])
    return done.stdout


def link_items(root: Path, kind: str, slides: SlidesManifest, recipe: str) -> None:
    """Give every slide the item of `kind` that one of the first has: its files, linked under the slide's own key."""
    folder = root / ".store" / kind / recipe
    made = [item.key for item in slides.items if (folder / item.key).is_dir()]
    for number, item in enumerate(slides.items):
        if not (folder / item.key).is_dir():
            shutil.copytree(folder / made[number % len(made)], folder / item.key, copy_function=os.link)


def make_picture_folders(root: Path, folders: int) -> None:
    """`root`/case-N with two tiles each, as a lab keeps slides that somebody has cut."""
    tile = root / "tile.png"
    root.mkdir()
    Image.new("RGB", (TILE_PX, TILE_PX), (190, 90, 160)).save(tile)
    for number in range(folders):
        folder = root / f"case-{number:05}"
        folder.mkdir()
        for row in range(2):
            os.link(tile, folder / f"{row}.png")
    tile.unlink()


def write_slides(root: Path, slides: int) -> None:
    """`root`/slides/slide-N.tif and the table that names them."""
    rng, rows = np.random.default_rng(0), ["path,slide_id,mpp,split,label"]
    (root / "slides").mkdir()
    inside = slice(TILE_PX, TILE_PX + TISSUE_PX)
    for number in range(slides):
        image_HWC = np.full((SIDE_PX, SIDE_PX, 3), _GLASS, np.uint8)
        stained = _STAIN + rng.normal(0, 25, (TISSUE_PX, TISSUE_PX, 3))
        image_HWC[inside, inside] = np.clip(stained, 0, 255).astype(np.uint8)
        path = root / "slides" / f"slide-{number:05}.tif"
        tifffile.imwrite(path, image_HWC, tile=(32, 32), photometric="rgb", compression="jpeg")
        split = "test" if number % HELD_OUT == 0 else "train"
        rows.append(f"slides/{path.name},{path.stem},{MPP},{split},{'ab'[number // HELD_OUT % 2]}")
    (root / "slides.csv").write_text("\n".join(rows) + "\n")
