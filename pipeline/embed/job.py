"""The whole job: slides in, one file a slide out, several threads that each read tiles and answer them.

Reading, the model and writing overlap because every worker does all three: it takes a portion of a slide, reads its
tiles, answers each batch on its own core, and whoever answers the last tile writes the file while the others go on with
the next slide. So no core waits for another however dear reading or the model is. On a GPU workers read, and their
batches are answered one at a time.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.base.errors import SlideRefused
from pipeline.base.files import tree_nbytes
from pipeline.base.progress import console
from pipeline.cluster.refusals import with_traceback
from pipeline.embed.asked import Asked, LeftOut
from pipeline.embed.claim import Claim, written
from pipeline.embed.crashes import MOST, Journal
from pipeline.embed.encoders.encoder import Encoder, Facts
from pipeline.embed.formats import FORMATS, Format, Place
from pipeline.embed.left_out import leave_out, take_back
from pipeline.embed.meter import Meter
from pipeline.embed.queue import Queue, State
from pipeline.embed.slide import Slide
from pipeline.embed.stamps import Settings, read_stamp, stamp
from pipeline.embed.worker import Worker
from pipeline.tiles.opencv import cv2


@dataclass
class Outcome:
    """What became of the slides; `tiles` are those answered in this run, `nbytes` what was written of them, `seconds`
    what it took from the command's start."""

    made: int = 0
    there: int = 0
    tiles: int = 0
    nbytes: int = 0
    seconds: float = field(default=0.0, compare=False)
    left_out: list[LeftOut] = field(default_factory=list)


class Job:
    """Slides to embed into the folder `out`, with an encoder that is loaded while the first slide is looked at."""

    def __init__(
        self, facts: Facts, settings: Settings, out: Path, load: Callable[[], Encoder], threads: int, journal: Journal
    ) -> None:
        self._facts, self._settings, self._out, self._load, self._threads = facts, settings, out, load, threads
        self._journal = journal
        self._format: Format = FORMATS[settings.form]
        self._outcome, self._lock, self._looking = Outcome(), threading.Lock(), threading.Lock()
        self._whose: dict[Path, str] = {}

    def run(self, asked: Sequence[Asked], left_out: Sequence[LeftOut], meter: Meter) -> Outcome:
        """Make what is not there yet; `left_out` is known from the start. Raises `EmbedError` where nothing can be
        written."""
        # Its own threads would be one a core for each of ours.
        cv2.setNumThreads(1)
        self._meter = meter
        for one in left_out:
            self.leave_out(one)
        with ThreadPoolExecutor(1) as loader, ThreadPoolExecutor(self._threads) as pool:
            encoder: Future[Encoder] = loader.submit(self._load)
            for part in self._parts(asked):
                self._make(part, pool, encoder)
        return self._outcome

    def _parts(self, asked: Sequence[Asked]) -> Iterator[list[Asked]]:
        """What may be open at a time: the slides, then each alone that was open when this run crashed before."""
        crashed = self._journal.crashed
        yield [one for one in asked if not crashed[one.name]]
        for one in asked:
            if crashed[one.name] >= MOST:
                self._refuse(one, self._crashed(one))
            elif crashed[one.name]:
                yield [one]

    def _crashed(self, asked: Asked) -> SlideRefused:
        """Why a slide is not opened again; what its processes have left goes."""
        claim = Claim.take(self._finals(asked))
        if claim is not None:
            claim.release()
        fix = "copy it again and look at it in another viewer; if that crashes too, leave it out"
        return SlideRefused("its decoder crashes, and takes the process with it: tried twice", fix=fix)

    def _make(self, asked: Sequence[Asked], pool: ThreadPoolExecutor, encoder: Future[Encoder]) -> None:
        queue = Queue(deque(asked), self._begin, self._refuse, self._there, self._threads)
        workers = [pool.submit(Worker(queue, encoder, self.answered, self.close).run) for _ in range(self._threads)]
        try:
            for worker in workers:
                worker.result()
        except BaseException:
            queue.stop()
            raise
        finally:
            for worker in workers:
                worker.exception()
            for slide in queue.left():
                slide.close()

    def leave_out(self, one: LeftOut) -> None:
        """Say and note that no file is written of it."""
        with self._lock:
            self._outcome.left_out.append(one)
        console.print(f"left out: {one.slide}: {one.reason}\n  -> {one.fix}", soft_wrap=True)
        leave_out(self._out, one)
        self._meter.over(one.slide)

    def close(self, slide: Slide) -> None:
        """Write what is complete, or leave it out."""
        tiles = nbytes = 0
        try:
            if slide.error is not None:
                raise slide.error
            features = slide.features()
            for partial in slide.claim.partials:
                partial.parent.mkdir(exist_ok=True)
            self._format.write(features, slide.claim.partials, slide.claim.finals)
            slide.claim.commit()
            tiles, nbytes = len(features), sum(tree_nbytes(final) for final in slide.claim.finals)
        except SlideRefused as error:
            self._refuse(slide.asked, error)
            return
        except OSError as error:
            raise written(error, slide.claim.finals[-1]) from error
        finally:
            slide.close()
            self._journal.close(slide.name, tiles)
        take_back(self._out, slide.name)
        for remark in slide.remarks:
            console.print(f"{slide.name}: {remark}", soft_wrap=True)
        with self._lock:
            self._outcome.made += 1
            self._outcome.tiles += tiles
            self._outcome.nbytes += nbytes
        self._meter.over(slide.name, made=True)

    def answered(self, slide: Slide, n: int) -> None:
        self._meter.answered(slide.name, n)

    def _begin(self, asked: Asked) -> Slide | State:
        """Open a slide whose file is not there yet. Raises `SlideRefused`."""
        finals = self._finals(asked)
        with self._lock:
            other = self._whose.setdefault(finals[-1], asked.name)
        if other != asked.name:
            what = f"its file would be that of {other}: {finals[-1]}"
            raise SlideRefused(what, where=asked.name, fix="rename one of them, or give another --format or --out")
        made_of = stamp(asked, self._facts, self._settings)
        if self._finished(finals, made_of["digest"]):
            return State.FINISHED
        claim = Claim.take(finals)
        if claim is None:
            return State.ELSEWHERE
        try:
            if self._finished(finals, made_of["digest"]):
                # Another process made it between the two looks.
                claim.release()
                return State.FINISHED
            self._journal.open(asked.name)
            with contextlib.ExitStack() as lease:
                lease.enter_context(asked.source.here())
                # A look takes up to 640 MB, once.
                with self._looking:
                    slide = Slide(asked, claim, made_of, self._settings, self._facts)
                slide.lease = lease.pop_all()
        except BaseException:
            claim.release()
            self._journal.close(asked.name)
            raise
        slide.share_out(self._threads)
        self._meter.opened(slide.name, slide.n)
        return slide

    def _finals(self, asked: Asked) -> tuple[Path, ...]:
        place = Place.of(asked, self._facts, self._settings)
        return tuple(self._out / path for path in self._format.paths(place))

    def _finished(self, finals: Sequence[Path], digest: object) -> bool:
        """Whether the files are there and of the same making. Raises `SlideRefused` where they are somebody else's."""
        if not finals[-1].exists():
            return False
        found = read_stamp(finals[-1])
        if found is None:
            fix = "move it away, or give another --out, or --as another name: what others made is not overwritten"
            raise SlideRefused(f"{finals[-1]} is there and was not written by `histill embed`", fix=fix)
        return found.get("digest") == digest and all(final.exists() for final in finals)

    def _refuse(self, asked: Asked, error: SlideRefused) -> None:
        self.leave_out(LeftOut.of(asked.name, with_traceback(self._out / "errors.txt", asked.name, error)))

    def _there(self, asked: Asked) -> None:
        tiles = self._journal.made.get(asked.name)
        with self._lock:
            self._outcome.there += tiles is None
            self._outcome.made += tiles is not None
            self._outcome.tiles += tiles or 0
        take_back(self._out, asked.name)
        self._meter.over(asked.name, made=tiles is not None)
