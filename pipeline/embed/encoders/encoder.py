"""What every encoder is to those that feed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.base.types import Array
from pipeline.embed.patch_form import PatchForm


@dataclass(frozen=True)
class Facts:
    """What an encoder's answers depend on, known before it is loaded.

    `name` is what it is called in files, `digest` tells its weights; images are `input_px` a side, of tiles resized by
    Pillow's filter of the name `resample`. With patch tokens `patch` says how they are kept, and `adapter` tells
    the weights of what answers them. Where `width` is a nested size, `nested` tells the weights of what makes it.
    """

    name: str
    digest: str
    width: int
    input_px: int
    resample: str = "bicubic"
    patch: PatchForm | None = None
    adapter: str | None = None
    nested: str | None = None


class Answers(NamedTuple):
    """Of N images: (N, D), and the arrays of their patch tokens (patch_form.py), where they are asked for."""

    embedding_ND: NDArray[np.float32]
    patch: tuple[Array, ...] = ()


class Encoder(Protocol):
    """Answers at most `batch_size` images a call, from any number of threads; `engine` is what runs it."""

    facts: Facts
    engine: str
    batch_size: int

    def __call__(self, image_NHWC: NDArray[np.uint8]) -> Answers:
        """Of uint8 (N, H, W, 3)."""
        ...
