"""One call a slide over worker processes: errors come back as results, and a dying worker takes nothing with it."""

from __future__ import annotations

import os
import signal

import pytest

from pipeline.cluster import each
from pipeline.errors import HistillError, SlideRefused
from pipeline.params import ClusterParams

TWO = ClusterParams(workers=2)
# Dask's own sockets are closed by the garbage collector when a worker has died.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


def square(n: int) -> int:
    if n == 3:
        raise SlideRefused("three is refused", where="slide-3", fix="use four")
    return n * n


def crash_on_two(n: int) -> int:
    if n == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    return n * n


def bug(n: int) -> int:
    return n // 0


@pytest.mark.parametrize("workers", [1, 2])
def test_results_and_refusals_come_back_with_their_tasks(workers: int) -> None:
    results = dict(each(square, [1, 2, 3, 4], ClusterParams(workers=workers)))
    assert {n: results[n] for n in (1, 2, 4)} == {1: 1, 2: 4, 4: 16}
    refused = results[3]
    assert isinstance(refused, SlideRefused)
    assert (refused.what, refused.where, refused.fix) == ("three is refused", "slide-3", "use four")


def test_a_task_that_kills_its_worker_is_refused_and_the_rest_go_on() -> None:
    results = dict(each(crash_on_two, range(1, 9), TWO))
    assert {n: result for n, result in results.items() if n != 2} == {n: n * n for n in (1, 3, 4, 5, 6, 7, 8)}
    assert isinstance(results[2], HistillError) and "died" in results[2].what


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bug_is_raised(workers: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(each(bug, [1, 2], ClusterParams(workers=workers)))


def test_no_tasks_start_no_cluster() -> None:
    assert list(each(square, [], TWO)) == []
