"""A Dask client for the work of a stage: of a local cluster, or of a scheduler that is already running.

Of an outside cluster it is checked that all of its processes have the same packages and the same Histill, since bytes
depend on both; and while the work runs it is said within seconds that no worker is left, or no scheduler.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

from pipeline.base.errors import ClusterError, ParamsError, first_line
from pipeline.base.progress import console
from pipeline.cluster.telling import Told
from pipeline.params.site import ClusterParams

if TYPE_CHECKING:
    from dask.distributed import Client

PACKAGES = ("histill", "dask", "distributed", "numpy", "torch", "zarr")
"""What every process of a cluster must have alike."""
LOOK_S = 2.0
"""Between two looks at the workers."""
LOCAL_PATIENCE_S = 180.0
"""Without any worker, of a local cluster, whose dead workers are started again within seconds."""
_ANSWER_S = 10.0
"""For a scheduler to answer the first time."""
_SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,
    # Mapped tiles count as memory: a worker paused by them would never go on.
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.logging.distributed": "error",
    "distributed.comm.timeouts.connect": "60s",
}
_START = "`dask scheduler`, then `dask worker ADDRESS --nthreads 1` on each machine"


@contextlib.contextmanager
def local(workers: int) -> Iterator[Client]:
    """A client of as many worker processes here, which end with the block."""
    import dask
    from dask.distributed import Client, LocalCluster

    with (
        dask.config.set(_SETTINGS),
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextlib.contextmanager
def joined(scheduler: str) -> Iterator[Client]:
    """A client of a running scheduler.

    Raises `ParamsError` where none answers, and `ClusterError` where its processes are not like this one.
    """
    import dask
    from dask.distributed import Client
    from dask.utils import parse_timedelta

    # What it has to say of a lost connection is said here, in a line.
    # Of a question that nobody waits for any more, the event loop itself would print the traceback.
    for name in ("distributed", "distributed.client", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    configured = parse_timedelta(dask.config.get("distributed.comm.timeouts.connect"))
    try:
        client = Client(scheduler, timeout=min(configured, _ANSWER_S))
    except (OSError, ValueError) as error:
        what = f"no Dask scheduler answers: {first_line(error)}"
        fix = f"start one: {_START}; or leave `cluster.scheduler` null"
        raise ParamsError(what, where=f"cluster.scheduler: {scheduler}", fix=fix) from None
    try:
        try:
            found = client.run_on_scheduler(probe())
        except (CancelledError, OSError, TimeoutError):
            raise gone(scheduler) from None
        require_alike(f"the scheduler {scheduler}", found, versions())
        yield client
    finally:
        with contextlib.suppress(Exception):
            client.close(timeout=LOOK_S)


class Watch:
    """Looks at a cluster now and then: is there a scheduler, and is there a worker?"""

    def __init__(self, client: Client, scheduler: str | None, params: ClusterParams, told: Told | None = None) -> None:
        self.told = told or Told(client, None)
        self._client, self._scheduler, self._kind = client, scheduler, params.kind
        self._patience_s = LOCAL_PATIENCE_S if params.is_here else 60 * (params.patience_minutes or math.inf)
        self._next, self._alone, self._had_s = 0.0, False, time.monotonic()

    def look(self) -> None:
        """At most every `LOOK_S`. Raises `ClusterError` where there is no scheduler, or here no worker any more."""
        if time.monotonic() < self._next:
            return
        workers = self.workers()
        if workers:
            self._had_s = time.monotonic()
        elif time.monotonic() - self._had_s > self._patience_s:
            raise self._forsaken()
        if self._scheduler and not workers and not self._alone:
            what = f"{self._scheduler} has no worker: waiting for one ({self._whence()})"
            console.print(f"{what}; Ctrl-C ends the run, and what is done is kept", soft_wrap=True, style="yellow")
        self._alone = not workers
        self._next = time.monotonic() + LOOK_S

    def _forsaken(self) -> ClusterError:
        if self._scheduler is None:
            fix = "the same command with `cluster.workers: 1` works in one process; what is done is kept"
            return ClusterError("its worker processes end and none starts again", where="the local cluster", fix=fix)
        what = f"no worker came in {self._patience_s / 60:g} minutes (cluster.patience_minutes)"
        fix = f"{self._whence()}; then the same command: what is done is kept"
        return ClusterError(what, where=f"cluster.kind: {self._kind}", fix=fix)

    def _whence(self) -> str:
        """Where workers come from, and how to look there."""
        return {
            "slurm": "`squeue --me` says why its jobs wait, reports/cluster/ why they ended",
            "kubernetes": "`kubectl get pods` says what its pods wait for",
            "ssh": "do its hosts answer?",
        }.get(self._kind, f"`dask worker {self._scheduler} --nthreads 1`")

    def workers(self) -> list[str]:
        """The addresses of the workers that there are. Raises `ClusterError` where there is no scheduler."""
        if self._client.status != "running":
            raise self.lost()
        try:
            return list(self._client.scheduler_info(n_workers=-1)["workers"])
        except (OSError, TimeoutError):
            raise self.lost() from None

    def lost(self) -> ClusterError:
        """The scheduler does not answer any more."""
        return gone(self._scheduler)


def gone(scheduler: str | None) -> ClusterError:
    """A scheduler that answered does not any more; None: the local cluster's."""
    fix = f"start it again ({_START}), then the same command: what is done is kept"
    where = f"cluster.scheduler: {scheduler}" if scheduler else "the local cluster"
    return ClusterError("the Dask scheduler is gone", where=where, fix=fix)


def probe() -> Callable[[], dict[str, str]]:
    """A function that tells the versions of where it runs.

    It is sent by value, since a process without Histill could not load it by its name.
    """
    packages = PACKAGES

    def told() -> dict[str, str]:
        import contextlib
        import hashlib
        import importlib.util
        import pathlib
        import platform
        from importlib import metadata

        found = {"python": ".".join(platform.python_version_tuple()[:2])}
        for name in packages:
            with contextlib.suppress(metadata.PackageNotFoundError):
                found[name] = metadata.version(name)
        spec = importlib.util.find_spec("pipeline")
        for folder in (spec.submodule_search_locations or []) if spec else []:
            digest, top = hashlib.sha256(), pathlib.Path(folder)
            for path in sorted(top.rglob("*.py")):
                digest.update(path.relative_to(top).as_posix().encode() + path.read_bytes())
            found["histill's code"] = digest.hexdigest()[:8]
        return found

    return told


@functools.cache
def versions() -> dict[str, str]:
    """Of this process."""
    return probe()()


def require_alike(who: str, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Raises `ClusterError` that says what a process has otherwise than `wanted`."""
    differ = [name for name, version in wanted.items() if found.get(name) != version]
    wrong = [f"{name} {found.get(name, 'missing')}, not {wanted[name]}" for name in differ]
    if wrong:
        fix = "give every machine the same packages (constraints.txt) and the same checkout of Histill"
        raise ClusterError(f"it has {'; '.join(wrong)}", where=who, fix=fix)
