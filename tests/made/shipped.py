"""An exported student with random weights and its ONNX file, and what timm alone says to a picture's tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import timm
import torch
from made.exported import SIDE_PX, export
from numpy.typing import NDArray
from PIL import Image

from pipeline.student.exported import load_student
from pipeline.teachers.engines.onnx_file import write_onnx

WIDTH = 24
SIDE = 1024
"""Of the slides that it embeds."""
PARAMS = """\
tiles:
  tile_px: 96
  target_mpp: 0.5
  min_sharpness: 0
  tissue: {mask_mpp: 4, min_area_mm2: 0.001}
"""


def ship(folder: Path, seed: int = 0) -> Path:
    """A student's folder with all that an export has but an adapter."""
    export(folder, WIDTH, seed)
    write_onnx(load_student(folder), SIDE_PX, folder / "model.onnx")
    return folder


def by_timm(student: Path, tiles: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """The answers by timm's own loading and Pillow's resizing."""
    model = timm.create_model(f"local-dir:{student}", pretrained=True).eval()
    images = [Image.fromarray(tile).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC) for tile in tiles]
    image_NCHW = torch.from_numpy(np.stack([np.asarray(image) for image in images])).float().permute(0, 3, 1, 2)
    with torch.inference_mode():
        answer: NDArray[np.float32] = model((image_NCHW / 255 - 0.5) / 0.5).numpy()
    return answer
