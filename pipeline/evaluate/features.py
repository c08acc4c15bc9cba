"""Embeddings of chosen tiles: the teacher's from the cache, a student's by running it as a user would.

The student is loaded by timm alone from its exported folder, with the input side, mean and deviation that its
config.json states: what is measured is what is shipped. Its dense tokens come through the adapter exported beside it.
Shapes: N tiles, H = W input side, T patch tokens of the teacher, D the teacher's width.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from pipeline.base.errors import EvaluationError
from pipeline.base.progress import Advance
from pipeline.evaluate.selection import Sample
from pipeline.student.adapters import ADAPTERS
from pipeline.teachers.engines import pick_device
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.pixels import fit_square
from pipeline.tokens.item.reader import TokenReader

DECODERS = 2
"""Threads that decode the next batch while the model is at work on this one."""


def teacher_features(samples: Sequence[Sample]) -> NDArray[np.float32]:
    """The cached CLS of the tiles as they are (view 0), (N, D) float32."""
    parts = [TokenReader(sample.tokens).cls(sample.rows)[:, 0] for sample in samples]
    return np.concatenate(parts).astype(np.float32)


def load_student(folder: Path) -> nn.Module:
    """The exported student, in evaluation mode."""
    return _create(folder, pretrained=True)


def untrained_twin(folder: Path, seed: int, classes: int | None = None) -> nn.Module:
    """The same architecture with random weights: what the pixels alone give away. Leaves torch's seed as it was.

    With `classes` it ends in that many outputs instead of the teacher's width.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _create(folder, pretrained=False, **({} if classes is None else {"num_classes": classes}))


class Dense(nn.Module):
    """A student with its adapter: normalised images to patch tokens (N, T, D) in the teacher's space."""

    def __init__(self, backbone: nn.Module, adapter: nn.Module, stages: Sequence[int]) -> None:
        super().__init__()
        self.backbone, self.adapter, self.stages = backbone, adapter, list(stages)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        maps = self.backbone.forward_intermediates(  # type: ignore[operator]
            image_NCHW, indices=self.stages, output_fmt="NCHW", intermediates_only=True
        )
        patch_NTD: Tensor = self.adapter(maps)
        return patch_NTD


def load_dense(folder: Path, backbone: nn.Module, *, trained: bool = True, seed: int = 0) -> Dense | None:
    """The student with its exported adapter (or one drawn from `seed`); None where none was trained."""
    if not (folder / "adapter.json").is_file():
        return None
    facts = json.loads((folder / "adapter.json").read_bytes())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapter: nn.Module = ADAPTERS[facts["adapter"]](**facts["arguments"])
    if trained:
        adapter.load_state_dict(load_file(folder / "adapter.safetensors"))
    return Dense(backbone, adapter, facts["stages"]).eval().requires_grad_(False)


def architecture(model: nn.Module) -> str:
    """timm's name of the model."""
    return str(model.pretrained_cfg["architecture"])  # type: ignore[index]


@torch.inference_mode()
def student_features(
    models: Sequence[nn.Module], samples: Sequence[Sample], batch_size: int, advance: Advance
) -> list[NDArray[np.float32]]:
    """Each model's answers to the same tiles, [(N, D) float32]; every tile is decoded once.

    The models take the same input. Raises `EvaluationError` where an answer is not finite.
    """
    look = Eye(models[0])
    placed = [look.place(model) for model in models]
    answers: list[list[Tensor]] = [[] for _ in models]
    for image_NHWC in _batches(samples, look.side_px, batch_size):
        image_NCHW = look(image_NHWC)
        for model, parts in zip(placed, answers, strict=True):
            parts.append(model(image_NCHW).float().cpu())
        advance(len(image_NHWC))
    features = [torch.cat(parts).numpy() for parts in answers]
    for model, feature_ND in zip(models, features, strict=True):
        _check_finite(model, feature_ND)
    return features


def _check_finite(model: nn.Module, answers: NDArray[np.float32]) -> None:
    if not np.isfinite(answers).all():
        where, fix = architecture(model), "look at the training curve; train again with a lower student.lr"
        raise EvaluationError("its answers are not all finite numbers", where=where, fix=fix)


class Eye:
    """How a timm model wants its images: uint8 (n, H, W, 3) in, normalised NCHW on the device out."""

    def __init__(self, model: nn.Module) -> None:
        config: dict[str, Any] = resolve_model_data_config(model)
        self.side_px, self.device = int(config["input_size"][-1]), pick_device()
        self._mean_C, self._std_C = (torch.tensor(config[name], device=self.device) for name in ("mean", "std"))

    def __call__(self, image_NHWC: NDArray[np.uint8]) -> Tensor:
        scaled_NHWC = torch.from_numpy(image_NHWC).to(self.device).float() / 255
        return ((scaled_NHWC - self._mean_C) / self._std_C).permute(0, 3, 1, 2)

    def place(self, model: nn.Module) -> nn.Module:
        """The model on the device, channels last."""
        placed: nn.Module = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed


@torch.inference_mode()
def dense_features(
    models: Mapping[str, Dense], samples: Sequence[Sample], batch_size: int, advance: Advance
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Batch after batch of patch tokens, {`teacher` and each model: (n, T, D) float32}; no batch crosses a sample.

    All are standardised by the frozen statistics of the cache, z = (x - mu) / sigma. Raises `CorruptItem` where the
    cache has no patch tokens, `EvaluationError` where an answer is not finite.
    """
    look = Eye(next(iter(models.values())).backbone)
    placed = {name: look.place(model) for name, model in models.items()}
    for sample in samples:
        reader, done = TokenReader(sample.tokens), 0
        for image_NHWC in _batches([sample], look.side_px, batch_size):
            rows = sample.rows[done : done + len(image_NHWC)]
            done += len(rows)
            answers = {name: model(look(image_NHWC)).float().cpu().numpy() for name, model in placed.items()}
            for name, x_nTD in answers.items():
                _check_finite(models[name].backbone, x_nTD)
            tokens = {name: (x_nTD - reader.mu) / reader.sigma for name, x_nTD in answers.items()}
            yield {"teacher": reader.dequantised(rows), **tokens}
            advance(len(rows))


def answering(
    model: Callable[[NDArray[np.uint8]], NDArray[np.float32]], side_px: int, batch_size: int
) -> Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float32]]:
    """Images of any size to (N, D): the middle square, resized as tiles are when they are read."""

    def answer(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(images), batch_size):
            batch = [fit_square(rgb_HWC, side_px) for rgb_HWC in images[start : start + batch_size]]
            parts.append(model(np.stack(batch)))
        return np.concatenate(parts)

    return answer


def answering_student(
    model: nn.Module, batch_size: int
) -> Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float32]]:
    """The same for an exported student."""
    look = Eye(model)
    placed = look.place(model)

    @torch.inference_mode()
    def run(image_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        answer_ND: NDArray[np.float32] = placed(look(image_NHWC)).float().cpu().numpy()
        return answer_ND

    return answering(run, look.side_px, batch_size)


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


def _create(folder: Path, *, pretrained: bool, **arguments: Any) -> nn.Module:
    if not (folder / "config.json").is_file():
        raise EvaluationError("there is no exported student", where=str(folder), fix="dvc repro student")
    model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=pretrained, **arguments)
    return model.eval().requires_grad_(False)
