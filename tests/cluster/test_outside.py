"""A scheduler and workers that somebody else has started, as processes of their own with another working directory."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from imports import ROOT
from made.held import held
from made.processes import until
from made.python_server import loaded_python
from made.slides import make_slide, tissue_picture
from made.slurm import free_port

from pipeline.base.errors import ClusterError
from pipeline.base.store import Store
from pipeline.cluster.spread import each
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.slides.catalogue import catalogue

# Dask's own sockets are closed by the garbage collector when a connection is lost.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


class Outside:
    """A scheduler on a free port, and workers on demand."""

    def __init__(self) -> None:
        port = free_port()
        self.address, self.started = f"tcp://127.0.0.1:{port}", list[subprocess.Popen[bytes]]()
        self.params = ClusterParams(scheduler=self.address)
        self.scheduler = self._start(ROOT, "dask_scheduler", "--host", "127.0.0.1", "--port", str(port))
        # On a machine that is busy, its libraries may be loaded for longer than a stage waits for it.
        until(lambda: answers(port))

    def worker(self, code: Path = ROOT, threads: int = 1) -> subprocess.Popen[bytes]:
        """One with Histill's code in that folder."""
        return self._start(code, "dask_worker", self.address, "--nthreads", str(threads), "--no-nanny")

    def _start(self, code: Path, program: str, *words: str) -> subprocess.Popen[bytes]:
        command = [loaded_python(), "-m", f"distributed.cli.{program}", *words, "--no-dashboard"]
        self.started.append(
            subprocess.Popen(command, cwd="/", env={**os.environ, "PYTHONPATH": str(code)}, stderr=subprocess.DEVNULL)
        )
        return self.started[-1]

    def stop(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()


@pytest.fixture
def outside() -> Iterator[Outside]:
    cluster = Outside()
    yield cluster
    cluster.stop()


def test_slides_named_relative_to_here_are_found_by_a_worker_that_runs_elsewhere(
    outside: Outside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside.worker()
    monkeypatch.chdir(tmp_path)
    make_slide(tmp_path / "s.tif", tissue_picture(300, 200))
    # More rows than threads of this process would look at.
    (tmp_path / "slides.csv").write_text("path,slide_id,split\n" + "".join(f"s.tif,s{i},train\n" for i in range(33)))
    made = catalogue(SlidesParams(), Store(tmp_path / "store"), outside.params)
    assert [item.id for item in made.items] == ["s0"]
    assert {refusal.reason for refusal in made.refused} == {"the same slide as s0"}


def test_a_worker_with_other_code_is_named_before_it_works(outside: Outside, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pipeline" / "tiles" / "grid.py").write_text("# older\n")
    outside.worker(tmp_path)
    with pytest.raises(ClusterError, match=r"worker tcp://.*: it has histill's code \w+, not \w+\n"):
        list(each(time.sleep, [0.1], outside.params))


def test_lost_workers_are_told_and_replaced_and_a_lost_scheduler_ends_the_run_in_a_line(
    outside: Outside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, third, last, said = (tmp_path / name for name in ("plain", "third", "last", "said"))
    for path in (plain, third, last):
        path.write_bytes(b"read")
    worker, done = outside.worker(), 0

    def told() -> str:
        return " ".join(said.read_text().split())

    def replace() -> None:
        until(lambda: f"{outside.address} has no worker: waiting for one" in told())
        # What the lost worker was at, or had been given, comes last of all: one thread waits for the held file for
        # ever, the other has all else.
        outside.worker(threads=2)

    with (
        open(said, "w", buffering=1) as stderr,
        ThreadPoolExecutor(1) as pool,
        held(third) as file,
        held(last),
        monkeypatch.context() as patch,
        pytest.raises(ClusterError, match=r"the Dask scheduler is gone\n.*what is done is kept"),
    ):
        patch.setattr(sys, "stderr", stderr)
        for _, result in each(Path.read_bytes, [plain, plain, third, plain, plain, last], outside.params):
            assert result == b"read"
            done += 1
            if done == 2:
                until(file.is_read)
                worker.kill()
                file.put_back()
                replaced = pool.submit(replace)
            if done == 4:
                outside.scheduler.kill()
    replaced.result()
    assert "Traceback" not in told()
