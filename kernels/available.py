"""Whether a tensor's kernel can run: on a GPU, with Triton installed. Elsewhere the reference runs, on any device."""

from __future__ import annotations

import importlib.util
from functools import cache

from torch import Tensor


def has_kernel(values: Tensor) -> bool:
    """Whether `values` is on a GPU and Triton is installed (torch brings it along on Linux)."""
    return values.is_cuda and _has_triton()


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
