"""A file of features, by what it is."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path

from pipeline.cluster.refusals import of_others
from pipeline.imports.formats.feature_file import FeatureFile, refused
from pipeline.imports.formats.tables import open_npz, open_parquet
from pipeline.imports.formats.tensors import INDEX, META, open_slide2vec_npz, open_tensor


def _hdf5(path: Path, slide: str, held: contextlib.ExitStack | None = None) -> FeatureFile:
    """Here, since h5py is loaded by whoever has such files alone."""
    from pipeline.imports.formats.hdf5 import open_hdf5

    return open_hdf5(path, slide, held)


HDF5 = (".h5", ".hdf5")
BY_SUFFIX: dict[str, Callable[[Path, str], FeatureFile]] = {
    **dict.fromkeys(HDF5, _hdf5),
    ".pt": open_tensor,
    ".npz": lambda path, slide: (
        open_slide2vec_npz(path) if path.with_name(path.stem + META).is_file() else open_npz(path, slide)
    ),
    ".parquet": open_parquet,
}
BESIDE = (INDEX, ".coordinates.npz")
"""Endings of files that are no features, but lie beside them."""


def open_features(path: Path, slide: str, held: contextlib.ExitStack | None = None) -> FeatureFile:
    """What the file has of a slide that goes by this name; who reads its features as well, and soon, gives `held`.

    Raises `SlideRefused` where it is none of the formats or damaged, `SlideUnavailable` where it cannot be read.
    """
    suffix = path.suffix.lower()
    opener = functools.partial(_hdf5, held=held) if suffix in HDF5 else BY_SUFFIX.get(suffix)
    if opener is None:
        raise refused(path, "is none of " + ", ".join(BY_SUFFIX))
    with of_others(path, "its features", functools.partial(refused, path)):
        return opener(path, slide)
