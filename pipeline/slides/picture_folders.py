"""Which folders of pictures in a tree are slides of their own, and which only show slides that are there.

A cohort's folders hold thumbnails, label photographs, masks and the like beside its slides; a folder of tiles is a
slide whose tiles somebody has cut. Nothing in a folder says which it is, so rules decide, and say what they decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pipeline.slides.walk import shown

MOST_CLASSES = 40
"""More folders of pictures side by side than this are slides, not classes of one."""
SHOW_SLIDES = frozenset(
    [
        *(
            "thumbnail",
            "thumbnails",
            "thumb",
            "thumbs",
            "preview",
            "previews",
            "overview",
            "overviews",
            "macro",
            "macros",
        ),
        *("label", "labels", "mask", "masks", "contour", "contours", "stitch", "stitches", "heatmap", "heatmaps", "qc"),
        *("visualization", "visualizations", "visualisation", "visualisations", "annotation", "annotations"),
    ]
)
"""Names of folders that TRIDENT, CLAM, HistoQC and scanners keep pictures of slides in."""


class Grouping(StrEnum):
    """What folders of pictures that lie side by side are."""

    AUTO = "auto"
    CLASSES = "classes"
    SLIDES = "slides"


@dataclass
class Decision:
    """The folders to list as slides, and what was decided, in words."""

    folders: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def decide(
    pictures: Mapping[Path, Sequence[str]],
    children: Mapping[Path, Sequence[str]],
    slides: Sequence[Path],
    top: Path,
    grouping: Grouping = Grouping.AUTO,
) -> Decision:
    """Of folders that hold pictures (their names), with the folders that each folder holds and the slides found.

    Pictures of slides are those beside a slide, those in a folder of a name that tools give (`SHOW_SLIDES`), and those
    of which most are named after slides. The other folders are tiles. Where all folders of a folder are, they are its
    classes, unless there are more than `MOST_CLASSES` or their pictures bear their own names: then each is a slide.
    """
    decision, tiles = Decision(), set[Path]()
    beside = {path.parent for path in slides}
    stems = {path.name.split(".")[0].lower() for path in slides}
    for folder, names in sorted(pictures.items()):
        why = _shows_slides(folder, names, beside, stems, top) if slides else None
        if why is None:
            tiles.add(folder)
        else:
            decision.notes.append(f"{_count(len(names), 'picture')} in {shown(folder)} not listed: {why}")
    listed = set[Path]()
    for parent in sorted({folder.parent for folder in tiles if folder != top}):
        siblings = {parent / name for name in children.get(parent, ())}
        own = siblings & tiles
        if grouping == Grouping.SLIDES or len(siblings) < 2 or own != siblings:
            listed |= own
            continue
        why = None if grouping == Grouping.CLASSES else _are_slides(sorted(own), pictures)
        if why is None:
            listed.add(parent)
            are, other = "one slide's classes", "--folders slides: each is a slide"
        else:
            listed |= own
            are, other = f"a slide each: {why}", "--folders classes: one slide's classes"
        decision.notes.append(f"{len(own)} folders in {shown(parent)} are {are} ({other})")
    listed |= {top} & tiles
    # A folder is listed with all that is below it.
    decision.folders = sorted(folder for folder in listed if not listed & set(folder.parents))
    return decision


def _shows_slides(folder: Path, names: Sequence[str], beside: set[Path], stems: set[str], top: Path) -> str | None:
    """Why its pictures are pictures of slides, or None."""
    if folder in beside:
        return "they lie beside slides"
    below_top = [part.lower() for part in folder.relative_to(top).parts]
    for part in below_top:
        if part in SHOW_SLIDES:
            return f"a folder {part!r} shows slides"
    named = sum(_named_after(name.lower(), stems) for name in names)
    if 2 * named > len(names):
        return "most are named after slides"
    return None


def _named_after(name: str, stems: set[str]) -> bool:
    """Whether a picture's name is a slide's, or begins with it and goes on with something else than its name."""
    stem = name.split(".")[0]
    while stem:
        if stem in stems:
            return True
        stem = stem[: max(stem.rfind(mark) for mark in "_- ")] if any(mark in stem for mark in "_- ") else ""
    return False


def _are_slides(folders: Sequence[Path], pictures: Mapping[Path, Sequence[str]]) -> str | None:
    """Why folders side by side are slides rather than classes, or None."""
    if len(folders) > MOST_CLASSES:
        return f"more than {MOST_CLASSES}"
    bearing = sum(all(name.lower().startswith(folder.name.lower()) for name in pictures[folder]) for folder in folders)
    return "their pictures bear their names" if 2 * bearing > len(folders) else None


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")
