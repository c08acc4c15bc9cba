"""A folder of images as a slide: its images are its tiles, the folders they lie in their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pipeline.base.errors import SlideRefused, SlideUnavailable
from pipeline.base.names import printable
from pipeline.cluster.refusals import unread
from pipeline.slides.walk import Walked, walk

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff"})
UNREAD_SUFFIXES = frozenset(
    [
        *(".gif", ".jp2", ".j2k", ".jpx", ".jpf", ".avif", ".heic", ".heif", ".jxl", ".jxr", ".ppm", ".pgm", ".pnm"),
        *(".tga", ".psd", ".xcf", ".exr", ".svg", ".raw", ".dng", ".npy", ".npz"),
    ]
)
"""Pictures that are not read: counted, so that nobody misses them in silence."""
LINK_FIX = "fetch it (git annex get, dvc pull), or mount its disk"


def list_images(folder: Path, walked: Walked | None = None) -> list[tuple[str, str | None]]:
    """(path relative to `folder`, class label or None) of every image below it, sorted by path.

    As in torchvision's ImageFolder, the label is the first folder on the way: `AC/patient-3/1.jpg` is of class `AC`,
    and links are followed. Hidden files and folders are left out; `walked` is told what else is. Raises `SlideRefused`
    where there is no image, and `SlideUnavailable` where a folder cannot be read, an image is a link to what is not
    here, or the top folder is empty.
    """
    walked = walked if walked is not None else Walked()
    found = []
    for parent, _, names in walk(folder, walked):
        for name in names:
            path = parent / name
            suffix = path.suffix.lower()
            if suffix in UNREAD_SUFFIXES:
                walked.add(path, f"{suffix} is not read: convert it to PNG or JPEG")
            elif suffix in IMAGE_SUFFIXES and _is_here(path):
                relative = path.relative_to(folder)
                found.append((relative.as_posix(), relative.parts[0] if len(relative.parts) > 1 else None))
    for path, error in walked.unread:
        if path.is_symlink() and path.suffix.lower() not in IMAGE_SUFFIXES:
            continue  # a link in a circle, which is no folder
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


def _is_here(path: Path) -> bool:
    """Whether it is a file. Raises `SlideUnavailable` for a link to one that is not here: it is an image elsewhere."""
    if path.is_file():
        return True
    if path.is_symlink() and not path.exists():
        fix = f"{LINK_FIX}; if it has gone for good, remove the link"
        raise SlideUnavailable(f"{printable(path)} is a link to what is not here", where=path.parent.name, fix=fix)
    return False


def counted(suffixes: Iterable[str]) -> str:
    """Pictures that are not read, by format: `.gif 3, .jp2 1`."""
    counts = Counter(suffix for suffix in suffixes if suffix in UNREAD_SUFFIXES)
    return ", ".join(f"{suffix} {n}" for suffix, n in sorted(counts.items()))
