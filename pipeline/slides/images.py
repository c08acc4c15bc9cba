"""A folder of images as a slide: its images are its tiles, the folders they lie in their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pipeline.base.errors import SlideRefused, SlideUnavailable
from pipeline.cluster.refusals import unread
from pipeline.slides.walk import Walked, printable, walk

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
UNREAD_SUFFIXES = frozenset({".gif", ".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif", ".jxl", ".ppm", ".tga", ".psd"})
"""Pictures that are not read: counted, so that nobody misses them in silence."""


def list_images(folder: Path, walked: Walked | None = None) -> list[tuple[str, str | None]]:
    """(path relative to `folder`, class label or None) of every image below it, sorted by path.

    As in torchvision's ImageFolder, the label is the first folder on the way: `AC/patient-3/1.jpg` is of class `AC`,
    and links are followed. Hidden files and folders are left out; `walked` is told what else is. Raises `SlideRefused`
    where there is no image, and `SlideUnavailable` where a folder cannot be read or the top one is empty.
    """
    walked = walked if walked is not None else Walked()
    found = []
    for parent, _, names in walk(folder, walked):
        for name in names:
            path = parent / name
            suffix = path.suffix.lower()
            if suffix in UNREAD_SUFFIXES:
                walked.add(path, f"{suffix} is not read: convert it to PNG or JPEG")
            elif suffix in IMAGE_SUFFIXES and path.is_file():
                relative = path.relative_to(folder)
                found.append((relative.as_posix(), relative.parts[0] if len(relative.parts) > 1 else None))
    for path, error in walked.unread:
        raise unread(error, f"{printable(path.relative_to(folder))} cannot be read", folder.name)
    if not found and not any(folder.iterdir()):
        raise SlideUnavailable("the folder is empty", where=folder.name, fix="is the disk it lies on mounted?")
    if not found:
        not_read = counted(Path(path).suffix.lower() for path, _ in walked.left_out)
        fix = f"images end in {', '.join(sorted(IMAGE_SUFFIXES))}; they may lie in one folder a class"
        raise SlideRefused(
            "the folder holds no image" + (f", but {not_read}" if not_read else ""), where=folder.name, fix=fix
        )
    return sorted(found)


def counted(suffixes: Iterable[str]) -> str:
    """Pictures that are not read, by format: `.gif 3, .jp2 1`."""
    counts = Counter(suffix for suffix in suffixes if suffix in UNREAD_SUFFIXES)
    return ", ".join(f"{suffix} {n}" for suffix, n in sorted(counts.items()))
