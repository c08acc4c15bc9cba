"""Which slides are asked for: files, folders of them, or slide tables; and what each is called in the output.

A table's slide has the table's own id where it gives one. Any other is called as the tools call it, by its file's stem
(of which `.ome.tif` is one suffix, as in TRIDENT); where two would share a name, by the folders above it too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from pipeline.base.errors import EmbedError, HistillError, SlideRefused
from pipeline.base.names import found_at
from pipeline.base.store import Store
from pipeline.params.slides import SlidesParams
from pipeline.remote.address import is_url, url_of
from pipeline.slides.far import FarSlide
from pipeline.slides.far_folder import SLIDE_SUFFIXES, look_below
from pipeline.slides.files import files_of
from pipeline.slides.ids import stem_of
from pipeline.slides.scan import slides_below
from pipeline.slides.sources import Source, locate
from pipeline.slides.table import Mpp, Row, read_table
from pipeline.tiles.coords.importing import with_coords

TABLE_SUFFIXES = (".csv", ".tsv")
_TARGET = "tiles.target_mpp"


@dataclass(frozen=True)
class Asked:
    """One slide: what it is called in the output, where its pixels are, and its path below the folder that was given
    (STAMP's files lie as the slides do)."""

    source: Source
    below: PurePath

    @property
    def name(self) -> str:
        return self.source.slide_id

    @property
    def nbytes(self) -> int:
        """Of all its files. Raises `SlideRefused` where one of them is not there."""
        if self.source.far is not None:
            return self.source.far.nbytes
        try:
            return sum(file.stat().st_size for file in files_of(self.source.path))
        except OSError as error:
            fix = "check the path; is the disk it lies on mounted?"
            raise SlideRefused(f"it cannot be read: {error.strerror}", where=self.name, fix=fix) from None


@dataclass(frozen=True)
class LeftOut:
    """What no file is written of: the slide's name, or its path, why, and what to do."""

    slide: str
    reason: str
    fix: str

    @classmethod
    def of(cls, slide: str, error: HistillError) -> LeftOut:
        """Of an error of the rooms that know a project's parameters by name, and no command line."""
        where = "; tiles.… is of params.yaml: make one in the folder that you run in, if it has none"
        named = _TARGET in error.fix or "tiles." in error.fix
        return cls(slide, error.what, error.fix.replace(_TARGET, f"{_TARGET} (--target-mpp)") + where * named)


def find_slides(
    paths: Sequence[Path], params: SlidesParams, scratch: Path, coords: Path | None = None
) -> tuple[list[Asked], list[LeftOut]]:
    """The slides of all paths, in order, and the rows of tables that cannot be used.

    Paths, and those of tables, may be URLs of slides or of what is above them: such a slide is fetched below `scratch`
    for as long as it is read. `coords` is a job folder of TRIDENT or CLAM: slides that it has no tiling of are left
    out. Raises `EmbedError` for a path that is none of what can be given, `TableError` for a table that cannot be read.
    """
    rows: list[tuple[Row, Path, PurePath]] = []
    left_out: list[LeftOut] = []
    for path in paths:
        if path.suffix.lower() in TABLE_SUFFIXES and path.is_file():
            table = read_table(path, params.missing)
            # What a table's slide is called, its id says, and no path.
            rows += [
                (row, path.absolute().parent, PurePath(row.slide_id + Path(row.path).suffix)) for row in table.rows
            ]
            left_out += [LeftOut(refusal.id, refusal.reason, refusal.fix) for refusal in table.refused]
        elif path.is_dir():
            slides, unknown = slides_below(path)
            if not slides and not unknown:
                fix = "give the folder that holds the slides; of images: histill embed FOLDER --out FILE.h5"
                raise EmbedError("nothing here that OpenSlide recognises", where=str(path), fix=fix)
            rows += [(Row(0, str(slide), ""), Path.cwd(), slide.relative_to(path)) for slide in slides]
            left_out += [LeftOut.of(str(file), error) for file, error in unknown]
        elif path.exists():
            rows.append((Row(0, str(path), ""), Path.cwd(), PurePath(path.name)))
        elif is_url(str(path)):
            rows += _far(url_of(path))
        else:
            fix = "give slides, folders of slides, or a slide table (slides.csv)"
            raise EmbedError("neither a file nor a folder", where=str(path), fix=fix)
    named = _named(rows)
    if coords is not None:
        named, without = _with_coords(named, coords)
        left_out += without
    found: list[Asked] = []
    for row, base, below in named:
        try:
            found.append(Asked(_source(row, base, params, scratch), below))
        except SlideRefused as error:
            left_out.append(LeftOut.of(row.slide_id, error))
    return found, left_out


def _far(url: str) -> list[tuple[Row, Path, PurePath]]:
    """The slide at a URL, or those below it. Raises `EmbedError` where there is none, and `TableError`."""
    if PurePath(url).suffix.lower() in SLIDE_SUFFIXES:
        return [(Row(0, url, ""), Path.cwd(), PurePath(PurePath(url).name))]
    found = look_below(url)
    if not found.slides:
        fix = "give the URL of a slide, or of what is above slides; slides of several files have to be copied here"
        raise EmbedError("nothing here that is called like a slide of one file", where=found.url, fix=fix)
    return [(Row(0, one, ""), Path.cwd(), PurePath(one.removeprefix(f"{found.url}/"))) for one in found.slides]


def _named(rows: Sequence[tuple[Row, Path, PurePath]]) -> list[tuple[Row, Path, PurePath]]:
    """The rows, each with an id of its own."""
    names = [row.slide_id or stem_of(row.path) for row, _, _ in rows]
    shared = {name for name, n in Counter(names).items() if n > 1}
    used: set[str] = set()
    named = []
    for name, (row, base, below) in zip(names, rows, strict=True):
        if name in shared:
            name = "_".join([*below.parts[:-1], name]) if len(below.parts) > 1 else name
        first, n = name, 1
        while name in used:
            n += 1
            name = f"{first}-{n}"
        used.add(name)
        named.append((replace(row, slide_id=name), base, below))
    return named


def _with_coords(
    named: Sequence[tuple[Row, Path, PurePath]], coords: Path
) -> tuple[list[tuple[Row, Path, PurePath]], list[LeftOut]]:
    """The slides that the job has a tiling of, with it."""
    root = Path("/")
    filled, _ = with_coords([replace(row, coords=None) for row, _, _ in named], coords.absolute(), root)
    fix = "tile it there too, or leave out --coords: its own grid is then laid"
    kept, left_out = [], []
    for row, (_, base, below) in zip(filled, named, strict=True):
        if row.coords is None:
            left_out.append(LeftOut(row.slide_id, f"no coordinates for it under {coords}", fix))
        else:
            kept.append((replace(row, coords=str(root / row.coords)), base, below))
    return kept, left_out


def _source(row: Row, base: Path, params: SlidesParams, scratch: Path) -> Source:
    """Where the slide is. Raises `SlideRefused` where it or what the table names beside it is not."""
    if row.demo is not None:
        made = locate(row, base / "slides.csv", Store.find(None), params)
        return replace(made, kind="file", label_map=None)
    far = FarSlide.at(row.path, scratch, int(params.fetch_gb * 1e9)) if is_url(row.path) else None
    path = found_at(base, row.path) if far is None else far.file
    beside = {name: found_at(base, given) for name, given in _beside(row)}
    for file in (*(() if far else (path,)), *beside.values()):
        if not file.exists():
            raise SlideRefused(f"file not found: {file}", where=row.slide_id, fix="check the path")
    if far is None and path.is_dir():
        what, fix = "a folder of images has no coordinates", "histill embed FOLDER --out FILE.h5 embeds its images"
        raise SlideRefused(what, where=row.slide_id, fix=fix)
    mpp: Mpp = "objective" if row.mpp is None and params.mpp_from_objective else row.mpp
    return Source(row.slide_id, "file", path, mpp, None, beside.get("mask"), beside.get("coords"), None, far)


def _beside(row: Row) -> Iterable[tuple[str, str]]:
    return [(name, given) for name, given in (("mask", row.mask), ("coords", row.coords)) if given]
