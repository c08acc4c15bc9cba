"""How patch tokens are kept: float16 in the teacher's own space, or int8 as in the store, at half the bytes.

    fp16  patch  float16 (N, T, D); attribute grid (h, w), T = h * w in row-major order
    int8  patch  int8 (N, T, D): z = (x - mu) / sigma, rotated in blocks, in steps of `scale`;
                 attributes grid, mu, sigma (D), rotation_block
          scale  float16 (N, T)

What int8 does and why: kernels/epilogue/reference.py, which this is in NumPy, for engines that need no torch.
docs/artifacts.md reads it back in seven lines.

Shapes: N images, T patch tokens, D channels, B channels a block.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.hadamard.blocks import block_of, matrix_rows, sign_list
from pipeline.base.errors import StudentError
from pipeline.base.types import Array, Json
from pipeline.student.shipped import SPACE_FILE, adapter_folder, dense_grid

PATCH, SCALE = "patch", "scale"
FP16, INT8 = "fp16", "int8"
_LEVELS = 127
_SCALE_MIN, _SCALE_MAX = 2.0**-14, 65504.0


@dataclass(frozen=True)
class PatchForm:
    """Cells (h, w) and width D of the tokens; of int8, mean and deviation of each channel."""

    grid: tuple[int, int]
    width: int
    mu: tuple[float, ...] = ()
    sigma: tuple[float, ...] = ()

    @classmethod
    def of_student(cls, folder: Path, width: int, layout: str) -> PatchForm:
        """Of an exported student. Raises `StudentError` where it has no adapter, or says too little for int8."""
        grid = dense_grid(folder)
        if layout == FP16:
            return cls(grid, width)
        try:
            told = json.loads((adapter_folder(folder) / SPACE_FILE).read_bytes())
            return cls(grid, width, tuple(told["mu"]), tuple(told["sigma"]))
        except FileNotFoundError:
            what = f"it says nothing of the scale of its patch tokens (no {SPACE_FILE}): exported by an earlier Histill"
            fix = "export it again (dvc repro -f -s student), or --patch fp16"
            raise StudentError(what, where=str(folder), fix=fix) from None

    @property
    def layout(self) -> str:
        return INT8 if self.sigma else FP16

    @property
    def arrays(self) -> Mapping[str, tuple[tuple[int, ...], np.dtype[np.generic]]]:
        """Shape and dtype of what is kept of one image, by name."""
        tokens = self.grid[0] * self.grid[1]
        patch = np.dtype(np.int8 if self.sigma else np.float16)
        found = {PATCH: ((tokens, self.width), patch), SCALE: ((tokens,), np.dtype(np.float16))}
        return found if self.sigma else {PATCH: found[PATCH]}

    @property
    def attributes(self) -> dict[str, Json]:
        """Of the array `patch`: what it takes to read it."""
        told: dict[str, Json] = {"grid": list(self.grid)}
        if self.sigma:
            told |= {"mu": list(self.mu), "sigma": list(self.sigma), "rotation_block": block_of(self.width)}
        return told

    def encode(self, patch_NTD: NDArray[np.float32]) -> tuple[Array, ...]:
        """The arrays, in their order, of tokens in the teacher's own space."""
        if not self.sigma:
            return (patch_NTD.astype(np.float16),)
        mu_D, sigma_D, turn_BB = self._tables
        z_NTD = (patch_NTD - mu_D) / sigma_D
        z_NTD = (z_NTD.reshape(-1, len(turn_BB)) @ turn_BB).reshape(z_NTD.shape)
        # A scale among float16's normal numbers, rounded before it divides.
        scale_NT = np.clip(np.abs(z_NTD).max(-1) / _LEVELS, _SCALE_MIN, _SCALE_MAX).astype(np.float16)
        steps_NTD = np.rint(z_NTD / scale_NT.astype(np.float32)[..., None])
        return np.clip(steps_NTD, -_LEVELS, _LEVELS).astype(np.int8), scale_NT

    @cached_property
    def _tables(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Mean and deviation (D,); signs and Hadamard matrix of a block, orthogonal, (B, B)."""
        block = block_of(self.width)
        turn_BB = np.array(sign_list(block))[:, None] * np.array(matrix_rows(block)) / np.sqrt(block)
        return np.array(self.mu, np.float32), np.array(self.sigma, np.float32), turn_BB.astype(np.float32)
