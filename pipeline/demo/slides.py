"""Synthetic H&E slides, so that everything runs on the real code with no slide at hand: `demo:1`, `demo:2`, …

Each is a pyramidal tiled JPEG TIFF that OpenSlide opens, made from its number alone, with a label map that says of
every pixel which tissue was painted there. They look like tissue at a glance; what is learnt on them says
nothing medical.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pipeline.base.files import write_json
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.base.types import Recipe
from pipeline.demo.regions import CLASSES, regions
from pipeline.demo.stain import stain
from pipeline.demo.tissue import tissue

DEMO_VERSION = 2
"""Part of the recipe: count up when the same number gives other pixels."""
N_DEMO = 8
CORRUPT = 8
"""This one breaks off in the middle of the file, and OpenSlide refuses it."""
FINE = (4, 7)
"""These are scanned at 0.4 um/px, so that reading them at 0.5 rescales; the others at 0.5."""
SLIDE_FILE, LABELS_FILE, LEGEND_FILE = "slide.tif", "labels.png", "labels.json"
_TILE_PX, _LEVELS, _JPEG_QUALITY = 256, 4, 88


def demo_mpp(number: int) -> float:
    """um per level-0 pixel of that demo slide."""
    return 0.4 if number in FINE else 0.5


def demo_ref(number: int, side_px: int) -> Ref:
    """Where the store keeps it: slide.tif, labels.png and labels.json."""
    return Ref("slides", recipe_key(_recipe(side_px)), f"demo-{number}")


def ensure_demo_slide(number: int, side_px: int, store: Store) -> Path:
    """The folder of that demo slide in the store, made first where it is absent."""
    ref = demo_ref(number, side_px)
    if not store.has(ref):
        with store.write(ref, _recipe(side_px)) as folder:
            make_demo_slide(number, side_px, folder)
    return store.path(ref)


def make_demo_slide(number: int, side_px: int, folder: Path) -> None:
    """Write slide.tif, labels.png (uint8 class index, level 0) and labels.json (the classes) into `folder`."""
    broken = number == CORRUPT
    # Nobody sees the broken one's pixels, so they are few.
    label_HW = regions(number, 512 if broken else side_px)
    rgb_HWC = stain(number, label_HW, *tissue(number, label_HW))
    _write_pyramid(folder / SLIDE_FILE, rgb_HWC, demo_mpp(number))
    if broken:
        data = (folder / SLIDE_FILE).read_bytes()
        (folder / SLIDE_FILE).write_bytes(data[: len(data) // 3])
    Image.fromarray(label_HW).save(folder / LABELS_FILE, compress_level=3)
    write_json(folder / LEGEND_FILE, {"classes": list(CLASSES), "level": 0, "mpp": demo_mpp(number)})


def _recipe(side_px: int) -> Recipe:
    return {"demo_version": DEMO_VERSION, "side_px": side_px}


def _write_pyramid(path: Path, rgb_HWC: NDArray[np.uint8], mpp: float) -> None:
    """Levels 1, 2, 4, 8 as tiled JPEG pages, the reduced ones marked so; resolution in pixels a centimetre."""
    level = Image.fromarray(rgb_HWC)
    with tifffile.TiffWriter(path) as tiff:
        for i in range(_LEVELS):
            per_cm = 10_000 / (mpp * 2**i)
            tiff.write(
                np.asarray(level),
                tile=(_TILE_PX, _TILE_PX),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": _JPEG_QUALITY},
                subfiletype=int(i > 0),
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                metadata=None,
                software=False,
                maxworkers=1,
            )
            level = level.reduce(2)
