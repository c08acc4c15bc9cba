"""Work that is one call a slide, spread over Dask workers: a local cluster, or a scheduler that is already running."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from pipeline.errors import HistillError, SlideRefused
from pipeline.params import ClusterParams

Task = TypeVar("Task")
Result = TypeVar("Result")


def each(
    work: Callable[[Task], Result], tasks: Sequence[Task], params: ClusterParams
) -> Iterator[tuple[Task, Result | HistillError]]:
    """Call `work` on every task and yield (task, result or the `HistillError` it raised) as they finish.

    `work` and the tasks are pickled. A worker that dies (a decoder's segfault) is started again, and what it held is
    tried once more, one task at a time, so that only the guilty one dies again and ends as a `SlideRefused`. Any other
    exception is a bug and is raised. The order of results depends on timing: sort what is kept.

    Only where the params ask for one worker does the work run in this process, which then dies with it.
    """
    if not tasks:
        return
    workers = min(len(tasks), params.workers or os.cpu_count() or 1)
    if params.scheduler is None and params.workers == 1:
        for task in tasks:
            yield task, _guarded(work, task)
        return
    import dask
    from dask.distributed import Client, KilledWorker, LocalCluster, as_completed

    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.memory.terminate": False,
        "distributed.logging.distributed": "error",
        "distributed.comm.timeouts.connect": "60s",
    }
    with dask.config.set(settings):
        if params.scheduler is None:
            cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
            client = Client(cluster)
        else:
            cluster, client = None, Client(params.scheduler)
        try:
            futures = {client.submit(_guarded, work, task, pure=False): task for task in tasks}
            suspects = []
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except KilledWorker:
                    suspects.append(futures[future])
            for task in suspects:
                try:
                    yield task, client.submit(_guarded, work, task, pure=False).result()
                except KilledWorker:
                    fix = "look at the slide with another viewer; its decoder may have crashed"
                    yield task, SlideRefused("the worker process died twice on it", fix=fix)
        finally:
            client.close()
            if cluster is not None:
                cluster.close()


def worker_count(scheduler: str) -> int:
    """Workers that a running scheduler has now, at least 1: some may be on their way."""
    from dask.distributed import Client

    with Client(scheduler) as client:
        return max(1, len(client.scheduler_info(n_workers=-1)["workers"]))


def _guarded(work: Callable[[Task], Result], task: Task) -> Result | HistillError:
    try:
        return work(task)
    except HistillError as error:
        return error
