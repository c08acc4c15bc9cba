"""What users write today, for the bench to compare with: a DataLoader over tile files, features collected, one h5.

Pillow decodes in worker processes, each batch waits for its features to be on the host, nothing is quantised, and the
file is written when all is done. Autocast to float16 on a GPU, float32 on a CPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from pipeline.base.limits import usable_cores

WORKERS_MAX = 8


class _Tiles(Dataset[Tensor]):
    def __init__(self, paths: Sequence[Path], side_px: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.paths = paths
        steps = [transforms.Resize(side_px), transforms.ToTensor(), transforms.Normalize(mean, std)]
        self.transform: Any = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as image:
            tensor: Tensor = self.transform(image.convert("RGB"))
            return tensor


def run(
    model: nn.Module,
    device: torch.device,
    paths: Sequence[Path],
    batch_size: int,
    side_px: int,
    mean: Sequence[float],
    std: Sequence[float],
    out: Path,
) -> None:
    """Features (N, L, D) of the tiles' files, from `forward_features`, into an h5 file."""
    workers = min(WORKERS_MAX, usable_cores())
    loader = DataLoader(_Tiles(paths, side_px, mean, std), batch_size, num_workers=workers)
    autocast = torch.autocast("cuda", torch.float16) if device.type == "cuda" else contextlib.nullcontext()
    features = []
    with torch.inference_mode(), autocast:
        for image_NCHW in loader:
            answer = model.forward_features(image_NCHW.to(device))  # type: ignore[operator]
            features.append(answer.cpu().numpy())
    with h5py.File(out, "w") as file:
        file.create_dataset("features", data=np.concatenate(features))
