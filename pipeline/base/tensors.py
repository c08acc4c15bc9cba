"""Tensors written as a whole file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from pipeline.base.files import write_atomic


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file, atomically. Raises `OSError` for a full disk, for which safetensors' writer has its own."""
    write_atomic(path, save({name: value.contiguous() for name, value in tensors.items()}))
