"""Embeddings of chosen tiles: the teacher's from the cache, a student's by running it as a user would.

The student is loaded by timm alone from its exported folder, with the input side, mean and deviation that its
config.json states: what is measured is what is shipped. Shapes: N tiles, H = W input side, D the teacher's width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from pipeline.errors import EvaluationError
from pipeline.evaluation.datasets import Sample
from pipeline.progress import Advance
from pipeline.tiles.reader import TileReader
from pipeline.tokens.reader import TokenReader

DECODERS = 2
"""Threads that decode the next batch while the model is at work on this one."""


def teacher_features(samples: Sequence[Sample]) -> NDArray[np.float32]:
    """The cached CLS of the tiles as they are (view 0), (N, D) float32."""
    parts = [TokenReader(sample.tokens).cls(sample.rows)[:, 0] for sample in samples]
    return np.concatenate(parts).astype(np.float32)


def load_student(folder: Path) -> nn.Module:
    """The exported student, in evaluation mode."""
    return _create(folder, pretrained=True)


def untrained_twin(folder: Path, seed: int) -> nn.Module:
    """The same architecture with random weights: what the pixels alone give away. Leaves torch's seed as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _create(folder, pretrained=False)


def architecture(model: nn.Module) -> str:
    """timm's name of the model."""
    return str(model.pretrained_cfg["architecture"])  # type: ignore[index]


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def student_features(
    models: Sequence[nn.Module], samples: Sequence[Sample], batch_size: int, advance: Advance
) -> list[NDArray[np.float32]]:
    """Each model's answers to the same tiles, [(N, D) float32]; every tile is decoded once.

    The models take the same input. Raises `EvaluationError` where an answer is not finite.
    """
    config: dict[str, Any] = resolve_model_data_config(models[0])
    here = device()
    mean_C, std_C = (torch.tensor(config[name], device=here) for name in ("mean", "std"))
    placed = [model.to(here, memory_format=torch.channels_last) for model in models]  # type: ignore[call-overload]
    answers: list[list[Tensor]] = [[] for _ in models]
    for image_NHWC in _batches(samples, config["input_size"][-1], batch_size):
        scaled_NHWC = (torch.from_numpy(image_NHWC).to(here).float() / 255 - mean_C) / std_C
        image_NCHW = scaled_NHWC.permute(0, 3, 1, 2)
        for model, parts in zip(placed, answers, strict=True):
            parts.append(model(image_NCHW).float().cpu())
        advance(len(image_NHWC))
    features = [torch.cat(parts).numpy() for parts in answers]
    for model, feature_ND in zip(models, features, strict=True):
        if not np.isfinite(feature_ND).all():
            where, fix = architecture(model), "look at the training curve; train again with a lower student.lr"
            raise EvaluationError("its answers are not all finite numbers", where=where, fix=fix)
    return features


def _batches(samples: Sequence[Sample], side_px: int, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """Decoded tiles, (n, H, W, 3) uint8, the next batch under way while one is used."""
    readers = [TileReader(sample.tiles) for sample in samples]
    wanted = [(reader, int(row)) for reader, s in zip(readers, samples, strict=True) for row in s.rows]
    with ThreadPoolExecutor(DECODERS) as pool:

        def start(first: int) -> list[Future[NDArray[np.uint8]]]:
            return [pool.submit(reader.image, row, side_px) for reader, row in wanted[first : first + batch_size]]

        ahead = start(0)
        for first in range(0, len(wanted), batch_size):
            ready, ahead = ahead, start(first + batch_size)
            yield np.stack([image.result() for image in ready])


def _create(folder: Path, *, pretrained: bool) -> nn.Module:
    if not (folder / "config.json").is_file():
        raise EvaluationError("there is no exported student", where=str(folder), fix="dvc repro student")
    model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=pretrained)
    return model.eval().requires_grad_(False)
