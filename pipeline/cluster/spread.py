"""Work that is one call a slide, spread over Dask workers: a local cluster, or a scheduler that is already running."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.base.errors import ClusterError, HistillError, WorkerLost
from pipeline.base.limits import usable_cores
from pipeline.cluster.client import Watch, joined, local, require_alike, versions
from pipeline.cluster.refusals import about_slide
from pipeline.cluster.started import address
from pipeline.cluster.telling import Told
from pipeline.params.site import ClusterParams

if TYPE_CHECKING:
    from dask.distributed import Client

Task = TypeVar("Task")
Result = TypeVar("Result")
_POLL_S = 0.05


def each(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    params: ClusterParams,
    *,
    gpu: bool = False,
    heard: Callable[[Any], object] | None = None,
) -> Iterator[tuple[Task, Result | HistillError]]:
    """Call `work` on every task and yield (task, result or the `HistillError` that it came to) as they finish.

    What the work says while it is on its way (`tell`), `heard` is called with, by the thread that waits for results.
    Where the params name a kind of cluster it is started for the first that asks, with GPUs for work that wants one.

    `work` and the tasks are pickled; paths in them must be absolute, since a worker may run anywhere. Whatever a task
    raises is its own (`about_slide`). A worker that dies (a decoder's segfault) is started again, and what it held is
    tried once more, one task at a time, so that only the guilty one dies again and ends as `WorkerLost`. The order of
    results depends on timing: sort what is kept. Raises `ClusterError` where the scheduler goes away.

    Only where the params ask for one worker does the work run in this process, which then dies with it.
    """
    if not tasks:
        return
    if params.is_here and params.workers == 1:
        for task in tasks:
            yield task, _guarded(work, None, task)
        return
    scheduler = address(params, gpu=gpu)
    # Late workers too: each looks at itself before it does anything.
    call = functools.partial(_guarded, work, None if scheduler is None else versions())
    with local(processes(len(tasks), params)) if scheduler is None else joined(scheduler) as client:
        watch = Watch(client, scheduler, params, Told(client, heard))
        suspects = []
        for task, result in _results(client, watch, call, tasks):
            if isinstance(result, WorkerLost):
                suspects.append(task)
            else:
                yield task, result
        for task in suspects:
            yield from _results(client, watch, call, [task])


def processes(n_tasks: int, params: ClusterParams) -> int:
    """Worker processes that a local cluster has for so many tasks: one a core that may be used, unless told."""
    return min(n_tasks, params.workers or usable_cores())


def worker_count(scheduler: str) -> int:
    """Workers that a running scheduler has now, at least 1: some may be on their way."""
    with joined(scheduler) as client:
        return max(1, len(Watch(client, scheduler, ClusterParams(scheduler=scheduler)).workers()))


def _results(
    client: Client, watch: Watch, call: Callable[[Task], Result | HistillError], tasks: Sequence[Task]
) -> Iterator[tuple[Task, Result | HistillError]]:
    """All of them at once; `WorkerLost` for those that were at work where a process was lost."""
    from dask.distributed import as_completed

    watch.look()
    futures = {client.submit(call, task, pure=False): task for task in tasks}
    # Results are fetched by the client's thread: one that is lost with its worker after it was told comes only when
    # another worker has made it again, and who waited for it here would look at nothing meanwhile.
    completed = as_completed(futures, with_results=True)
    while not completed.is_empty():
        # Asked now and then and not waited for, since without workers or scheduler nothing would ever come.
        watch.look()
        watch.told.pass_on()
        ready = completed.next_batch(block=False)
        if not ready:
            time.sleep(_POLL_S)
        for future, result in ready:
            task = futures.pop(future)
            if future.status == "error":
                result = _not_run(result[1])
            elif future.status != "finished" or isinstance(result, CancelledError | OSError):
                raise watch.lost()
            if isinstance(result, ClusterError):
                raise result
            yield task, result


def _not_run(error: BaseException) -> WorkerLost:
    """What became of a task that ended without a result. Raises `ClusterError` where the worker could not run it."""
    from dask.distributed import KilledWorker

    if isinstance(error, KilledWorker):
        fix = "had its machine the memory? if its decoder crashes (see another viewer), leave it out"
        return WorkerLost("the worker process was lost on it, twice", fix=fix)
    # Not what the work raised, which is a result: the task itself did not get there.
    what = f"a worker cannot run the work: {type(error).__name__}: {error}".splitlines()[0]
    raise ClusterError(what, fix="has every machine the same Histill?") from error


def _guarded(work: Callable[[Task], Result], wanted: dict[str, str] | None, task: Task) -> Result | HistillError:
    try:
        if wanted is not None:
            from dask.distributed import get_worker

            require_alike(f"worker {get_worker().address}", versions(), wanted)
        return work(task)
    except Exception as error:
        return about_slide(error)
