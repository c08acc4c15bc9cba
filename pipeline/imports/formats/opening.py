"""A file of features, by what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.base.errors import HistillError
from pipeline.cluster.refusals import from_content, unread
from pipeline.imports.formats.feature_file import FeatureFile, refused
from pipeline.imports.formats.hdf5 import open_hdf5
from pipeline.imports.formats.tables import open_npz, open_parquet
from pipeline.imports.formats.tensors import INDEX, META, open_slide2vec_npz, open_tensor

BY_SUFFIX: dict[str, Callable[[Path, str], FeatureFile]] = {
    ".h5": open_hdf5,
    ".hdf5": open_hdf5,
    ".pt": open_tensor,
    ".npz": lambda path, slide: (
        open_slide2vec_npz(path) if path.with_name(path.stem + META).is_file() else open_npz(path, slide)
    ),
    ".parquet": open_parquet,
}
BESIDE = (INDEX, ".coordinates.npz")
"""Endings of files that are no features, but lie beside them."""


def open_features(path: Path, slide: str) -> FeatureFile:
    """What the file has of a slide that goes by this name.

    Raises `SlideRefused` where it is none of the formats or damaged, `SlideUnavailable` where it cannot be read.
    """
    opener = BY_SUFFIX.get(path.suffix.lower())
    if opener is None:
        raise refused(path, "is none of " + ", ".join(BY_SUFFIX))
    try:
        return opener(path, slide)
    except Exception as error:
        # Somebody else's file, and four libraries' ways to stumble over it.
        if isinstance(error, HistillError | MemoryError):
            raise
        if isinstance(error, OSError) and not from_content(error):
            raise unread(error, f"its features {path.name} cannot be read") from None
        raise refused(path, f"cannot be read: {error}") from None
