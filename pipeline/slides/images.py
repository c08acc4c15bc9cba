"""A folder of images as a slide: its images are its tiles, the folders they lie in their labels."""

from __future__ import annotations

from pathlib import Path

from pipeline.base.errors import SlideRefused

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def list_images(folder: Path) -> list[tuple[str, str | None]]:
    """(path relative to `folder`, class label or None) of every image below it, sorted by path.

    As in torchvision's ImageFolder, the label is the first folder on the way: `AC/patient-3/1.jpg` is of class `AC`.
    Hidden files and folders are left out. Raises `SlideRefused` where there is no image.
    """
    found = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if path.suffix.lower() not in IMAGE_SUFFIXES or any(part.startswith(".") for part in relative.parts):
            continue
        if path.is_file():
            found.append((relative.as_posix(), relative.parts[0] if len(relative.parts) > 1 else None))
    if not found:
        fix = f"images end in {', '.join(sorted(IMAGE_SUFFIXES))}; they may lie in one folder a class"
        raise SlideRefused("the folder holds no image", where=folder.name, fix=fix)
    return sorted(found)
