"""The loop that labs run today: OpenSlide's `read_region`, Pillow, timm in eager, batch 32, a DataLoader's one worker.

Tiles are those of a TRIDENT feature file, so that both contenders answer the same ones, or its first N; nothing is
written. The model is loaded, and resizes, as timm says.

Run: python -m bench.embed.plain_embed SLIDE FEATURES.h5 STUDENT [N]; the last line is one JSON object.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import openslide
import timm
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.clock import clock, since
from bench.printing import finish

BATCH, WORKERS = 32, 1


class Tiles(Dataset[Tensor]):
    """The tiles at `corner_N2`, `side_l0` level-0 pixels wide, made `tile_px` wide and then what the model wants; `n`
    of them, or all."""

    def __init__(self, slide: Path, features: Path, model: torch.nn.Module, n: int | None) -> None:
        with h5py.File(features) as file:
            self.corner_N2, told = file["coords"][:n], file["coords"].attrs
            self.side_l0, self.tile_px = int(told["patch_size_level0"]), int(told["patch_size"])
        self.path = slide
        self.slide: openslide.OpenSlide | None = None
        self.transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)

    def __len__(self) -> int:
        return len(self.corner_N2)

    def __getitem__(self, row: int) -> Tensor:
        if self.slide is None:
            self.slide = openslide.OpenSlide(str(self.path))
        level = self.slide.get_best_level_for_downsample(self.side_l0 / self.tile_px)
        side = round(self.side_l0 / self.slide.level_downsamples[level])
        x, y = self.corner_N2[row].tolist()
        tile = self.slide.read_region((x, y), level, (side, side)).convert("RGB")
        tile = tile.resize((self.tile_px, self.tile_px), Image.Resampling.BICUBIC)
        answer: Tensor = self.transform(tile)
        return answer


def main(slide: str, features: str, student: str, n: str | None = None) -> None:
    """Answer the tiles, and print what it took."""
    model = timm.create_model(f"local-dir:{student}", pretrained=True).eval()
    tiles = Tiles(Path(slide), Path(features), model, None if n is None else int(n))
    began = clock()
    found = []
    with torch.inference_mode():
        for image_NCHW in DataLoader(tiles, batch_size=BATCH, num_workers=WORKERS):
            found.append(model(image_NCHW).numpy())
    # Its worker has ended with the loop, and is waited for, so that its seconds count.
    taken = since(began)
    with h5py.File(features) as file:
        ours_ND, plain_ND = file["features"][: len(tiles)], np.concatenate(found)
    cosine_N = (ours_ND * plain_ND).sum(1) / np.linalg.norm(ours_ND, axis=1) / np.linalg.norm(plain_ND, axis=1)
    finish(
        {
            "tiles": len(tiles),
            "wall_s": taken.wall_s,
            "cpu_s": taken.cpu_s,
            "cosine_to_ours_median": float(np.median(cosine_N)),
        }
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
