"""The kinds of cluster that a stage starts: which options the library takes, and how it is called.

Everything is checked before anything is submitted: the library is there, every option is one of its own, the batch
system's commands are on the path, the job script can be written.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.base.errors import ClusterError, ParamsError, first_line
from pipeline.base.types import Json
from pipeline.cluster import leashed
from pipeline.cluster.pods import Spec, spec_of
from pipeline.params.site import ClusterParams

if TYPE_CHECKING:
    from dask.distributed import SpecCluster

LOGS = Path("reports/cluster")
"""Where a SLURM job says what its worker said."""
_OURS = (
    "loop",
    "asynchronous",
    "n_workers",
    "kwargs",
    "job_kwargs",
    "base_class_kwargs",
    "job_cls",
    "scheduler",
    "self",
)
"""Of the libraries' arguments, those that are no options."""
_ONE_TASK = ("--nthreads", "1", "--memory-limit", "0")
"""A process does one slide, or holds one teacher, at a time; and mapped tiles count as memory."""
_FEW = 200
"""Characters of what a library says."""
Options = Mapping[str, Json]


@dataclass(frozen=True)
class Kind:
    """`known` are the names of its options, `start` makes a cluster of (params, options)."""

    known: Callable[[], set[str]]
    start: Callable[[ClusterParams, Options], SpecCluster]
    adapts: bool = True


def start(params: ClusterParams, *, gpu: bool) -> SpecCluster:
    """A cluster of the kind that the params name, which adapts to its work. Raises `ParamsError`, `ClusterError`."""
    kind, options = KINDS[params.kind], _checked(params, gpu)
    with _told(params):
        cluster = kind.start(params, options)
        if kind.adapts:
            cluster.adapt(minimum=params.least, maximum=params.workers)
    return cluster


def pods(params: ClusterParams, *, gpu: bool) -> Spec:
    """What would be submitted to Kubernetes. Raises `ParamsError`, `ClusterError`."""
    if params.kind != "kubernetes":
        fix = "`cluster.kind: kubernetes`; of slurm `sbatch --test-only` is asked before anything is submitted"
        raise ParamsError("it submits no pods", where=f"cluster.kind: {params.kind}", fix=fix)
    options = _checked(params, gpu)
    with _told(params):
        return _pods(params, options)


def _checked(params: ClusterParams, gpu: bool) -> Options:
    """The options for such work, every one of them the library's."""
    kind = KINDS[params.kind]
    options = {**params.options, **(params.gpu_options if gpu else {})}
    try:
        known = kind.known()
    except ImportError as error:
        fix = f"pip install 'histill[{params.kind}]'"
        raise ParamsError(first_line(error), where=f"cluster.kind: {params.kind}", fix=fix) from None
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
            fix = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(sorted(known))}"
            raise ParamsError(f"{params.kind} has no option {name!r}", where="cluster.options", fix=fix)
    return options


@contextlib.contextmanager
def _told(params: ClusterParams) -> Iterator[None]:
    """Each library has exceptions of its own for what it cannot start."""
    try:
        yield
    except ClusterError:
        raise
    except Exception as error:
        what = f"it cannot be started: {' '.join(str(error).split())[:_FEW]}"
        fix = "mend cluster.options (docs/cluster.md), and try `histill cluster check`"
        raise ClusterError(what, where=f"cluster.kind: {params.kind}", fix=fix) from error


def _names(*calls: Callable[..., object]) -> set[str]:
    return {name for call in calls for name in inspect.signature(call).parameters} - set(_OURS)


def _slurm_options() -> set[str]:
    from dask_jobqueue.core import Job, JobQueueCluster
    from dask_jobqueue.slurm import SLURMJob

    return _names(Job, SLURMJob, JobQueueCluster)


def _slurm(params: ClusterParams, options: Options) -> SpecCluster:
    from dask_jobqueue import SLURMCluster

    for command in ("sbatch", "scancel"):
        if shutil.which(command) is None:
            fix = "run the stage where jobs are submitted from, or say another `cluster.kind`"
            raise ClusterError(f"there is no {command} here", where="cluster.kind: slurm", fix=fix)
    extra = options.get("worker_extra_args", [])
    defaults: dict[str, Json] = {
        "cores": 1,
        "processes": 1,
        "python": sys.executable,
        "local_directory": tempfile.gettempdir(),
        "log_directory": str(LOGS.absolute()),
    }
    scheduler = options.get("scheduler_options", {})
    # On a login node somebody else's dashboard has the usual port.
    hosted = {"dashboard_address": ":0", **(scheduler if isinstance(scheduler, Mapping) else {})}
    own = [*(extra if isinstance(extra, list) else [str(extra)]), *_ONE_TASK]
    cluster = SLURMCluster(**{**defaults, **options, "worker_extra_args": own, "scheduler_options": hosted})
    # The library submits in the background, where a refusal would only be logged.
    asked = subprocess.run(
        ["sbatch", "--test-only"], input=cluster.job_script(), capture_output=True, text=True, check=False
    )
    if asked.returncode:
        cluster.close()
        said = " ".join(asked.stderr.replace("sbatch: error:", "").split())
        fix = "mend cluster.options: `sinfo` shows the partitions, their nodes and limits"
        raise ClusterError(f"SLURM would not take its jobs: {said}", where="cluster.kind: slurm", fix=fix)
    return cluster


def _kubernetes_options() -> set[str]:
    from dask_kubernetes.operator import KubeCluster

    return _names(KubeCluster)


def _kubernetes(params: ClusterParams, options: Options) -> SpecCluster:
    from dask_kubernetes.operator import KubeCluster

    own: Options = {"custom_cluster_spec": _pods(params, options), "quiet": True}
    return KubeCluster(**{**options, **own})


def _pods(params: ClusterParams, options: Options) -> Spec:
    defaults: dict[str, Json] = {"worker_command": ["dask", "worker", *_ONE_TASK]}
    return spec_of({**defaults, **options}, params.options.get("resources"), params.least)


def _ssh_options() -> set[str]:
    from dask.distributed import SSHCluster

    return _names(SSHCluster)


def _ssh(params: ClusterParams, options: Options) -> SpecCluster:
    from dask.distributed import SSHCluster

    # What each process says as it starts is told as an error where it does not.
    logging.getLogger("distributed.deploy.ssh").setLevel(logging.WARNING)
    told = options.get("worker_options", {})
    worker = {"nthreads": 1, "memory_limit": 0, **(told if isinstance(told, Mapping) else {})}
    scheduler = options.get("scheduler_options", {})
    hosted = {"dashboard_address": ":0", **(scheduler if isinstance(scheduler, Mapping) else {})}
    python = options.get("remote_python") or sys.executable
    own: Options = {
        "worker_options": worker,
        "scheduler_options": hosted,
        "remote_python": [_leashed(one) for one in python] if isinstance(python, list) else _leashed(python),
    }
    return SSHCluster(**{**options, **own})


def _leashed(python: Json) -> str:
    return f"{python} -m {leashed.__name__}"


KINDS = {
    "slurm": Kind(_slurm_options, _slurm),
    "kubernetes": Kind(_kubernetes_options, _kubernetes),
    "ssh": Kind(_ssh_options, _ssh, adapts=False),
}
