"""Where each slide's pixels are on this machine. The manifest knows no paths, so that it is the same for everyone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.base.errors import SlideRefused, SlideUnavailable
from pipeline.base.files import dvc_root
from pipeline.base.names import at_home, found_at
from pipeline.base.store import Store
from pipeline.cluster.refusals import unread
from pipeline.demo.slides import LABELS_FILE, SLIDE_FILE, ensure_demo_slide
from pipeline.params.slides import SlidesParams
from pipeline.remote.address import is_url
from pipeline.slides.far import FarSlide
from pipeline.slides.images import LINK_FIX
from pipeline.slides.table import Mpp, Row, read_table


@dataclass(frozen=True)
class Source:
    """One slide: a slide file, here or in a bucket, a folder of images, or a synthetic slide in the store.

    `mpp` is the table's, or how to do without (see table.Mpp); `label_map` a PNG of class indices at level 0 (see
    demo.CLASSES); `mask`, `coords` and `features` are the slide's own tissue mask, its tiling and the
    answers to that, where the table names them.
    """

    slide_id: str
    kind: Literal["file", "folder", "demo"]
    path: Path
    mpp: Mpp = None
    label_map: Path | None = None
    mask: Path | None = None
    coords: Path | None = None
    features: Path | None = None
    far: FarSlide | None = None
    """Where the slide lies, if that is a bucket: `path` is then where it is while it is read (`here`)."""

    @property
    def where(self) -> str:
        """Where the slide lies, for people and other programs: its URL, or its file's whole path."""
        return str(self.path.absolute()) if self.far is None else self.far.url

    @contextmanager
    def here(self) -> Iterator[Path]:
        """The slide's `path`, fetched for the time of the block where it lies in a bucket. Raises `SlideRefused`."""
        if self.far is None:
            yield self.path
        else:
            with self.far.leased() as path:
                yield path


def sources(table: Path, store: Store, params: SlidesParams) -> dict[str, Source]:
    """The source of every row whose file is here, by slide id, in the table's order; demo slides are made if absent.

    Raises `TableError` where the table as a whole cannot be read.
    """
    found = {}
    for row in read_table(table).rows:
        try:
            found[row.slide_id] = locate(row, table, store, params)
        except (SlideRefused, OSError, ValueError):
            continue  # `catalogue` has listed it as refused
    return found


def locate(row: Row, table: Path, store: Store, params: SlidesParams) -> Source:
    """Find one row's pixels, its mask and its coordinates. Raises `SlideRefused` where they are not here."""
    mask, coords, features = (_file(name, row, table) for name in (row.mask, row.coords, row.features))
    if row.path.startswith("demo:"):
        if row.demo is None:
            raise SlideRefused(f"no such demo slide: {row.path}", where=row.slide_id, fix="demo:1, demo:2, …")
        folder = ensure_demo_slide(row.demo, params.demo_px, store)
        return Source(row.slide_id, "demo", folder / SLIDE_FILE, row.mpp, folder / LABELS_FILE, mask, coords, features)
    if is_url(row.path):
        far = FarSlide.at(row.path, store.root, int(params.fetch_gb * 1e9))
        return Source(row.slide_id, "file", far.file, _mpp(row, params), None, mask, coords, features, far)
    path = _beside(row.path, row, table)
    if not path.is_dir() and not path.is_file():
        fix = "give the slide's file, or a folder of tiles"
        raise SlideRefused("a pipe, socket or device is no slide", where=row.slide_id, fix=fix)
    if path.is_file():
        return Source(row.slide_id, "file", path, _mpp(row, params), None, mask, coords, features)
    if mask or coords or features:
        what = "a folder of images takes no mask, no coords and no features"
        raise SlideRefused(what, where=row.slide_id, fix="its images are its tiles; leave those cells empty")
    return Source(row.slide_id, "folder", path, row.mpp)


def _mpp(row: Row, params: SlidesParams) -> Mpp:
    return "objective" if row.mpp is None and params.mpp_from_objective else row.mpp


def _file(name: str | None, row: Row, table: Path) -> Path | None:
    """A file beside the slide. Raises `SlideRefused` where it is not here, or a folder."""
    if name is None:
        return None
    path = _beside(name, row, table)
    if not path.is_file():
        fix = f"line {row.line} of {table.name} is to name the file of this one slide"
        raise SlideRefused(f"{name} is {'a folder' if path.is_dir() else 'no file'}", where=row.slide_id, fix=fix)
    return path


def _beside(name: str, row: Row, table: Path) -> Path:
    """The file or folder that a row names, relative to the table. Raises `SlideRefused` where it is not here."""
    if is_url(name):
        what = "masks, coordinates and features are files here; only the slide itself may be named by URL"
        raise SlideRefused(what, where=row.slide_id, fix="copy it here, and give its path")
    for base in _bases(table):
        try:
            path = found_at(base, name)
            if path.exists():
                return path
        except OSError as error:
            raise unread(error, name, row.slide_id) from None
    what = "file not found" if name == row.path else f"file not found: {name}"
    fix = f"is its disk mounted? line {row.line} of {table.name} says {name}, relative to the table's folder"
    if any((base / name.replace("\\", "/")).exists() for base in _bases(table)):
        fix = f"write / for \\ in line {row.line} of {table.name}"
    if any((base / at_home(name)).is_symlink() for base in _bases(table)):
        what, fix = f"{name} is a link to what is not here", LINK_FIX
    raise SlideUnavailable(what, where=row.slide_id, fix=fix)


def _bases(table: Path) -> Iterator[Path]:
    """The table's folder; in a temporary DVC experiment then that folder's place in the project it was made from.

    DVC copies only what git or DVC track into the experiment's folder, so slides beside the table stay behind.
    """
    here = table.absolute().parent
    yield here
    nearest = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)
    root = dvc_root(here)
    if root != nearest:
        yield root / here.relative_to(nearest)
