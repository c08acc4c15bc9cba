"""Patch tokens in an HDF5 file whose readers take what they know by name and leave the rest.

patch  float16 (N, T, D), T = h * w in row-major order; attribute grid (h, w)
"""

from __future__ import annotations

import h5py
import numpy as np

from pipeline.embed.features import Features


def write_patch(file: h5py.File, features: Features) -> None:
    """Part by part, where they are asked for."""
    tokens = features.patch
    if tokens is None:
        return
    patch = file.create_dataset("patch", tokens.shape, np.float16, chunks=(tokens.part, *tokens.shape[1:]))
    patch.attrs["grid"] = tokens.grid
    start = 0
    for part_NTD in tokens.parts():
        patch[start : start + len(part_NTD)] = part_NTD
        start += len(part_NTD)
