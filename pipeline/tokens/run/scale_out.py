"""Where a run computes: in this process, or spread over Dask workers, one a GPU, local or anywhere that sees the store.

One device, or a CPU unless `cluster.workers` says otherwise, is this process: on a CPU two processes would only fight
for the cores. Otherwise slides are handed out as workers get free, the largest first and the small ones in lists that
share batches; what a lost worker had is computed again by another. With `cluster.kind` they are started as it
says (docs/cluster.md). With `cluster.scheduler` they are somebody else's: start one a GPU, with CUDA_VISIBLE_DEVICES
set, `--nthreads 1`, since a process holds one teacher, which a second thread would share, and `--memory-limit 0`, since
Dask counts mapped tiles as memory. Run by the tests with two CPU processes, and with one of an outside scheduler; not
run on GPUs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from pipeline.base.errors import HistillError, SlideRefused, TeacherError, WorkerLost
from pipeline.base.items import TilesItem
from pipeline.base.limits import usable_cores
from pipeline.cluster.refusals import Tracebacks
from pipeline.cluster.spread import each, worker_count
from pipeline.params.site import ClusterParams
from pipeline.params.tokens import TokensParams
from pipeline.teachers.engines import pick_device, resolve_precision
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.teacher import Teacher
from pipeline.tokens import calibration
from pipeline.tokens.job import Job, Outcome, Picked
from pipeline.tokens.run.collect import Progress
from pipeline.tokens.run.on_the_way import OnTheWay, Said, Saying
from pipeline.tokens.run.worker import Worker

_LISTS_PER_WORKER = 8
_BATCHES_MIN = 16
"""Of a list: the stream fills and drains once a list."""
_TILES_MAX = 50_000
"""Of a list: workers that come late find lists left, and each list's end shows on the bar."""

Figures = dict[str, float]
Task = TypeVar("Task")
Result = TypeVar("Result")


def local_workers(cluster: ClusterParams) -> int:
    """Processes here: one a GPU, at most `cluster.workers`; on a CPU as many as `cluster.workers` says, else one."""
    if pick_device().type == "cuda":
        return min(cluster.workers or torch.cuda.device_count(), torch.cuda.device_count())
    return cluster.workers or 1


def _workers(cluster: ClusterParams) -> int:
    """Processes that will share the work: of an outside scheduler those that it has, of one to be started the most."""
    if cluster.scheduler is not None:
        return worker_count(cluster.scheduler)
    return local_workers(cluster) if cluster.is_here else cluster.workers or 1


def precision_there(params: TokensParams, cluster: ClusterParams) -> str:
    """`tokens.precision` as the device that will compute resolves it. Raises `TeacherError`."""
    if cluster.is_here:
        return _precision(params.precision)
    return _first(each(_precision, [params.precision], cluster, gpu=True))


def compute_all(
    items: Sequence[TilesItem], job: Job, picked: Picked, teacher: Teacher, cluster: ClusterParams, progress: Progress
) -> tuple[Outcome, Figures]:
    """Gate the engine, freeze the calibration on `picked` where there is none yet, then compute the slides.

    What they came to, all processes together, and the gate's figures. Raises what `Worker` raises.
    """
    workers = _workers(cluster)
    lists = split(items, job.params.batch_size, workers)
    # Of one process; two views of a tile are two passes.
    passes = -(-sum(item.n for item in items) * job.params.n_views // max(1, workers))
    if cluster.is_here:
        worker = Worker(job, teacher, pick_device(), passes)
        _prepare(worker, picked)
        figures = worker.figures
        if workers == 1 or len(lists) <= 1:
            return worker.compute(items, progress), figures
        # Its device is about to be another process's.
        del worker
        teacher.to("cpu")
        # The compiled graphs hold its memory, CUDA graphs' pools included.
        torch.compiler.reset()
        torch.cuda.empty_cache()
        job = dataclasses.replace(job, threads=max(1, usable_cores() // workers))
        cluster = cluster.model_copy(update={"workers": workers})
    else:
        figures = _first(each(functools.partial(_prepared, job=job, passes=passes), [picked], cluster, gpu=True))
    total, shown = Outcome(), OnTheWay(progress)
    for first, part in _computed(lists, functools.partial(_work, job=job, passes=passes), cluster, shown.heard):
        total.add(part)
        shown.heard((first, part.cached, part.tiles))
    return total, figures


def split(items: Sequence[TilesItem], batch_size: int, workers: int) -> list[tuple[TilesItem, ...]]:
    """Lists of slides, the largest slides first; small ones together until a list is worth handing out."""
    enough = max(_BATCHES_MIN * batch_size, sum(item.n for item in items) // (workers * _LISTS_PER_WORKER))
    enough = min(enough, -(-sum(item.n for item in items) // max(1, workers)), _TILES_MAX)
    lists: list[list[TilesItem]] = [[]]
    for item in sorted(items, key=lambda item: (-item.n, item.id)):
        if sum(other.n for other in lists[-1]) >= enough:
            lists.append([])
        lists[-1].append(item)
    return [tuple(some) for some in lists if some]


def _computed(
    lists: Sequence[tuple[TilesItem, ...]],
    work: Callable[[tuple[TilesItem, ...]], Outcome],
    cluster: ClusterParams,
    heard: Callable[[Said], object],
) -> Iterator[tuple[str, Outcome]]:
    """The outcome of each list, by its first slide's key.

    A list on which two workers died is given out again slide by slide.
    """
    alone: list[tuple[TilesItem, ...]] = []
    for some, result in each(work, lists, cluster, gpu=True, heard=heard):
        if isinstance(result, WorkerLost):
            if len(some) > 1:
                alone += [(item,) for item in some]
                continue
            refused = WorkerLost(result.what, where=some[0].id, fix=result.fix)
            result = Outcome(refused={some[0].key: refused})
        if isinstance(result, SlideRefused):
            # Of the whole list: not what one of its slides is, which `Worker.compute` finds out by itself.
            raise Tracebacks("tokens").keep(some[0].id, result)
        if isinstance(result, HistillError):
            raise result
        yield some[0].key, result
    if alone:
        yield from _computed(alone, work, cluster, heard)


def _prepare(worker: Worker, picked: Picked) -> None:
    job = worker.job
    if job.params.patch == "none" or job.store.has(job.calibration):
        return
    lost = calibration.recovered(job.store, job.calibration)
    if lost is None:
        worker.calibrate(picked)
    else:
        calibration.save(job.store, job.calibration, job.held_out.recipe, lost)


def _prepared(picked: Picked, job: Job, passes: int) -> Figures:
    worker = _worker(job, passes)
    _prepare(worker, picked)
    return worker.figures


def _work(items: tuple[TilesItem, ...], job: Job, passes: int) -> Outcome:
    return _worker(job, passes).compute(items, Saying(items[0].key))


def _precision(precision: str) -> str:
    return resolve_precision(precision, pick_device())


_held: list[tuple[object, Worker]] = []
"""This process's worker and what it was made for: a teacher is loaded and gated once a run and process."""


def _worker(job: Job, passes: int) -> Worker:
    """Raises `TeacherError` where this machine's weights are not those that the run was started with."""
    # All of it: an outside scheduler's workers outlive a run, whose next may ask for a stricter gate or `on_error`.
    made_for = (job.store.root, job.store.bases), job.recipe, job.params, job.golden, job.threads, passes
    if not _held or _held[0][0] != made_for:
        _held.clear()
        teacher = load_teacher(job.params, job.store, job.demo_px)
        if teacher.describe() != job.recipe["teacher"]:
            fix = "give every machine the same `tokens.weights`, and the same version of Histill"
            raise TeacherError("a worker has another teacher than the run", where=f"teacher {teacher.name}", fix=fix)
        _held.append((made_for, Worker(job, teacher, _own_device(), passes)))
    return _held[0][1]


def _own_device() -> torch.device:
    """This worker's GPU: the one of its number among a local cluster's workers, else the first that it sees."""
    device = pick_device()
    if device.type != "cuda" or torch.cuda.device_count() == 1:
        return device
    from dask.distributed import get_worker

    name = str(get_worker().name)
    device = torch.device("cuda", int(name) % torch.cuda.device_count() if name.isdecimal() else 0)
    torch.cuda.set_device(device)
    return device


def _first(results: Iterator[tuple[Task, Result | HistillError]]) -> Result:
    ((_, result),) = results
    if isinstance(result, HistillError):
        raise result
    return result
