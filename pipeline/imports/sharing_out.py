"""All slides' features kept: by threads of this process, or by worker processes where there is much to do.

What is read, converted and summed lets go of the interpreter's lock, and each slide waits for the disk a dozen times,
so threads share a disk well. The rest of a slide, some 10 ms whatever its size, holds the lock: of many slides of few
tiles it is all there is, and only processes take two at a time. Starting one costs some 5 s of a core, so there are as
many as have `ENOUGH_S` of work each.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import torch

from pipeline.base.errors import HistillError, SlideRefused, WorkerLost
from pipeline.base.items import TilesItem
from pipeline.base.limits import usable_cores
from pipeline.base.progress import Advance
from pipeline.base.store import Store
from pipeline.cluster.refusals import Tracebacks, about_slide
from pipeline.cluster.spread import each
from pipeline.imports.keeping import Given, Taking, keep
from pipeline.imports.room import Room
from pipeline.params.site import ClusterParams

THREADS = max(4, usable_cores())
"""Slides at a time in this process: each waits for the disk a dozen times, and the disk takes several at once."""
THREADS_EACH = 3
"""Of a worker process: while one works, others wait for the disk."""
SLIDE_S, GB_S = 0.015, 3.0
"""CPU seconds that a slide takes, and a GB (10^9 bytes) of its features, of a core of 2021 (docs/benchmarks.md)."""
ENOUGH_S = 60.0
_LIST_S = 5.0
"""Work that is handed out at a time: what a bar waits for."""
_LISTS_EACH = 4

Kept: TypeAlias = tuple[TilesItem, HistillError | None]
Keeping: TypeAlias = Generator[Kept, None, None]


def processes_for(todo: Sequence[Given], cluster: ClusterParams) -> int:
    """Worker processes that are worth their start, 1 where this one does it: at most `cluster.workers`, or a core each.

    They are of this machine, whatever other cluster there is: the files may lie where it alone sees them.
    """
    most = (cluster.workers if cluster.is_here else None) or usable_cores()
    return max(1, min(most, int(sum(map(_seconds, todo)) / ENOUGH_S)))


def keep_all(
    todo: Sequence[Given], taking: Taking, store: Store, processes: int, advance: Advance
) -> dict[str, SlideRefused]:
    """Keep them; gives those that were refused, by id. What is no slide's own fault is raised, and ends it."""
    refused, traces = dict[str, SlideRefused](), Tracebacks("tokens")
    if processes > 1:
        kept = _by_processes(_lists(todo, processes), taking, store, processes)
    else:
        kept = _by_threads(todo, taking, store, THREADS)
    with contextlib.closing(kept):
        for item, error in kept:
            if isinstance(error, SlideRefused):
                refused[item.id] = traces.keep(item.id, error)
            elif error is not None:
                raise error
            advance(item.n, item.id)
    return refused


def _by_threads(todo: Sequence[Given], taking: Taking, store: Store, threads: int) -> Keeping:
    """In their order; whoever closes it early leaves those that were not begun."""
    work = functools.partial(_guarded, taking=taking, store=store, room=Room())
    # Of rows that fit into a core's cache torch's own threads would take a tenth more CPU, waiting for one another.
    before, alone = torch.get_num_threads(), (torch.set_num_threads, (1,))
    pool = ThreadPoolExecutor(threads, "features", *alone)
    try:
        yield from pool.map(work, todo)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _guarded(given: Given, taking: Taking, store: Store, room: Room) -> Kept:
    try:
        keep(given, taking, store, room)
    except Exception as error:
        return given.item, about_slide(error, given.item.id)
    return given.item, None


def _by_processes(lists: Sequence[tuple[Given, ...]], taking: Taking, store: Store, processes: int) -> Keeping:
    """As lists are finished; one on which two processes died is given out again slide by slide."""
    work, alone = functools.partial(_list, taking=taking.without_items, store=store), list[tuple[Given, ...]]()
    for some, result in each(work, lists, ClusterParams(workers=processes)):
        if isinstance(result, WorkerLost) and len(some) > 1:
            alone += [(given,) for given in some]
        elif isinstance(result, HistillError):
            yield some[0].item, result
        else:
            yield from zip((given.item for given in some), result, strict=True)
    if alone:
        yield from _by_processes(alone, taking, store, processes)


def _list(some: tuple[Given, ...], taking: Taking, store: Store) -> list[HistillError | None]:
    """In a worker process: what became of each of them. Raises what is no slide's own."""
    found = list[HistillError | None]()
    with contextlib.closing(_by_threads(some, taking, store, THREADS_EACH)) as kept:
        for _, error in kept:
            if error is not None and not isinstance(error, SlideRefused):
                raise error
            found.append(error)
    return found


def _lists(todo: Sequence[Given], processes: int) -> list[tuple[Given, ...]]:
    """In their order, each of `_LIST_S` of work, or of less where that would leave a process without any."""
    seconds = [_seconds(given) for given in todo]
    enough = min(_LIST_S, sum(seconds) / (processes * _LISTS_EACH))
    lists, filled = [list[Given]()], 0.0
    for given, own in zip(todo, seconds, strict=True):
        if filled >= enough:
            lists.append([])
            filled = 0.0
        lists[-1].append(given)
        filled += own
    return [tuple(some) for some in lists if some]


def _seconds(given: Given) -> float:
    """What it will take, about; whoever reads a file that is gone says so."""
    with contextlib.suppress(OSError):
        return SLIDE_S + GB_S * given.path.stat().st_size / 1e9
    return SLIDE_S
