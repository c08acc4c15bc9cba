"""The `.pt` that is written without torch is what torch writes, as far as torch can tell."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.embed.formats.torch_file import write_tensor


@pytest.mark.parametrize(("n", "width"), [(1, 1), (3, 5), (257, 128), (70_000, 3)])
def test_torch_loads_what_was_written(tmp_path: Path, n: int, width: int) -> None:
    values_ND = np.random.default_rng(n).normal(size=(n, width)).astype(np.float32)
    write_tensor(tmp_path / "a b.pt", values_ND)
    for kwargs in ({"weights_only": True}, {"weights_only": False}, {"weights_only": True, "mmap": True}):
        with warnings.catch_warnings():
            # A map of a file that is only read is not writable, and torch says so.
            warnings.simplefilter("ignore")
            tensor = torch.load(tmp_path / "a b.pt", **kwargs)
        assert tensor.dtype == torch.float32 and tensor.is_contiguous() and not tensor.requires_grad
        assert np.array_equal(tensor.numpy(), values_ND)
