"""Patch tokens in an HDF5 file whose readers take what they know by name and leave the rest: `patch`, of int8 `scale`
beside it, as patch_form.py has them."""

from __future__ import annotations

import h5py

from pipeline.embed.features import Features
from pipeline.embed.patch_form import PATCH


def write_patch(file: h5py.File, features: Features) -> None:
    """Part by part, where they are asked for."""
    tokens = features.patch
    if tokens is None:
        return
    for name, (shape, dtype) in tokens.form.arrays.items():
        n, part = len(tokens.row_N), tokens.part(name)
        array = file.create_dataset(name, (n, *shape), dtype, chunks=(part, *shape))
        for start, values in zip(range(0, n, part), tokens.parts(name), strict=True):
            array[start : start + part] = values
    file[PATCH].attrs.update(tokens.form.attributes)
