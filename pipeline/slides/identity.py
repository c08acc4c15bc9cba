"""What a slide is, wherever its file lies: two people with two copies share one cache.

Never the path and never the modification time. A slide is OpenSlide's `quickhash-1` (a hash of its metadata and of its
coarsest level) with the number of its bytes, which tells a whole copy from a truncated one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.partials import file_sha256
from pipeline.slides.images import list_images


@dataclass(frozen=True)
class Identity:
    """`digest`: 32 hex digits; `nbytes`: of all the slide's files. `key` is safe as an item key of the store."""

    digest: str
    nbytes: int

    @property
    def key(self) -> str:
        return f"{self.digest}-{self.nbytes}"


def file_identity(path: Path, quickhash: str | None) -> Identity:
    """From the quickhash; where the format has none, from the sha256 of the whole file."""
    nbytes = path.stat().st_size
    if path.suffix.lower() == ".mrxs":
        # A MIRAX slide is a small index file beside a folder of the same name, which holds the pixels.
        nbytes += sum(file.stat().st_size for file in path.with_suffix("").rglob("*") if file.is_file())
    return Identity((quickhash or file_sha256(path))[:32], nbytes)


def folder_identity(folder: Path) -> Identity:
    """From the relative names and contents of its images. Raises `SlideRefused` where there are none."""
    digest, nbytes = hashlib.sha256(), 0
    for name, _ in list_images(folder):
        digest.update(f"{name}\0{file_sha256(folder / name)}\n".encode())
        nbytes += (folder / name).stat().st_size
    return Identity(digest.hexdigest()[:32], nbytes)


def beside_identity(mask: Path | None, coords: Path | None) -> dict[str, str]:
    """{`mask`, `coords`: 32 hex digits of the sha256} of the files that the table names beside a slide."""
    files = {"mask": mask, "coords": coords}
    return {name: file_sha256(path)[:32] for name, path in files.items() if path is not None}
