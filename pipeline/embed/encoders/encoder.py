"""What every encoder is to those that feed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Facts:
    """What an encoder's answers depend on, known before it is loaded.

    `name` is what it is called in files, `digest` tells its weights; images are `input_px` a side, of tiles resized by
    Pillow's filter of the name `resample`.
    """

    name: str
    digest: str
    width: int
    input_px: int
    resample: str = "bicubic"


class Encoder(Protocol):
    """Answers at most `batch_size` images a call, from any number of threads; `engine` is what runs it."""

    facts: Facts
    engine: str
    batch_size: int

    def __call__(self, image_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, D) of uint8 (N, H, W, 3)."""
        ...
