"""One call a slide over worker processes: errors come back as results, and a dying worker takes nothing with it."""

from __future__ import annotations

import os
import signal
import threading

import dask
import pytest
from dask.distributed import Client, LocalCluster

from pipeline.base.errors import ClusterError, ParamsError, SlideRefused, WorkerLost
from pipeline.cluster.client import Watch
from pipeline.cluster.spread import each, worker_count
from pipeline.cluster.telling import tell
from pipeline.params.site import ClusterParams

TWO = ClusterParams(workers=2)
# Dask's own sockets are closed by the garbage collector when a worker has died.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


def square(n: int) -> int:
    if n == 3:
        raise SlideRefused("three is refused", where="slide-3", fix="use four")
    return n * n // (n - 5) * (n - 5)


def crash_on_two(n: int) -> int:
    if n == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    return n * n


HEARD = threading.Event()


def say_and_wait(n: int) -> bool:
    tell(["on its way", n])
    return HEARD.wait(600)


def process_of(n: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_refusals_and_errors_come_back_with_their_tasks(workers: int) -> None:
    results = dict(each(square, [1, 3, 4, 5, 6], ClusterParams(workers=workers)))
    assert {n: results[n] for n in (1, 4, 6)} == {1: 4, 4: 16, 6: 36}
    refused = results[3]
    assert isinstance(refused, SlideRefused)
    assert (refused.what, refused.where, refused.fix) == ("three is refused", "slide-3", "use four")
    wrong = results[5]
    assert isinstance(wrong, SlideRefused) and not wrong.passing
    assert wrong.what == "ZeroDivisionError: integer division or modulo by zero"
    assert "in square" in wrong.trace


def test_a_task_that_kills_its_worker_is_given_up_for_now_and_the_rest_go_on() -> None:
    results = dict(each(crash_on_two, range(1, 9), TWO))
    assert {n: result for n, result in results.items() if n != 2} == {n: n * n for n in (1, 3, 4, 5, 6, 7, 8)}
    assert isinstance(results[2], WorkerLost) and results[2].passing and results[2].fix


def test_no_tasks_start_no_cluster() -> None:
    assert list(each(square, [], TWO)) == []


def test_a_scheduler_that_is_already_running_is_used() -> None:
    from dask.distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        results = dict(each(process_of, [1, 2], ClusterParams(scheduler=cluster.scheduler_address)))
    assert results[1] == results[2] != os.getpid()


def test_what_work_says_on_its_way_is_heard_before_it_ends() -> None:
    said: list[list[object]] = []

    def heard(message: list[object]) -> None:
        said.append(list(message))
        HEARD.set()

    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
        params = ClusterParams(scheduler=cluster.scheduler_address)
        assert dict(each(say_and_wait, [7], params, heard=heard)) == {7: True}
    assert said == [["on its way", 7]]
    tell("to nobody: no worker")


def test_one_task_has_a_process_of_its_own_unless_one_worker_is_asked_for() -> None:
    assert dict(each(process_of, [1], ClusterParams()))[1] != os.getpid()
    assert dict(each(process_of, [1], ClusterParams(workers=1)))[1] == os.getpid()


def test_an_outside_schedulers_workers_are_counted() -> None:
    with LocalCluster(n_workers=3, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
        assert worker_count(cluster.scheduler_address) == 3


def test_a_scheduler_that_does_not_answer_is_named() -> None:
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "300ms"}),
        pytest.raises(ParamsError, match=r"127\.0\.0\.1:9"),
    ):
        worker_count("tcp://127.0.0.1:9")
    with pytest.raises(ParamsError, match=r"cluster\.scheduler: nowhere"):
        worker_count("nowhere://at-all")


def test_a_local_cluster_whose_workers_do_not_come_back_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalCluster(n_workers=0, dashboard_address=":0") as cluster, Client(cluster) as client:
        Watch(client, None, ClusterParams()).look()
        monkeypatch.setattr("pipeline.cluster.client.LOCAL_PATIENCE_S", 0.0)
        watch = Watch(client, None, ClusterParams())
        with pytest.raises(ClusterError, match="none starts again"):
            watch.look()
