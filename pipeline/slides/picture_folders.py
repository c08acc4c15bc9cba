"""Which folders of pictures in a tree are slides of their own, and which only show slides that are there.

A cohort's folders hold thumbnails, label photographs, masks and the like beside its slides; a folder of tiles is a
slide whose tiles somebody has cut. Nothing in a folder says which it is, so rules decide, and say what they decided.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from PIL import Image

from pipeline.slides.walk import a_few, shown

MOST_CLASSES = 40
"""More folders of pictures side by side than this are slides, not classes of one."""
SHOW_SLIDES = frozenset(
    [
        *("thumbnail", "thumb", "preview", "overview", "macro", "snapshot", "screenshot", "photo", "photograph"),
        *("label", "barcode", "associated", "gross", "lowres", "mask", "contour", "stitch", "heatmap", "qc"),
        *("visualization", "visualisation", "vis", "annotation", "overlay", "roi", "report"),
    ]
)
"""Words, in the singular, in names of folders that tools, scanners and people keep pictures of slides in."""
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
MOST_TILE_PX = 1024
"""Side of a tile that is not square; of photographs and screenshots it is larger."""
_DIGITS = 3
"""In the name of a folder from which on it is a slide's or patient's number."""


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

    Pictures of slides are those in a folder of a name that tools give (`SHOW_SLIDES`); where there are slides, also
    those beside or above one, those of which most are named after slides, and those that are not of one size, as tiles
    are. The other folders are tiles. Where all folders of a folder are, they are its classes, unless there are more
    than `MOST_CLASSES`, or their names or their pictures' are those of slides: then each is a slide.
    """
    decision, tiles, aside = Decision(), set[Path](), dict[Path, str]()
    beside = {path.parent for path in slides}
    above = {parent for folder in beside for parent in folder.parents}
    stems = {path.name.split(".")[0].lower() for path in slides}
    for folder, names in sorted(pictures.items()):
        why = _among_slides(folder, beside, above) or _in_a_folder_that_shows(folder, top)
        if why is None and slides:
            why = _show_slides(folder, names, stems)
        if why is None:
            tiles.add(folder)
        else:
            aside[folder] = why
    if not slides and not tiles:
        # There is nothing that they could show.
        tiles, aside = set(aside), {}
    decision.notes += [f"{_count(len(pictures[f]), 'picture')} in {shown(f)} not listed: {aside[f]}" for f in aside]
    listed = set[Path]()
    with_tiles = tiles | {parent for folder in tiles for parent in folder.parents}
    for parent in sorted({folder.parent for folder in tiles if folder != top}):
        siblings = {parent / name for name in children.get(parent, ())}
        own, others = siblings & tiles, siblings & (with_tiles | set(aside)) - tiles
        if parent in beside | above and grouping == Grouping.CLASSES:
            decision.notes.append(f"slides lie in {shown(parent)}: its folders are no classes, whatever --folders says")
        if grouping == Grouping.SLIDES or len(own | others) < 2 or parent in beside | above:
            listed |= own
            continue
        why = None if grouping == Grouping.CLASSES else _are_slides(sorted(own), sorted(others), pictures)
        if why is None:
            listed.add(parent)
            are, other = "one slide's classes", "--folders slides: each is a slide"
        else:
            listed |= own
            are, other = f"a slide each: {why}", "--folders classes: one slide's classes"
        decision.notes.append(f"{_count(len(own), 'folder')} in {shown(parent)} are {are} ({other})")
    listed |= {top} & tiles
    # A folder is listed with all that is below it.
    decision.folders = sorted(folder for folder in listed if not listed & set(folder.parents))
    for folder in aside:
        within = next((parent for parent in folder.parents if parent in decision.folders), None)
        if within is not None:
            decision.notes.append(f"{shown(within)} is listed with {shown(folder)}, its class: move that away if not")
    return decision


def _among_slides(folder: Path, beside: set[Path], above: set[Path]) -> str | None:
    if folder in beside:
        return "they lie beside slides"
    return "slides lie in folders of theirs" if folder in above else None


def _in_a_folder_that_shows(folder: Path, top: Path) -> str | None:
    """Why its name, or that of a folder it lies in, says that its pictures are of slides; or None."""
    for part in folder.relative_to(top).parts:
        words = [word.lower() for word in _WORDS.findall(part)]
        if any({word, word.removesuffix("s"), word.removesuffix("es")} & SHOW_SLIDES for word in words):
            return f"a folder {part.lower()!r} shows slides"
    return None


def _show_slides(folder: Path, names: Sequence[str], stems: set[str]) -> str | None:
    """Why pictures are of the slides that there are, or None."""
    named = sum(_named_after(name.lower(), stems) for name in names)
    if 2 * named > len(names):
        return "most are named after slides"
    sizes = Counter(size for name in a_few(names) if (size := _size(folder / name)) is not None)
    if not sizes:
        return None
    (width, height), n = sizes.most_common(1)[0]
    if 2 * n <= sizes.total() and sizes.total() > 1:
        return "they are of many sizes, and tiles of one"
    return "they are too large for tiles" if width != height and max(width, height) > MOST_TILE_PX else None


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture; None for what is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                return image.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None


def _named_after(name: str, stems: set[str]) -> bool:
    """Whether a picture's name is a slide's, or begins with it and goes on with something else than its name."""
    stem = name.split(".")[0]
    while stem:
        if stem in stems:
            return True
        stem = stem[: max(stem.rfind(mark) for mark in "_- ")] if any(mark in stem for mark in "_- ") else ""
    return False


def _are_slides(own: Sequence[Path], others: Sequence[Path], pictures: Mapping[Path, Sequence[str]]) -> str | None:
    """Why folders of tiles are slides rather than classes, or None; `others` beside them hold other pictures."""
    if others:
        return f"{shown(others[0])} beside them is no folder of tiles"
    if len(own) > MOST_CLASSES:
        return f"more than {MOST_CLASSES}"
    numbered = sum(sum(map(str.isdigit, folder.name)) >= _DIGITS for folder in own)
    if 2 * numbered > len(own):
        return "their names are numbers, as slides' are"
    bearing = sum(all(_bears(name, folder.name) for name in pictures[folder]) for folder in own)
    return "their pictures bear their names" if 2 * bearing > len(own) else None


def _bears(picture: str, folder: str) -> bool:
    """Whether a picture's name is a slide's and a place on it: `ADI-AAAFLCLY` in `ADI` is a class's."""
    name = picture.lower()
    if not name.startswith(folder.lower()):
        return False
    return any(map(str.isdigit, folder)) or len(re.findall(r"\d+", name[len(folder) :])) >= 2


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")
