"""Work that is one call a slide, spread over Dask workers: a local cluster, or a scheduler that is already running."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from pipeline.base.errors import HistillError, ParamsError, WorkerLost
from pipeline.base.limits import usable_cores
from pipeline.base.progress import console
from pipeline.base.refusals import about_slide
from pipeline.params.site import ClusterParams

if TYPE_CHECKING:
    from dask.distributed import Client

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
    workers = processes(len(tasks), params)
    if params.scheduler is None and params.workers == 1:
        for task in tasks:
            yield task, _guarded(work, task)
        return
    import dask
    from dask.distributed import Client, KilledWorker, LocalCluster, as_completed

    settings = {
        "distributed.scheduler.allowed-failures": 0,
        # Mapped tiles count as memory: a worker paused by them would never go on.
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": False,
        "distributed.logging.distributed": "error",
        "distributed.comm.timeouts.connect": "60s",
        "distributed.worker.multiprocessing-method": "forkserver",
    }
    with dask.config.set(settings):
        if params.scheduler is None:
            _import_once(work)
            cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
            client = Client(cluster)
        else:
            cluster, client = None, _joined(params.scheduler)
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
                    fix = "had its machine the memory? if its decoder crashes (see another viewer), leave it out"
                    yield task, WorkerLost("the worker process was lost on it, twice", fix=fix)
        finally:
            client.close()
            if cluster is not None:
                cluster.close()


def processes(n_tasks: int, params: ClusterParams) -> int:
    """Worker processes that a local cluster has for so many tasks: one a core that may be used, unless told."""
    return min(n_tasks, params.workers or usable_cores())


def _import_once(work: Callable[[Task], Result]) -> None:
    """Have the server that local workers are forked from import what the work needs, which each would else."""
    from distributed.utils import get_mp_context

    # Dask's own choice is made at the first call, and is without the work's module.
    module = getattr(work, "func", work).__module__
    get_mp_context().set_forkserver_preload(["distributed", module])


def worker_count(scheduler: str) -> int:
    """Workers that a running scheduler has now, at least 1: some may be on their way."""
    with _joined(scheduler) as client:
        return max(1, _workers(client))


def _joined(scheduler: str) -> Client:
    """A client of a running scheduler; says so where it has no worker yet. Raises `ParamsError` where none answers."""
    from dask.distributed import Client

    try:
        client = Client(scheduler)
    except (OSError, ValueError) as error:
        fix = "start one: `dask scheduler`, then a `dask worker` on each machine; or leave `cluster.scheduler` null"
        what = f"no Dask scheduler answers: {str(error).splitlines()[0]}"
        raise ParamsError(what, where=f"cluster.scheduler: {scheduler}", fix=fix) from None
    if not _workers(client):
        console.print(f"{scheduler} has no worker yet: waiting for one", soft_wrap=True, style="yellow")
    return client


def _workers(client: Client) -> int:
    return len(client.scheduler_info(n_workers=-1)["workers"])


def _guarded(work: Callable[[Task], Result], task: Task) -> Result | HistillError:
    try:
        return work(task)
    except Exception as error:
        return about_slide(error)
