"""What a slide is, wherever its file lies: two people with two copies share one cache.

Never the path and never the modification time. A slide is OpenSlide's `quickhash-1` (a hash of some of its metadata and
of its coarsest level), what that leaves out though reading depends on it (the scale as resolved, whoever says it; the
levels; the bounds in which other tools count; colours and predictor where a TIFF's tags say what its compression seldom
has), and the number of bytes of all its files, which tells a whole copy from a truncated one. Copies that differ in any
of these are different slides.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.partials import file_sha256
from pipeline.cluster.refusals import unread
from pipeline.slides.files import files_of
from pipeline.slides.images import list_images
from pipeline.slides.read.reader import SlideReader


@dataclass(frozen=True)
class Identity:
    """`digest`: 32 hex digits; `nbytes`: of all the slide's files. `key` is safe as an item key of the store."""

    digest: str
    nbytes: int

    @property
    def key(self) -> str:
        return f"{self.digest}-{self.nbytes}"


VERSION = 2
"""Of what an identity is made of; 1 was the quickhash and the bytes of one file."""


def file_identity(reader: SlideReader) -> Identity:
    """Of an open slide; where the format has no quickhash, the sha256 of all its files stands in for it.

    Raises `SlideRefused` where one of its files is missing.
    """
    files = files_of(reader.path)
    content = reader.quickhash or "".join(map(_content, files))
    odd = [reader.odd] if reader.odd else []
    told = json.dumps([VERSION, content, reader.mpp_xy, reader.own_levels, reader.bounds, *odd])
    return Identity(hashlib.sha256(told.encode()).hexdigest()[:32], sum(file.stat().st_size for file in files))


def folder_identity(folder: Path) -> Identity:
    """From the relative names and contents of its images. Raises `SlideRefused` where there are none."""
    digest, nbytes = hashlib.sha256(), 0
    for name, _ in list_images(folder):
        digest.update(f"{name}\0{_content(folder / name)}\n".encode())
        nbytes += (folder / name).stat().st_size
    return Identity(digest.hexdigest()[:32], nbytes)


def beside_identity(mask: Path | None, coords: Path | None, features: Path | None = None) -> dict[str, str]:
    """{`mask`, `coords`, `features`: 32 hex digits of the sha256} of the files that the table names beside a slide."""
    files = {"mask": mask, "coords": coords, "features": features}
    return {name: _content(path)[:32] for name, path in files.items() if path is not None}


def _content(path: Path) -> str:
    """sha256 of a file, hex. Raises `SlideUnavailable` that names it."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise unread(error, f"{path.name} cannot be read") from None
