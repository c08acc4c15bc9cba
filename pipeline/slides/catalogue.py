"""The catalogue: what every slide of the table is, and which ones cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import HistillError, SlideRefused, TableError, some_lines
from pipeline.base.items import SlideFile, SlideItem, SlidesManifest, SlidesSummary
from pipeline.base.limits import usable_cores
from pipeline.base.manifest import Refusal
from pipeline.base.progress import console, track
from pipeline.base.store import Store
from pipeline.cluster.refusals import Tracebacks, about_slide
from pipeline.cluster.spread import each
from pipeline.demo.slides import demo_ref
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.slides.files import series_of
from pipeline.slides.identity import beside_identity, file_identity, folder_identity
from pipeline.slides.images import list_images
from pipeline.slides.looked import Memory
from pipeline.slides.of_tiles import require_no_slides
from pipeline.slides.read.reader import SlideReader
from pipeline.slides.sources import Source, locate
from pipeline.slides.split import near_train, require_train, resolve_splits
from pipeline.slides.table import Row, read_table

Marked = tuple[Source, tuple[str, ...] | None]
"""A slide, and its marks (looked.py)."""
LOOKING = 8
"""Files at a time of which it is asked whether they have changed."""
SAID = 20
"""Remarks on the table that are printed."""
FIXES = 3
"""Remedies that are printed where no slide can be used."""
FEW = 32
"""Up to so many slides, threads are done before worker processes would have started."""


@dataclass(frozen=True)
class _Task:
    row: Row
    table: Path
    store: Store
    params: SlidesParams


def catalogue(params: SlidesParams, store: Store, cluster: ClusterParams) -> SlidesManifest:
    """Open every slide of the table: one item each (id, key = identity, n = 1 or images), and the refusals.

    Raises `TableError` where the table cannot be read or no slide of it can be used, and with `on_error: fail`
    the first slide's `SlideRefused`.
    """
    table, traces = Path(params.table), Tracebacks("slides")
    read = read_table(table, params.missing)
    rows, refused = read.rows, read.refused
    for remark in some_lines(read.remarks, SAID, f"more remarks on {table}"):
        console.print(f"slides: {remark}", soft_wrap=True)
    if refused and params.on_error == "fail":
        raise SlideRefused(refused[0].reason, where=refused[0].id, fix=refused[0].fix)
    found: dict[str, SlideFile | SlideRefused] = {}
    memory, marks = Memory(store.root, table), dict[str, Marked]()
    # A worker of an outside scheduler has another working directory.
    tasks = [_Task(row, table.absolute(), store, params) for row in rows]
    with track("slides", len(tasks), "slides") as advance:
        # Each waits for the disk once or twice, on another machine's for a millisecond and more.
        with ThreadPoolExecutor(LOOKING, thread_name_prefix="known") as threads:
            for known in threads.map(lambda task: _known(task, memory, marks), tasks):
                if known is not None:
                    found[known.id] = known
                    advance(1, known.id)
        for task, result in _all([task for task in tasks if task.row.slide_id not in found], cluster):
            if isinstance(result, HistillError) and not isinstance(result, SlideRefused):
                raise result
            slide_id = task.row.slide_id
            found[slide_id] = traces.keep(slide_id, result) if isinstance(result, SlideRefused) else result
            if isinstance(result, SlideFile) and slide_id in marks:
                memory.keep(*marks[slide_id], result)
            advance(1, slide_id)
    memory.save()
    usable: list[tuple[Row, SlideFile]] = []
    first_id: dict[str, str] = {}
    parted = _parted(tasks, found)
    for row in rows:
        result = parted.get(row.slide_id, found[row.slide_id])
        if isinstance(result, SlideFile) and result.key in first_id:
            fix = "keep one of the two rows: they name copies of one file, or files of one series"
            result = SlideRefused(f"the same slide as {first_id[result.key]}", where=row.slide_id, fix=fix)
        if isinstance(result, SlideFile):
            first_id[result.key] = row.slide_id
            usable.append((row, result))
            continue
        if params.on_error == "fail":
            raise type(result)(result.what, where=row.slide_id, fix=result.fix)
        refused.append(Refusal.of(row.slide_id, result))
    if not usable:
        reasons = "; ".join(f"{refusal.id}: {refusal.reason}" for refusal in refused[:8])
        # Several slides may have one cause.
        fixes = "; ".join(list(dict.fromkeys(refusal.fix for refusal in refused if refusal.fix))[:FIXES])
        raise TableError(f"no slide can be used ({reasons})", where=str(table), fix=fixes)
    splits = resolve_splits([row for row, _ in usable], params.test_fraction)
    # With slides yet to be looked at the run fails anyway, and one of them may be of that split.
    if not any(refusal.passing for refusal in refused):
        require_train(splits.values(), str(table))
    items = [_with_table(file, row, splits[row.slide_id]) for row, file in usable]
    counts = Counter(splits.values())
    console.print("slides by split: " + ", ".join(f"{split} {n}" for split, n in sorted(counts.items())))
    for split in near_train(counts):
        console.print(f"slides: split {split!r} is held out; students learn from 'train' alone", soft_wrap=True)
    return SlidesManifest(
        items=tuple(items),
        refused=tuple(refused),
        uses=tuple(sorted({str(demo_ref(row.demo, params.demo_px)) for row in rows if row.demo})),
        summary=SlidesSummary(slides=len(items), nbytes=sum(item.nbytes for item in items)),
    )


def _parted(tasks: Sequence[_Task], found: Mapping[str, SlideFile | SlideRefused]) -> dict[str, SlideRefused]:
    """The refusals of slides that are parts of one DICOM series, its files in several folders: all but the finest.

    OpenSlide takes each folder's files for a slide of their own, which would be the same tissue twice.
    """
    of_series: dict[str, list[tuple[float, int, str, str]]] = {}
    for i, task in enumerate(tasks):
        slide = found[task.row.slide_id]
        if isinstance(slide, SlideFile) and slide.vendor == "dicom" and slide.mpp is not None:
            path = locate(task.row, task.table, task.store, task.params).path
            of_series.setdefault(series_of(path) or str(path), []).append((slide.mpp[0], i, slide.id, slide.key))
    refused = {}
    for parts in of_series.values():
        _, _, finest, own = min(parts)
        for _, _, slide_id, key in parts:
            if key != own:
                fix = "put all files of the series into one folder, and keep one row"
                refused[slide_id] = SlideRefused(f"of the same series as {finest}", where=slide_id, fix=fix)
    return refused


def _known(task: _Task, memory: Memory, marks: dict[str, Marked]) -> SlideFile | None:
    """The slide as it was looked at before, if nothing has changed; else its marks are noted, to be kept with it."""
    if task.row.demo is not None:
        return None
    try:
        source = locate(task.row, task.table, task.store, task.params)
    except (HistillError, OSError, ValueError):
        # Who looks at it says what is wrong.
        return None
    marked = memory.marks(source)
    marks[task.row.slide_id] = source, marked
    return memory.find(source, marked)


def _all(tasks: Sequence[_Task], cluster: ClusterParams) -> Iterator[tuple[_Task, SlideFile | HistillError]]:
    if len(tasks) > FEW:
        yield from each(_examine, tasks, cluster)
        return
    with ThreadPoolExecutor(threads_of_few()) as threads:
        yield from zip(tasks, threads.map(_guarded, tasks), strict=True)


def threads_of_few() -> int:
    """Threads that look at so few slides."""
    return min(4, usable_cores())


def _guarded(task: _Task) -> SlideFile | HistillError:
    try:
        return _examine(task)
    except Exception as error:
        return about_slide(error, task.row.slide_id)


def _examine(task: _Task) -> SlideFile:
    """Find and open one slide. Raises `SlideRefused`."""
    source = locate(task.row, task.table, task.store, task.params)
    return _folder(source) if source.kind == "folder" else _file(source)


def _file(source: Source) -> SlideFile:
    with source.here() as path, SlideReader(path, source.mpp) as slide:
        identity = file_identity(slide)
        levels = zip(slide.level_dimensions, slide.level_downsamples, strict=True)
        return SlideFile(
            id=source.slide_id,
            key=identity.key,
            digest=identity.digest,
            n=1,
            kind=source.kind,
            vendor=slide.vendor,
            width_px=slide.width_px,
            height_px=slide.height_px,
            mpp=slide.mpp_xy,
            mpp_from=slide.mpp_from,
            levels=tuple((width, height, downsample) for (width, height), downsample in levels),
            nbytes=identity.nbytes,
            **beside_identity(source.mask, source.coords, source.features),
        )


def _folder(source: Source) -> SlideFile:
    require_no_slides(source.path)
    identity, mpp = folder_identity(source.path), source.mpp
    return SlideFile(
        id=source.slide_id,
        key=identity.key,
        digest=identity.digest,
        n=len(list_images(source.path)),
        kind=source.kind,
        vendor="images",
        mpp=(mpp, mpp) if isinstance(mpp, float) else None,
        mpp_from="table" if isinstance(mpp, float) else None,
        nbytes=identity.nbytes,
    )


def _with_table(file: SlideFile, row: Row, split: str) -> SlideItem:
    """The slide with what the table says of it: label, patient, and the split as resolved."""
    return SlideItem(**file.model_dump(), label=row.label, split=split, patient=row.patient)
