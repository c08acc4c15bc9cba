"""One process and one device of a run of the tokens stage: the teacher once, then slides as they are given.

Slides come as lists, so that small ones share batches: a slide of 30 tiles does not cost a batch of 256.

Shapes: N tiles, B tiles a batch, S = side, V views.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.base.errors import BeingWritten, CorruptItem, TeacherError
from pipeline.base.items import TilesItem
from pipeline.base.limits import open_files_left
from pipeline.base.progress import Advance, track
from pipeline.cluster.refusals import about_slide
from pipeline.teachers.engines import build_engine, gate
from pipeline.teachers.engines.base import within_memory
from pipeline.teachers.statistics import measure
from pipeline.teachers.teacher import Teacher
from pipeline.tiles.item.reader import TileReader
from pipeline.tokens import calibration
from pipeline.tokens.item.encoding import Finish
from pipeline.tokens.job import Job, Outcome, Picked
from pipeline.tokens.run.batches import Batch, ahead, decode_threads, decoded, packed
from pipeline.tokens.run.collect import Collector, Progress
from pipeline.tokens.run.in_progress import SlideInProgress, SlidePlace
from pipeline.tokens.run.stream import Stream
from pipeline.views import apply_views, batch_fields, source_px

_OPEN_MAX = 1024
"""Slides whose answers are coming in at a time, where descriptors allow as many."""


@dataclass(frozen=True)
class _Tile:
    reader: TileReader
    row: int


class Worker:
    """A teacher on its engine, gated before anything it says is kept; `figures` are the gate's, for the metrics."""

    def __init__(self, job: Job, teacher: Teacher, device: torch.device, tiles: int | None = None) -> None:
        """An engine for so many `tiles`, in all views, where that is known.

        Raises `TeacherError` where the engine cannot be built, or answers otherwise than fp32 eager.
        """
        self.job, self.teacher, self.device = job, teacher, device
        if job.threads is not None:
            torch.set_num_threads(job.threads)
        params = job.params.model_copy(update={"precision": job.recipe["precision"]})
        # fp8 is calibrated on the gate's tiles; no other engine looks at tiles while it is built.
        golden_NHWC = self._golden().to(device) if params.precision == "fp8" else None
        self.engine = build_engine(teacher, params, device, job.store, golden_NHWC, tiles)
        self.figures: dict[str, float] = {}
        if gate.needed(self.engine):
            golden_NHWC, size = self._golden(), params.batch_size
            with within_memory(size, device):
                self.figures = gate.compare(self.engine, teacher, golden_NHWC, params.gate, size).figures()

    def calibrate(self, picked: Picked) -> None:
        """Measure the recipe's calibration on those tiles and freeze it, where the store has none.

        Raises `TeacherError` without any: it is never taken from held-out tiles.
        """
        if not picked:
            what = "no tile of the split 'train' to calibrate on"
            fix = "give slides the split 'train' in slides.csv, or run `dvc repro tokens` with those that have it"
            raise TeacherError(what, where=f"teacher {self.teacher.name}", fix=fix)
        with track("calibration", len(picked), "tiles") as advance:
            answers = self._patch_tokens(picked, advance)
            measured = measure(answers, f"teacher {self.teacher.name}")
        calibration.save(self.job.store, self.job.calibration, self.job.held_out.recipe, measured)

    def compute(self, items: Sequence[TilesItem], progress: Progress) -> Outcome:
        """Compute and commit the slides' tokens in one stream; slides that the store has are passed over.

        A slide whose tiles do not decode is refused, or with `on_error: fail` raises its `SlideRefused`. Raises
        `TeacherError` for answers that are no numbers, and `StoreFull`; finished chunks stay for the next run.
        """
        job, outcome, todo = self.job, Outcome(), deque(items)
        collector = Collector(outcome, progress, strict=job.params.on_error == "fail")
        frozen = job.frozen()
        missing = [item for item in items if not job.store.has(job.ref(item.key))]
        known = job.known(missing)

        def report(cached: int, slide_id: str) -> None:
            outcome.cached += cached
            progress(cached, slide_id, True)

        def places(opened: list[SlideInProgress], most: int) -> Iterator[SlidePlace]:
            while todo and len(opened) < most:
                item = todo.popleft()
                if job.store.has(job.ref(item.key)):
                    report(item.n, item.id)
                    continue
                if job.store.being_written(job.ref(item.key)):
                    outcome.elsewhere.add(item.key)
                    continue
                try:
                    reader = job.reader(item)
                    if len(reader) != item.n:
                        raise CorruptItem(f"its tiles are {len(reader)}, not {item.n}", where=str(reader.folder))
                except Exception as error:
                    collector.refuse(item, about_slide(error))
                    continue
                try:
                    slide = SlideInProgress(item, job, self.teacher, frozen, reader, known.get(item.key))
                except BeingWritten:
                    # By somebody who began at the same moment.
                    outcome.elsewhere.add(item.key)
                    continue
                except CorruptItem as error:
                    collector.refuse(item, error)
                    continue
                opened.append(slide)
                report(slide.n_cached, item.id)
                if slide.complete:
                    collector.commit(slide)
                elif slide.copies:
                    collector.copy(slide)
                yield from slide.places()

        size, side_px = job.params.batch_size, source_px(job.params, job.tile_px, self.teacher.input_px)
        finish = Finish(self.teacher, job.params.patch, frozen, self.device)
        stream: Stream[SlidePlace] = Stream(self.engine, self._views, finish, outcome.spent)
        pin, resample = self.device.type == "cuda", self.teacher.preparation.resample
        with ThreadPoolExecutor(decode_threads(self.device), thread_name_prefix="decode") as pool:
            # A slide holds a descriptor, its folder's lock, from its first tile to its commit. The stream is drained
            # where there would be too many, which slides of more than a handful of tiles never come to.
            while todo:
                opened: list[SlideInProgress] = []
                tiles = packed(places(opened, min(_OPEN_MAX, open_files_left())), size)
                batches = ahead(decoded(tiles, size, side_px, pool, pin=pin, resample=resample))
                try:
                    for batch, encoded in stream.answers(batches):
                        collector.put(batch, encoded)
                    collector.finish()
                except BaseException as error:
                    # The threads first: none may write to a folder that is let go.
                    batches.close()
                    collector.close()
                    read = [slide.abandon(error) for slide in opened]
                    raise next((found for found in read if found is not error), error) from None
        collector.close()
        return outcome

    def _views(self, batch: Batch[SlidePlace], image_BSSC: Tensor) -> Iterator[Tensor]:
        fields_BVP = batch_fields(self.job.params, [place.drawn_by for place in batch.places], len(image_BSSC))
        for view in range(self.job.params.n_views):
            yield apply_views(image_BSSC, fields_BVP[:, view], self.teacher.input_px)

    @torch.inference_mode()
    def _patch_tokens(self, picked: Picked, advance: Advance) -> Iterator[Tensor]:
        """Patch tokens of those tiles, by the same forward passes as are kept: of one shape, filled up with zeros."""
        size = self.job.params.batch_size
        for image_NSSC in self._tiles(picked):
            n = len(image_NSSC)
            with within_memory(size, self.device):
                image_BSSC = F.pad(image_NSSC, (0, 0) * 3 + (0, size - n)).to(self.device)
                patch_NTD = self.teacher.finish(self.engine(image_BSSC))[1][:n]
            advance(n)
            yield patch_NTD

    def _golden(self) -> Tensor:
        """The gate's tiles, (N, S, S, 3) uint8. Raises `TeacherError` where none decodes."""
        golden = list(self._tiles(self.job.golden))
        if not golden:
            where, fix = f"teacher {self.teacher.name}", "histill store verify"
            raise TeacherError("no tile for the engine's gate could be decoded", where=where, fix=fix)
        return torch.cat(golden)

    def _tiles(self, picked: Picked) -> Iterator[Tensor]:
        """The tiles as the teacher takes them, (N <= B, S, S, 3) uint8; those that do not decode left out."""
        readers, size = dict[str, TileReader](), self.job.params.batch_size
        for item in {item.key: item for item, _ in picked}.values():
            # `compute` says what is wrong with those that cannot be read.
            with contextlib.suppress(Exception):
                readers[item.key] = self.job.reader(item)
        places = [_Tile(readers[item.key], row) for item, row in picked if item.key in readers]
        with ThreadPoolExecutor(decode_threads(self.device), thread_name_prefix="decode") as pool:
            resample = self.teacher.preparation.resample
            for batch in decoded(packed(places, size), size, self.teacher.input_px, pool, resample=resample):
                good = [i for i in range(len(batch.places)) if i not in batch.errors]
                if good:
                    yield batch.image_BSSC[good]
