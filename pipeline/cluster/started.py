"""Clusters that this process has started: one for work on cores and one for work on GPUs, at first use, till the end.

    @clusters_end()                # a stage's run
    def run(params, store): …      # in which whatever spreads work asks for address(params)

They end with the call, however it is left: by SIGTERM too, which a batch system sends before it kills. After a kill
that cannot be caught the workers miss their scheduler, which was in this process, and end by themselves within a
minute (`death_timeout`), those too that were still waiting in a queue.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from pipeline.base.errors import first_line
from pipeline.base.progress import console
from pipeline.cluster.kinds import start
from pipeline.params.site import ClusterParams

if TYPE_CHECKING:
    from dask.distributed import SpecCluster

_PATIENCE_S = 60.0
"""For the library to end its workers."""
_started: dict[tuple[str, bool], SpecCluster] = {}
"""By the params, as JSON, and whether it is for GPUs."""


def address(params: ClusterParams, *, gpu: bool = False) -> str | None:
    """Of the scheduler for this work; None where local processes do it. Raises `ParamsError` and `ClusterError`."""
    if params.kind == "local":
        return params.scheduler
    # Two that would be the same are one.
    key = params.model_dump_json(), gpu and bool(params.gpu_options)
    if key not in _started:
        _started[key] = start(params, gpu=gpu)
        console.print(f"{params.kind}: a cluster of {params.least} to {params.workers} workers", soft_wrap=True)
    return str(_started[key].scheduler_address)


@contextlib.contextmanager
def clusters_end() -> Iterator[None]:
    """End every cluster that was started in the block, when the block ends."""
    with _sigterm_raises():
        try:
            yield
        finally:
            while _started:
                _, cluster = _started.popitem()
                _end(cluster)


def _end(cluster: SpecCluster) -> None:
    try:
        cluster.close(timeout=_PATIENCE_S)
    # An error of the work itself, which is on its way, is not to be hidden by what the library meets in putting away.
    except Exception as error:
        what = f"the cluster did not end well: {type(error).__name__}: {first_line(error)}"
        fix = (
            "its workers end by themselves once they miss their scheduler; look with `squeue --me`, `kubectl get pods`"
        )
        console.print(f"{what}\n  -> {fix}", style="yellow", soft_wrap=True)


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: by an exception, after which things are put away."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
