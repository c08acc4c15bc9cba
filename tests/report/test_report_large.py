"""A thousand slides: the page stays one file that a mail takes, with the rest beside it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from made.items import tiles_item
from PIL import Image

from pipeline.base.items import TilesManifest
from pipeline.base.manifest import Refusal
from pipeline.base.partials import ITEM_FILE, describe
from pipeline.base.store import Ref, Store
from pipeline.evaluate.manifest import EvaluateItem
from pipeline.params.report import ReportParams
from pipeline.report.across.pareto import Pareto
from pipeline.report.page import build_report
from pipeline.report.pictures import spread

SLIDES = 1000


def test_a_thousand_slides_stay_under_fifteen_megabytes(manifests, plots: Path, compared: Pareto, tmp_path: Path):
    store, params = Store(tmp_path / "store"), ReportParams()
    dropped = {"glass": 900, "blurred": 3, "pen": 0}
    items = tuple(
        tiles_item(
            f"TCGA-{n:04}-01Z-00-DX1", 9000, "test" if n % 5 == 0 else "train", key=f"{n:032x}", digest="d" * 32,
            label="tumour", tissue_mm2=140.2, dropped=dropped, labels={"tumour": 10},
        )
        for n in range(SLIDES)
    )  # fmt: skip
    # Noise is what JPEG likes least: each picture that is shown takes all of its share.
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.jpg", quality=95)
    Image.fromarray(noise[:32, :32]).save(tmp_path / "small.jpg", quality=60)
    shown = {item.id for item in spread(items, params.max_slides)}
    for item in items:
        folder = store.path(Ref("tiles", "t" * 32, item.key))
        folder.mkdir(parents=True)
        names = ("thumb.jpg", "overlay.jpg", "mosaic.jpg") if item.id in shown else ("overlay.jpg",)
        for name in names:
            os.link(tmp_path / ("large.jpg" if item.id in shown else "small.jpg"), folder / name)
        (folder / ITEM_FILE).write_bytes(describe(folder))
    refused = tuple(Refusal(id=f"broken-{n}", reason="OpenSlide does not open it", fix="copy it") for n in range(200))
    manifests["tiles"] = TilesManifest(recipe_key="t" * 32, items=items, refused=refused)
    scored = [
        EvaluateItem(id=item.id, key=item.key, digest=item.digest, n=item.n, split="test", cosine=0.6, cosine_p5=0.3)
        for item in items
        if not item.in_train
    ]
    manifests["evaluate"] = manifests["evaluate"].model_copy(update={"items": tuple(scored)})
    recipe = {"items": [[item.key, item.digest] for item in items]}
    manifests["student"] = manifests["student"].model_copy(update={"recipe": recipe})

    report = build_report(manifests, params, store, compared, tmp_path / "reports" / "report.html", plots)

    page = (tmp_path / "reports" / "report.html").read_bytes()
    assert 8e6 < len(page) == report.summary["nbytes"] < 15e6
    assert page.count(b"<article") == params.max_slides and b"60 of 1000 slides are shown" in page
    assert b"the first 24 of 200" in page
    rest = (tmp_path / "reports" / "slides.html").read_text()
    assert all(item.id in rest for item in items) and len(rest) < 2e6
    assert len(list((tmp_path / "reports" / "slides").iterdir())) == SLIDES + params.max_slides
