"""Slides of two kinds, and what two students say of them, in the files that the examples read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made.shipped import PARAMS, ship
from made.slides import make_slide, tissue_picture

from pipeline.embed.slides import Wanted, embed_slides

SIDE = 512


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with slides.csv, CLAM's files in `clam`, and TRIDENT's of two students in `first` and `second`."""
    root = tmp_path_factory.mktemp("examples")
    first, second = ship(root / "first-student"), ship(root / "second-student", seed=1)
    (root / "params.yaml").write_text(PARAMS)
    (root / "slides").mkdir()
    lines = ["path,label,split"]
    for i in range(8):
        # One kind is a little darker.
        picture_HWC = (tissue_picture(SIDE, SIDE, i // 2) * (0.7 if i % 2 else 1.0)).astype(np.uint8)
        make_slide(root / "slides" / f"s{i}.tif", picture_HWC, kind="plain")
        lines.append(f"slides/s{i}.tif,{'dark' if i % 2 else 'light'},{'train' if i < 6 else 'test'}")
    (root / "slides.csv").write_text("\n".join(lines) + "\n")
    shared = {"engine": "onnxruntime", "threads": 1, "target_mpp": 0.5, "tile_px": 96}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert embed_slides([Path("slides.csv")], Wanted(root / "clam", "clam", student=first, **shared)).made == 8
        for name, student in (("first", first), ("second", second)):
            embed_slides([Path("slides/s0.tif")], Wanted(root / name, student=student, stands_for="x", **shared))
    return root
