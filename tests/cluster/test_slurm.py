"""A stage starts workers by a real SLURM, uses them through what a cluster does to jobs, and leaves none behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import on_slurm
import pytest
from imports import ROOT
from made.command import histill
from made.held import HeldFile, held
from made.processes import until
from made.python_server import loaded_python
from made.slurm import Slurm, missing, slurm

from pipeline.base.errors import ClusterError, ParamsError
from pipeline.base.store import Store
from pipeline.cluster.client import versions
from pipeline.cluster.spread import each
from pipeline.cluster.started import clusters_end
from pipeline.params.site import ClusterParams
from pipeline.params.tokens import TokensParams

# Dask's own sockets are closed by the garbage collector when a connection is lost.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
OPTIONS = {
    "memory": "500MB",
    "walltime": "00:05:00",
    "interface": "lo",
    "death_timeout": 10,
    # A worker that finds its libraries loaded; the nanny of one would start Python itself.
    "python": loaded_python(),
    "worker_extra_args": ["--no-nanny"],
}


@pytest.fixture(scope="module")
def slurm_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if missing():
        pytest.skip(missing())
    with slurm(tmp_path_factory.mktemp("slurm")) as one:
        yield one


@pytest.fixture
def cluster(slurm_of_module: Slurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Slurm]:
    """SLURM, as this process's environment names it; jobs find the code and these tests."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_of_module.conf))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, Path(__file__).parent))))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    with on_slurm.lost_soon():
        yield slurm_of_module


def params(**said: object) -> ClusterParams:
    given = {"kind": "slurm", "workers": 2, "options": OPTIONS}
    return ClusterParams.model_validate(given | said)


def tasks_of(names: str, store: Store) -> list[on_slurm.Task]:
    """All but the first read a file that is held."""
    reads = store.root.with_name("held")
    reads.touch()
    return [on_slurm.Task(store, name, reads=reads if name != names[0] else None) for name in names]


def test_work_outlasts_a_job_that_is_cancelled(cluster: Slurm, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    tasks = tasks_of("abcdefgh", store)
    jobs = []
    with clusters_end(), held(tmp_path / "held") as file:
        for _, job in each(on_slurm.make, tasks, params(workers=1)):
            if not jobs:
                until(file.is_read)
                cluster.ask("scancel", str(job))
                until(lambda gone=str(job): cluster.is_over(gone))
                file.put_back()
            jobs.append(job)
    assert len(jobs) == 8 and len(set(jobs)) == 2, jobs
    begun = (tmp_path / "store" / "begun").read_text().split()
    assert sorted(begun) == list("abbcdefgh"), "only what the job was at is done again"
    assert "".join(ref.item for ref in store.own_refs()) == "abcdefgh"
    until(lambda: not cluster.jobs())


class Outrun(NamedTuple):
    """A stage on a SLURM of its own whose first job's walltime ends before its work does."""

    cluster: Slurm
    stage: subprocess.Popen[str]
    job: str
    store: Store
    file: HeldFile
    """That each of its tasks reads."""


@pytest.fixture(scope="module", autouse=True)
def outrun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outrun | None]:
    """Begun before the other tests: SLURM looks for jobs that are over their time every half minute."""
    if missing():
        yield None
        return
    folder = tmp_path_factory.mktemp("outrun")
    (folder / "store").mkdir()
    (folder / "held").touch()
    with slurm(tmp_path_factory.mktemp("slurm")) as one, held(folder / "held") as file:
        code = os.pathsep.join(map(str, (ROOT, Path(__file__).parent)))
        environment = {**one.environment, "PYTHONPATH": code}
        told = [str(folder / "store"), params(workers=1).model_dump_json(), str(folder / "held")]
        words = [loaded_python(), on_slurm.__file__, *told]
        stage = subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            until(file.is_read)
            (job,) = one.jobs()
            end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 2))
            one.ask("scontrol", "update", f"JobId={job}", f"EndTime={end}")
            yield Outrun(one, stage, job, Store(folder / "store"), file)
        finally:
            stage.kill()
            stage.communicate()


def test_a_job_that_slurm_takes_back_or_a_node_loses_ends_no_run(cluster: Slurm, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    tasks = tasks_of("abcdefghij", store)
    jobs: list[str] = []
    with clusters_end(), held(tmp_path / "held") as file:
        for _, job in each(on_slurm.make, tasks, params(workers=1)):
            jobs.append(str(job))
            if len(jobs) == 1:
                until(file.is_read)
                # What preemption does: the job is killed, and waits in the queue to be started again.
                cluster.ask("scontrol", "requeue", jobs[0])
                until(lambda: cluster.is_over(jobs[0]))
                file.put_back()
            elif len(jobs) == 6:
                cluster.kill("n1")
    begun = (tmp_path / "store" / "begun").read_text().split()
    assert sorted(begun) == list("abbcdefghij"), "only what the job was at is done again"
    assert "".join(ref.item for ref in store.own_refs()) == "abcdefghij"
    # What the daemon should have ended it ends when it is back.
    cluster.start_node("n1")
    until(lambda: not cluster.ask("squeue", "-h"))


def test_a_job_that_is_never_started_ends_the_run(cluster: Slurm, tmp_path: Path) -> None:
    waiting = params(options={**OPTIONS, "queue": "shut"}, patience_minutes=0.1, least=1)
    with pytest.raises(ClusterError, match=r"no worker came in 0\.1 minutes"), clusters_end():
        list(each(on_slurm.make, [on_slurm.Task(Store(tmp_path / "store"), "a")], waiting))
    until(lambda: not cluster.jobs())


@pytest.mark.parametrize(("number", "queue"), [(signal.SIGTERM, "shut"), (signal.SIGKILL, "main")])
def test_a_killed_stage_leaves_no_job(number: signal.Signals, queue: str, cluster: Slurm, tmp_path: Path) -> None:
    told = params(options={**OPTIONS, "queue": queue}, least=1).model_dump_json()
    words = [loaded_python(), on_slurm.__file__, str(tmp_path / "store"), told]
    stage = subprocess.Popen(words, stderr=subprocess.PIPE)
    try:
        until(lambda: cluster.jobs() if queue == "shut" else (tmp_path / "store" / "begun").exists())
        stage.send_signal(number)
        stage.wait(600)
    finally:
        stage.kill()
        stage.communicate()
    assert stage.returncode == (128 + number if number == signal.SIGTERM else -number)
    until(lambda: not cluster.jobs())


def test_what_slurm_would_not_take_is_said_before_anything_is_submitted(cluster: Slurm) -> None:
    before = cluster.ask("squeue", "-h", "-t", "all")
    with pytest.raises(ClusterError, match="SLURM would not take its jobs"), clusters_end():
        list(each(time.sleep, [0.0], params(options={**OPTIONS, "queue": "none-such"})))
    assert cluster.ask("squeue", "-h", "-t", "all") == before


SMALL = {"slides": {"demo_px": 512}, "tiles": {"tile_px": 64}}


def test_check_has_a_slide_go_through_each_stage_there(
    cluster: Slurm, tiny_params: TokensParams, tmp_path: Path
) -> None:
    tokens = tiny_params.model_dump(mode="json", exclude_unset=True)
    told = {"cluster": params(workers=1).model_dump(mode="json"), **SMALL, "tokens": tokens}
    (tmp_path / "params.yaml").write_text(json.dumps(told))
    (tmp_path / "slides.csv").write_text("path\ndemo:3\n")
    done = histill(tmp_path, "cluster", "check", "--json", HISTILL_STORE=str(tmp_path / "store"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] and [one["stage"] for one in found["stages"]] == ["slides", "tiles", "tokens"]
    for one in found["stages"]:
        assert one["seen"]["store"] == "" and one["seen"]["open_files"] != 0 and one["seen"]["cores"] >= 1
        assert one["seen"]["versions"] == versions() and one["seconds"] > 0
    assert [one["made"] for one in found["stages"]][1:] == ["32 tiles of demo-3"] * 2
    assert not list((tmp_path / "store").glob(".trial-*")), "what it made goes with it"
    until(lambda: not cluster.jobs())


def test_check_ends_at_the_stage_that_fails(tmp_path: Path) -> None:
    small = {**SMALL, "tokens": {"teacher": "no_such_teacher"}, "cluster": {"workers": 1}}
    (tmp_path / "params.yaml").write_text(json.dumps(small))
    (tmp_path / "slides.csv").write_text("path\ndemo:3\n")
    environment = {"HISTILL_STORE": str(tmp_path / "store")}
    done = histill(tmp_path, "cluster", "check", "--json", **environment)
    assert done.returncode == 1 and "histill cluster check: tokens" in done.stderr and "no_such_teacher" in done.stderr
    found = json.loads(done.stdout)
    assert [bool(one["wrong"]) for one in found["stages"]] == [False, False, True] and not found["ok"]
    done = histill(tmp_path, "cluster", "check", "--slide", "gone", **environment)
    assert done.returncode == 1 and "no slide gone" in done.stderr and "it has demo-3" in done.stderr
    assert not list((tmp_path / "store").glob(".trial-*"))


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("slurm", {"memry": "1GB"}, "did you mean 'memory'"),
        ("kubernetes", {"imag": "x"}, "did you mean 'image'"),
        ("ssh", {"host": ["a"]}, "did you mean 'hosts'"),
    ],
)
def test_an_option_that_the_library_has_not_is_refused(kind: str, options: dict[str, object], said: str) -> None:
    pytest.importorskip({"slurm": "dask_jobqueue", "kubernetes": "dask_kubernetes", "ssh": "asyncssh"}[kind])
    with pytest.raises(ParamsError) as caught:
        list(each(time.sleep, [0.0], params(kind=kind, options=options)))
    assert said in str(caught.value)


def test_without_slurm_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="no sbatch here"):
        list(each(time.sleep, [0.0], params()))


@pytest.mark.parametrize(
    "told",
    [
        {"kind": "slurm"},
        {"kind": "slurm", "workers": 2, "scheduler": "tcp://h:1"},
        {"options": {"memory": "1GB"}},
    ],
)
def test_params_that_name_no_one_cluster_are_refused(told: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"cluster|workers|kind"):
        ClusterParams.model_validate(told)


def test_work_outlasts_a_walltime_that_is_shorter(outrun: Outrun | None) -> None:
    if outrun is None:
        pytest.skip(missing())
    until(lambda: outrun.cluster.is_over(outrun.job))
    outrun.file.put_back()
    outrun.file.let_go()
    _, said = outrun.stage.communicate(timeout=600)
    assert outrun.stage.returncode == 0, said
    ended = outrun.cluster.ask("squeue", "-h", "-t", "all", "-o", "%T").split()
    assert "TIMEOUT" in ended and len(ended) >= 2, ended
    begun = (outrun.store.root / "begun").read_text().split()
    assert "".join(ref.item for ref in outrun.store.own_refs()) == "abcdefghijklmnop"
    assert sorted(begun) == list("aabcdefghijklmnop"), "what the walltime cut short is done again"
    until(lambda: not outrun.cluster.jobs())
