"""A slide table for a folder: every file that OpenSlide recognises and every folder of images below it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.base.errors import HistillError, SlideRefused, SlideUnavailable, TableError
from pipeline.base.names import is_utf8, printable
from pipeline.cluster.refusals import READABLE, Tracebacks, about_slide
from pipeline.remote.address import is_url, url_of
from pipeline.slides.far_folder import SLIDE_SUFFIXES, look_below
from pipeline.slides.files import files_of, series_of
from pipeline.slides.ids import unique_ids
from pipeline.slides.images import IMAGE_SUFFIXES, LINK_FIX, UNREAD_SUFFIXES, counted
from pipeline.slides.picture_folders import Grouping, decide
from pipeline.slides.read.given import require_content
from pipeline.slides.read.reader import detect_vendor
from pipeline.slides.read.tiff import is_tile
from pipeline.slides.table import Row, format_table
from pipeline.slides.walk import Walked, shown, shown_as_it_is, walk

_TIFF = frozenset({".tif", ".tiff"})
FOREIGN_SUFFIXES = frozenset(
    {
        ".vsi",
        ".isyntax",
        ".i2syntax",
        ".ndpis",
        ".qptiff",
        ".lif",
        ".zvi",
        ".kfb",
        ".sdpc",
        ".tmap",
        ".mds",
        ".btf",
        ".tf8",
    }
)
"""Slides of scanners that OpenSlide does not read, or not always: they are named, so that nobody misses them."""
FEW = 3
"""Files that a comment names."""


@dataclass
class _Tree:
    """What lies below a folder."""

    slides: list[Path] = field(default_factory=list)
    unknown: list[Path] = field(default_factory=list)
    small: list[Path] = field(default_factory=list)
    """Of the pictures those that OpenSlide would open."""
    pictures: dict[Path, list[str]] = field(default_factory=dict)
    children: dict[Path, list[str]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    refused: list[tuple[Path, HistillError]] = field(default_factory=list)
    """Slides that cannot be looked at, each with the error of it."""
    walked: Walked = field(default_factory=Walked)


def scan(folder: Path, grouping: Grouping = Grouping.AUTO) -> str:
    """CSV text that `read_table` reads, one row a slide; paths are relative to the working directory where below it.

    `folder` may be a URL: see `far_folder`. Of a folder here:

    Slides come first, each once whatever number of files it has, then folders of tiles (see `picture_folders`). What
    was decided, and what could not be read, follows as comments; whatever a slide makes a library raise, its traceback
    is in a file, and the slide is left out. Raises `TableError` where there is nothing at all.
    """
    if is_url(str(folder)):
        return _far(url_of(folder))
    if not is_utf8(shown_as_it_is(folder)):
        raise TableError("its path is not UTF-8, and no table could hold it", where=printable(folder), fix="rename it")
    if not folder.is_dir():
        raise TableError("not a folder", where=str(folder), fix="histill scan DIR > slides.csv")
    tree = _look(folder)
    decision = decide(tree.pictures, tree.children, tree.slides, folder, grouping)
    found = sorted([*tree.slides, *decision.folders])
    refused, traces = list[str](), Tracebacks("scan")
    for path, error in tree.refused:
        told = traces.keep(printable(path), error) if isinstance(error, SlideRefused) else error
        refused.append(f"left out: {shown(path)!r} ({told.what}; {told.fix})")
    if not found and not tree.unknown and not refused:
        fix = "give the folder that holds the slides, or one above it"
        said = f" ({reason})" if (reason := "; ".join(f"{p}: {why}" for p, why in tree.walked.left_out[:3])) else ""
        raise TableError(f"nothing here that OpenSlide recognises{said}", where=str(folder), fix=fix)
    paths = [shown(path) for path in found]
    ids, numbered = unique_ids(paths)
    text = format_table(Row(0, path, slide_id) for path, slide_id in zip(paths, ids, strict=True))
    return text + _comments([*_said(tree), *refused, *decision.notes, *numbered])


def _far(url: str) -> str:
    """The table of a bucket's slides."""
    found = look_below(url)
    if not found.slides and not found.several_files:
        fix = "give the prefix that the slides are below: s3://bucket/prefix"
        raise TableError("nothing here that is called like a slide", where=found.url, fix=fix)
    ids, numbered = unique_ids([slide.removeprefix(f"{found.url}/") for slide in found.slides])
    text = format_table(Row(0, slide, slide_id) for slide, slide_id in zip(found.slides, ids, strict=True))
    return text + _comments([*found.said(), *numbered])


def slides_below(folder: Path) -> tuple[list[Path], list[tuple[Path, HistillError]]]:
    """The slides below a folder, each once, and what may be one and is left out: not read, not here, or too small.

    Names are such as any console and table takes.
    """
    tree = _look(folder)
    left_out = [*((path, _why_unknown(path)) for path in tree.unknown), *tree.refused]
    for path in tree.small:
        fix = "name it in a slide table, with its mpp, if it is a slide"
        left_out.append((path, SlideRefused("taken for a tile: one small page, without a scale", fix=fix)))
    for name, reason in tree.walked.left_out:
        left_out.append((Path(name), SlideUnavailable(reason, fix="mend it, or take it out of the folder")))
    return sorted(tree.slides), sorted(
        ((Path(printable(path)), why) for path, why in left_out), key=lambda pair: pair[0]
    )


def _why_unknown(path: Path) -> SlideRefused:
    """Why what is called like a slide is none: its format, or that it cannot be opened."""
    try:
        require_content(path)
    except SlideUnavailable as note:
        return note
    except FileNotFoundError:
        return SlideUnavailable("a link to what is not here", fix=LINK_FIX)
    except OSError as error:
        return SlideUnavailable(str(error.strerror).lower(), fix=READABLE)
    return SlideRefused("not recognised by OpenSlide", fix="is the copy complete? is the format one OpenSlide reads?")


def _look(folder: Path) -> _Tree:
    """Sort all files below a folder."""
    tree = _Tree()
    for parent, folders, names in walk(folder, tree.walked):
        tree.children[parent] = folders
        here = _Folder(tree)
        for name in names:
            try:
                here.sort(parent / name)
            except Exception as error:
                tree.refused.append((parent / name, about_slide(error)))
        tree.slides += here.whole()
    return tree


class _Folder:
    """The slides of one folder, as its files are looked at one after another."""

    def __init__(self, tree: _Tree) -> None:
        self._tree = tree
        self._slides, self._dicom, self._inside = list[Path](), dict[str, Path](), set[Path]()

    def sort(self, path: Path) -> None:
        """What a file is. Raises whatever the libraries that look into it do."""
        tree, suffix = self._tree, path.suffix.lower()
        vendor = None if suffix in IMAGE_SUFFIXES - SLIDE_SUFFIXES else detect_vendor(path)
        if vendor == "dicom":
            # Any file of a series opens it: the first stands for all.
            self._dicom.setdefault(series_of(path) or path.name, path)
        elif suffix in _TIFF and is_tile(path, vendor):
            if vendor is not None:
                tree.small.append(path)
            tree.pictures.setdefault(path.parent, []).append(path.name)
        elif vendor is not None:
            self._inside.update(set(files_of(path)) - {path})
            self._slides.append(path)
        elif suffix in IMAGE_SUFFIXES - SLIDE_SUFFIXES:
            tree.pictures.setdefault(path.parent, []).append(path.name)
        elif suffix in UNREAD_SUFFIXES:
            tree.unread.append(suffix)
        elif suffix in SLIDE_SUFFIXES | FOREIGN_SUFFIXES:
            tree.unknown.append(path)

    def whole(self) -> list[Path]:
        """Each slide by one of its files."""
        return [path for path in [*self._slides, *self._dicom.values()] if path not in self._inside]


def _comments(lines: Iterable[str]) -> str:
    """A comment each: a name may hold an end of line, and what follows it is no row."""
    return "".join(f"# {' '.join(line.splitlines())}\n" for line in lines)


def _said(tree: _Tree) -> Iterable[str]:
    for path in tree.unknown:
        why = _why_unknown(path)
        away = isinstance(why, SlideUnavailable)
        yield f"left out: {shown(path)!r} ({why.what}: {why.fix})" if away else f"{why.what}: {shown(path)!r}"
    if tree.small:
        few = ", ".join(repr(shown(path)) for path in tree.small[:FEW]) + (", …" if len(tree.small) > FEW else "")
        yield f"taken for tiles, small TIFFs of one page without a scale: {few}; give a slide a row and its mpp"
    if tree.unread:
        yield f"pictures in formats that are not read: {counted(tree.unread)}; convert them to PNG or JPEG"
    for name, reason in tree.walked.left_out:
        yield f"left out: {name!r} ({reason})"
