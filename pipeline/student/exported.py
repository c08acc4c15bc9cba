"""An exported student as its user has it: loaded by timm alone from its folder, and asked for its answers.

This is the one encoder of all that runs a student: `evaluate`, `benchmark` and `embed`. Input side, mean and deviation
are those that config.json states, so that what is measured is what is shipped; dense tokens come through the adapter
exported beside the weights. Both answer in the teacher's own units.

Shapes: N images, H = W input side, T = h * w patch tokens of the teacher in row-major order, D the teacher's width.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from pipeline.base.items import AdapterArguments
from pipeline.base.partials import file_sha256
from pipeline.base.types import Json, Recipe
from pipeline.student.adapters import ADAPTERS
from pipeline.student.nested import Nested
from pipeline.student.shipped import (
    ADAPTER_FILE,
    ADAPTER_WEIGHTS_FILE,
    CONFIG_FILE,
    NESTED_FILE,
    NESTED_FOLDER,
    NESTED_WEIGHTS_FILE,
    ONNX_FILE,
    WEIGHTS_FILE,
    adapter_folder,
    nested_digest,
    require_size,
    require_student,
)
from pipeline.teachers.engines import pick_device
from pipeline.teachers.engines.base import convolutions_in
from pipeline.teachers.layout import to_channels_last
from pipeline.teachers.network import Network

DECODERS = 2
"""Threads that decode the next batch while the model is at work on this one."""


class AdapterConfig(BaseModel):
    """adapter.json: which adapter, made with what, and which of timm's intermediates it is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    adapter: str
    arguments: AdapterArguments
    stages: tuple[int, ...]

    @classmethod
    def of_folder(cls, folder: Path) -> AdapterConfig | None:
        """Of an exported student; None where it has no adapter."""
        path = adapter_folder(folder) / ADAPTER_FILE
        return cls.model_validate_json(path.read_bytes()) if path.is_file() else None


class ExportedStudent(Network):
    """The exported student as engines take it; its raw answer is its embedding."""

    convolutional = True

    def __init__(self, folder: Path, width: int | None = None) -> None:
        """With `width` its embedding of that nested size. Raises `StudentError` where there is none."""
        backbone = load_student(folder)
        config = resolve_model_data_config(backbone)
        super().__init__(architecture(backbone), int(config["input_size"][-1]), config["mean"], config["std"])
        self.trunk, self.weights_digest = backbone, file_sha256(folder / WEIGHTS_FILE)[:32]
        if width is not None:
            self.trunk = load_prefix(folder, backbone, width)
            self.weights_digest = f"{self.weights_digest}-{nested_digest(folder)}-{width}"
        self.onnx = folder / ONNX_FILE

    def embedding(self, raw: Tensor) -> Tensor:
        return raw.float()

    def describe(self) -> Recipe:
        return {"student": self.name, "weights_digest": self.weights_digest, "input_px": self.input_px}

    @property
    def where(self) -> str:
        return f"student {self.name}"


class Dense(nn.Module):
    """A student with its adapter: normalised images to embeddings and patch tokens in the teacher's space."""

    def __init__(self, backbone: nn.Module, adapter: nn.Module, config: AdapterConfig) -> None:
        super().__init__()
        self.backbone, self.adapter = backbone, adapter
        self.grid, self.stages = config.arguments.grid, list(config.stages)

    def forward(self, image_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(embedding_ND, patch_NTD), in one pass."""
        final, maps = self.backbone.forward_intermediates(  # type: ignore[operator]
            image_NCHW, indices=self.stages, output_fmt="NCHW"
        )
        return self.backbone.forward_head(final), self.adapter(maps)  # type: ignore[operator]


class Heads(nn.Module):
    """A student whose last layer holds several teachers' heads: normalised images to an embedding a teacher; with
    nested sizes to the nested vector too."""

    def __init__(self, backbone: nn.Module, widths: tuple[int, ...], nested: Nested | None = None) -> None:
        super().__init__()
        self.backbone, self.widths = backbone, widths
        self.project = None if nested is None else nested.project

    def forward(self, image_NCHW: Tensor) -> tuple[Tensor, ...]:
        """(embedding_ND, …), D each teacher's, and last nested_NK."""
        if self.project is None:
            return tuple(self.backbone(image_NCHW).split(self.widths, dim=1))
        feature_NF = features(self.backbone, image_NCHW)
        embedding_NE: Tensor = self.backbone.get_classifier()(feature_NF)  # type: ignore[operator]
        return (*torch.split(embedding_NE, list(self.widths), dim=1), self.project(feature_NF))


class Prefix(nn.Module):
    """A student's nested embedding of one size: normalised images to the first `size` numbers of its nested vector."""

    def __init__(self, backbone: nn.Module, nested: Nested, size: int) -> None:
        super().__init__()
        self.backbone, self.project, self.num_classes = backbone, nested.project, size
        self.pretrained_cfg = backbone.pretrained_cfg

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """(N, size)."""
        nested_NK: Tensor = self.project(features(self.backbone, image_NCHW))
        return nested_NK[:, : self.num_classes]


def features(backbone: nn.Module, image_NCHW: Tensor) -> Tensor:
    """What the last layer makes its answer of, (N, F)."""
    final = backbone.forward_features(image_NCHW)  # type: ignore[operator]
    feature_NF: Tensor = backbone.forward_head(final, pre_logits=True)  # type: ignore[operator]
    return feature_NF


def load_student(folder: Path) -> nn.Module:
    """The exported student, in evaluation mode. Raises `StudentError` where there is none."""
    return _create(folder, pretrained=True, classes=None)


def untrained_twin(folder: Path, seed: int, classes: int | None = None) -> nn.Module:
    """The same architecture with random weights: what the pixels alone give away. Leaves torch's seed as it was.

    With `classes` it ends in that many outputs instead of the teacher's width.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _create(folder, pretrained=False, classes=classes)


def load_dense(folder: Path, backbone: nn.Module, *, trained: bool = True, seed: int = 0) -> Dense | None:
    """The student with its exported adapter (or one drawn from `seed`); None where none was trained."""
    config = AdapterConfig.of_folder(folder)
    if config is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        arguments = config.arguments
        grids, grid = [list(each) for each in arguments.grids], list(arguments.grid)
        adapter = ADAPTERS[config.adapter](list(arguments.channels), grids, grid, arguments.width)
    if trained:
        adapter.load_state_dict(load_file(adapter_folder(folder) / ADAPTER_WEIGHTS_FILE))
    return Dense(backbone, adapter, config).eval().requires_grad_(False)


def load_nested(folder: Path) -> Nested | None:
    """The nested sizes as exported, whose heads answer in the teacher's units; None where none were trained."""
    path = folder / NESTED_FOLDER / NESTED_FILE
    if not path.is_file():
        return None
    told = json.loads(path.read_bytes())
    nested = Nested(told["sizes"], told["features"], told["width"])
    nested.load_state_dict(load_file(folder / NESTED_FOLDER / NESTED_WEIGHTS_FILE))
    return nested.eval().requires_grad_(False)


def load_prefix(folder: Path, backbone: nn.Module, size: int) -> Prefix:
    """The exported student's embedding of that nested size. Raises `StudentError` where it has none."""
    require_size(folder, size)
    nested = load_nested(folder)
    assert nested is not None
    return Prefix(backbone, nested, size).eval()


def architecture(model: nn.Module) -> str:
    """timm's name of the model."""
    return str(model.pretrained_cfg["architecture"])  # type: ignore[index]


def net_of(folder: Path) -> dict[str, Json]:
    """Of an exported student's config.json what makes the net and its input."""
    config = json.loads((folder / CONFIG_FILE).read_bytes())
    cfg = config["pretrained_cfg"]
    return {
        "architecture": config["architecture"],
        "model_args": config.get("model_args", {}),
        **{name: cfg[name] for name in ("input_size", "mean", "std")},
    }


class Encoder:
    """A student on `device`, else that of this machine, channels last: images as they were decoded in, float32 out.

    `side_px` is its input side, `width` D, `grid` (h, w) of its patch tokens, None without `dense`.
    """

    def __init__(self, model: nn.Module, dense: Dense | None = None, device: torch.device | None = None) -> None:
        config = resolve_model_data_config(model)
        self.side_px, self.width = int(config["input_size"][-1]), int(model.num_classes)  # type: ignore[arg-type]
        self.device = device or pick_device()
        self._mean_C, self._std_C = (torch.tensor(config[name], device=self.device) for name in ("mean", "std"))
        self.model, self._dense = model, dense
        for module in (model, dense):
            if module is not None:
                to_channels_last(module.to(self.device))
        self.grid = None if dense is None else dense.grid

    def normalise(self, image_NHWC: NDArray[np.uint8]) -> Tensor:
        """(N, side_px, side_px, 3) uint8 as the model takes them: (N, 3, H, W) float32 on the device."""
        scaled_NHWC = torch.from_numpy(image_NHWC).to(self.device).float() / 255
        return ((scaled_NHWC - self._mean_C) / self._std_C).permute(0, 3, 1, 2)

    @torch.inference_mode()
    def embed(self, image_NCHW: Tensor) -> NDArray[np.float32]:
        """(N, D) of normalised images."""
        with convolutions_in("fp32"):
            return _numpy(self.model(image_NCHW))

    @torch.inference_mode()
    def embed_dense(self, image_NCHW: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(N, D) and (N, T, D) of normalised images, of a student with its adapter."""
        assert self._dense is not None
        with convolutions_in("fp32"):
            embedding_ND, patch_NTD = self._dense(image_NCHW)
        return _numpy(embedding_ND), _numpy(patch_NTD)

    def __call__(self, image_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, D) of (N, side_px, side_px, 3) uint8."""
        return self.embed(self.normalise(image_NHWC))


def batches(read: Callable[[int], NDArray[np.uint8]], n: int, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """`read(0)` to `read(n - 1)` (H, W, 3), stacked batch after batch; threads read the next while one is used."""
    with ThreadPoolExecutor(DECODERS) as pool:

        def start(first: int) -> list[Future[NDArray[np.uint8]]]:
            return [pool.submit(read, i) for i in range(first, min(first + batch_size, n))]

        ahead = start(0)
        for first in range(0, n, batch_size):
            ready, ahead = ahead, start(first + batch_size)
            yield np.stack([image.result() for image in ready])


def _numpy(answer: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = answer.float().cpu().numpy()
    return found


def _create(folder: Path, *, pretrained: bool, classes: int | None) -> nn.Module:
    require_student(folder)
    arguments = {} if classes is None else {"num_classes": classes}
    model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=pretrained, **arguments)
    return model.eval().requires_grad_(False)
