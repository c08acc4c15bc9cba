"""An exported student with random weights and its ONNX file, and what timm alone says to a picture's tiles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import timm
import torch
from made.exported import SIDE_PX, export
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from pipeline.base.items import AdapterArguments
from pipeline.student.adapters import ADAPTERS
from pipeline.student.export import write_nested, write_student_onnx
from pipeline.student.exported import AdapterConfig, Dense, Heads, load_student
from pipeline.student.nested import drawn
from pipeline.teachers.engines.onnx_file import EMBEDDING, NESTED, PATCH, write_onnx

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


def ship_adapter(folder: Path, grid: tuple[int, int], kind: str = "attention") -> None:
    """With an adapter of random weights, what is said of its space, and its ONNX file."""
    backbone = load_student(folder)
    _, maps = backbone.forward_intermediates(torch.zeros(1, 3, SIDE_PX, SIDE_PX), output_fmt="NCHW")
    channels, grids = (tuple(map_.shape[1] for map_ in maps[-2:]), tuple(tuple(map_.shape[2:]) for map_ in maps[-2:]))
    torch.manual_seed(0)
    adapter = ADAPTERS[kind](channels, grids, grid, WIDTH)
    arguments = AdapterArguments(channels=channels, grids=grids, grid=grid, width=WIDTH)
    config = AdapterConfig(adapter=kind, arguments=arguments, stages=(len(maps) - 2, len(maps) - 1))
    (folder / "adapter").mkdir()
    save_file(adapter.state_dict(), folder / "adapter" / "adapter.safetensors")
    (folder / "adapter" / "adapter.json").write_text(config.model_dump_json())
    rng = np.random.default_rng(0)
    space = {"mu": rng.normal(size=WIDTH).tolist(), "sigma": rng.uniform(0.2, 2, WIDTH).tolist()}
    (folder / "adapter" / "space.json").write_text(json.dumps(space))
    dense = Dense(backbone, adapter, config).eval()
    write_student_onnx(dense, SIDE_PX, folder / "adapter" / "dense.onnx", (EMBEDDING, PATCH))


def ship_nested(folder: Path, sizes: tuple[int, ...], seed: int = 0) -> None:
    """With nested sizes of random weights; `model.onnx` has both outputs then."""
    backbone = load_student(folder)
    nested = drawn(backbone, SIDE_PX, sizes, WIDTH, seed)
    write_nested(folder, nested)
    both = Heads(backbone, (WIDTH,), nested).eval()
    write_student_onnx(both, SIDE_PX, folder / "model.onnx", (EMBEDDING, NESTED))


def by_timm(student: Path, tiles: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """The answers by timm's own loading and Pillow's resizing."""
    model = timm.create_model(f"local-dir:{student}", pretrained=True).eval()
    images = [Image.fromarray(tile).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC) for tile in tiles]
    image_NCHW = torch.from_numpy(np.stack([np.asarray(image) for image in images])).float().permute(0, 3, 1, 2)
    with torch.inference_mode():
        answer: NDArray[np.float32] = model((image_NCHW / 255 - 0.5) / 0.5).numpy()
    return answer
