"""The feature files of a job folder: those of one encoder, one tiling and one form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import TableError
from pipeline.imports.encoders import teacher_called
from pipeline.imports.formats.opening import BESIDE, BY_SUFFIX

_TRIDENT, _NO_FEATURES = "features_", frozenset({"patches", "tiles", "slide_embeddings", "masks", "stitches"})
_FOLDERS = ("h5_files", "pt_files", "tile_embeddings")
"""Folders that CLAM and slide2vec call so; of CLAM's two the first has coordinates too."""


def feature_files(job: Path, teacher: str) -> list[Path]:
    """The files at or below `job`, sorted. Raises `TableError` where there are none, or of several encoders.

    Of TRIDENT's folders those whose encoder is the teacher are preferred.
    """
    if job.is_file():
        return [job]
    if not job.is_dir():
        raise TableError("no such folder", where=str(job), fix="give the job folder, or the one of its feature files")
    files = [path for path in sorted(job.rglob("*")) if _is_features(path, job)]
    if not files:
        fix = "give the job folder of TRIDENT, CLAM, STAMP, slide2vec or slideflow, or one of h5, npz or parquet files"
        raise TableError("no features here", where=str(job), fix=fix)
    return _of_one(files, job, teacher)


def _is_features(path: Path, job: Path) -> bool:
    if path.suffix.lower() not in BY_SUFFIX or path.name.endswith(BESIDE) or path.name.startswith("."):
        return False
    return not _NO_FEATURES & set(path.relative_to(job).parent.parts) and path.is_file()


def _of_one(files: Sequence[Path], job: Path, teacher: str) -> list[Path]:
    """Those that one run of a tool has written."""
    parents = sorted({path.parent for path in files})
    called = [parent for parent in parents if parent.name.startswith(_TRIDENT)]
    if called:
        same = [parent for parent in called if teacher_called(parent.name.removeprefix(_TRIDENT)) == teacher] or called
        same = same if len(same) < 2 else [p for p in same if p.name.removeprefix(_TRIDENT) == teacher] or same
        return _within(files, _only(same, job))
    for name in _FOLDERS:
        named = [parent for parent in parents if parent.name == name]
        if named:
            return _within(files, _only(named, job))
    # STAMP keeps the slides' own folders below the extractor's.
    tops = sorted({job / path.relative_to(job).parts[0] for path in files if len(path.relative_to(job).parts) > 1})
    here = [path for path in files if path.parent == job]
    if here or len(tops) < 2 or not _share_names(files, tops):
        return list(files)
    return _within(files, _only(tops, job))


def _share_names(files: Sequence[Path], tops: Sequence[Path]) -> bool:
    """Whether a slide has a file in two of the folders: then they are of two encoders."""
    names = [{path.relative_to(top) for path in files if path.is_relative_to(top)} for top in tops]
    return len(set().union(*names)) < sum(map(len, names))


def _only(folders: Sequence[Path], job: Path) -> Path:
    if len(folders) > 1:
        shown = ", ".join(str(folder.relative_to(job)) for folder in folders[:6])
        raise TableError(f"features of several kinds: {shown}", where=str(job), fix="give the folder of one of them")
    return folders[0]


def _within(files: Sequence[Path], folder: Path) -> list[Path]:
    return [path for path in files if path.is_relative_to(folder)]
