"""What an engine runs: a frozen encoder and how it wants its images, be it a teacher or an exported student.

Shapes: N images, C = 3 channels, H = W = `input_px`, D channels of the embedding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.base.types import Recipe


class Preprocess(nn.Module):
    """How a network wants its images: `input_px` side of its square input; `mean`, `std` of inputs in 0..1."""

    _mean_C: Tensor
    _std_C: Tensor

    def __init__(self, name: str, input_px: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.name, self.input_px, self.mean, self.std = name, input_px, tuple(mean), tuple(std)
        # On the device beside the weights, so that no batch waits for them to be copied there.
        self.register_buffer("_mean_C", torch.tensor(self.mean), persistent=False)
        self.register_buffer("_std_C", torch.tensor(self.std), persistent=False)

    def normalise(self, image_NHWC: Tensor) -> Tensor:
        """uint8 RGB images as the network takes them: float32 NCHW, on the same device."""
        return ((image_NHWC.float() / 255 - self._mean_C) / self._std_C).permute(0, 3, 1, 2)

    @property
    def where(self) -> str:
        """What an error calls it."""
        return self.name


class Network(Preprocess, ABC):
    """A frozen encoder with its preprocessing.

    `trunk` is what takes the time, normalised images (N, 3, H, W) to its raw answer; `weights_digest` says which
    weights; `convolutional` whether channels-last pays.
    """

    trunk: nn.Module
    weights_digest: str
    convolutional: bool

    @abstractmethod
    def embedding(self, raw: Tensor) -> Tensor:
        """(N, D) float32, of what `trunk` or an engine in its place answered, in any float dtype."""

    @abstractmethod
    def describe(self) -> Recipe:
        """What its answers depend on, as plain data: part of the key of what is built from it."""

    @property
    def memory_format(self) -> torch.memory_format:
        """In which it is fastest on a CPU: convolutions in channels-last, twice as fast in float32."""
        return torch.channels_last if self.convolutional else torch.contiguous_format


class Embedder(nn.Module):
    """A network as one module: normalised images (N, 3, H, W) to (N, D)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image_NCHW: Tensor) -> Tensor:
        return self.network.embedding(self.network.trunk(image_NCHW))
