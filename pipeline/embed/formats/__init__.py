"""The tools' own files: which there are of a slide, called what, and what is in them.

A format is a module with two functions: `paths`, relative to the output folder, of which the last holds the stamp (see
stamps.py) and is put in place last; and `write`, which writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from pipeline.embed.features import Features
from pipeline.embed.formats import clam, h5ad, parquet, slide2vec, slideflow, stamp, trident, wsidata, zarr_group
from pipeline.embed.formats.place import Place

__all__ = ["FORMATS", "Format", "Place"]


@dataclass(frozen=True)
class Format:
    """Where a slide's files are, and what writes them: (features, a path for each, where each will be).

    `dense`: patch tokens have a place there that its readers do not stumble over.
    """

    paths: Callable[[Place], tuple[PurePath, ...]]
    write: Callable[[Features, Sequence[Path], Sequence[Path]], None]
    dense: bool = False


FORMATS = {
    "trident": Format(trident.paths, trident.write, dense=True),
    "clam": Format(clam.paths, clam.write, dense=True),
    "stamp": Format(stamp.paths, stamp.write),
    "slideflow": Format(slideflow.paths, slideflow.write),
    "slide2vec": Format(slide2vec.paths, slide2vec.write),
    "wsidata": Format(wsidata.paths, wsidata.write),
    "h5ad": Format(h5ad.paths, h5ad.write),
    "zarr": Format(zarr_group.paths, zarr_group.write, dense=True),
    "parquet": Format(parquet.paths, parquet.write),
}
