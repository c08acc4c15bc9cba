"""Zarr v3 arrays, written chunk by chunk and read by mapping their files.

An uncompressed Zarr chunk is a flat C-order file, so the store stays ordinary Zarr that anyone can open, and on a local
file system a chunk is read by mapping it.
"""

from pipeline.base.arrays.form import ArrayForm, balanced_rows
from pipeline.base.arrays.group import GroupWriter
from pipeline.base.arrays.mapped import MappedArray, rows_of_file, spans_of
from pipeline.base.arrays.writers import CHUNK_NBYTES, ArrayWriter, BytesWriter, nbytes_kept

__all__ = [
    "CHUNK_NBYTES",
    "ArrayForm",
    "ArrayWriter",
    "BytesWriter",
    "GroupWriter",
    "MappedArray",
    "balanced_rows",
    "nbytes_kept",
    "rows_of_file",
    "spans_of",
]
