"""How well the tissue mask agrees with the demo slides' exact label maps: python -m bench.tiles.tissue

A row a slide: IoU of the mask with what was painted as tissue, with fat and without it; the share of the fat that was
found; the F1 of the tiles that are kept, a tile being right where its exact coverage passes `min_coverage` too. Pixels
under ink, and tiles that ink touches, are not judged: what lies there is a matter of opinion. The last line is one JSON
object with the means. Demo slides are cleaner than real ones: a good score here is necessary, not sufficient.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from bench.printing import finish, show
from bench.scratch import scratch
from pipeline.base.store import Store
from pipeline.demo.regions import FAT
from pipeline.demo.slides import CORRUPT, LABELS_FILE, N_DEMO, SLIDE_FILE, ensure_demo_slide
from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.slides.read.reader import SlideReader
from pipeline.tiles.choice import fractions
from pipeline.tiles.grid import geometry_of, lay
from pipeline.tiles.tissue import box_means
from pipeline.tiles.tissue.look import look

COLUMNS = ("iou", "iou_without_fat", "fat_found", "glass_taken", "tile_f1")


def evaluate(folder: Path, params: TilesParams) -> dict[str, float]:
    """The scores (`COLUMNS`) of one demo slide; `glass_taken` is the share of the mask that is glass."""
    with SlideReader(folder / SLIDE_FILE) as reader:
        levels = [(w, h, d) for (w, h), d in zip(reader.level_dimensions, reader.level_downsamples, strict=True)]
        geometry = geometry_of(levels, reader.mpp_xy, params)
        mask = look(reader, params).mask
    height, width = mask.tissue.shape
    with Image.open(folder / LABELS_FILE) as image:
        label_HW = np.asarray(image)
        small_HW = np.asarray(image.resize((width, height), Image.Resampling.NEAREST))
    truth_HW, judged_HW, fat_HW = small_HW > 0, ~mask.pen, small_HW == FAT

    def iou(where_HW: Any) -> float:
        return float((mask.tissue & truth_HW & where_HW).sum() / ((mask.tissue | truth_HW) & where_HW).sum())

    x_l0_A, y_l0_A = lay(geometry, params.edge).corners()
    box_A4 = fractions(geometry, x_l0_A, y_l0_A)
    in_mask_A4, in_label_A4 = (box_A4 * (w, h, w, h) for h, w in (mask.tissue.shape, label_HW.shape))
    clean_A = box_means(mask.pen.astype(float), in_mask_A4) <= 0
    kept_A = (box_means(mask.tissue.astype(float), in_mask_A4) >= params.tissue.min_coverage)[clean_A]
    right_A = (box_means((label_HW > 0).astype(float), in_label_A4) >= params.tissue.min_coverage)[clean_A]
    return {
        "iou": iou(judged_HW),
        "iou_without_fat": iou(judged_HW & ~fat_HW),
        "fat_found": float(mask.tissue[fat_HW].mean()) if fat_HW.any() else float("nan"),
        "glass_taken": float((mask.tissue & ~truth_HW).sum() / mask.tissue.sum()),
        "tile_f1": float(2 * (kept_A & right_A).sum() / (kept_A.sum() + right_A.sum())),
    }


def main(
    method: Annotated[str, typer.Option(help="otsu or hsv")] = "otsu",
    fat: Annotated[bool, typer.Option(help="Look for fat, too.")] = True,
    side_px: Annotated[int, typer.Option(help="Side of the demo slides.")] = 2560,
    tile_px: Annotated[int, typer.Option(help="Side of the tiles at 0.5 um/px.")] = 128,
) -> None:
    """Print the agreement of the tissue mask with the demo slides' exact masks."""
    tissue = TissueParams.model_validate({"method": method, "fat": fat})
    params = TilesParams(tile_px=tile_px, tissue=tissue)
    with scratch() as folder:
        store = Store(folder)
        numbers = [number for number in range(1, N_DEMO + 1) if number != CORRUPT]
        rows = {f"demo-{n}": evaluate(ensure_demo_slide(n, side_px, store), params) for n in numbers}
    means = {name: float(np.nanmean([row[name] for row in rows.values()])) for name in COLUMNS}
    told = [(slide, *(row[name] for name in COLUMNS)) for slide, row in {**rows, "mean": means}.items()]
    show("Tissue masks against the demo slides' exact ones", ("slide", *COLUMNS), told)
    finish({"method": method, "fat": fat, **{name: round(value, 4) for name, value in means.items()}})


if __name__ == "__main__":
    typer.run(main)
