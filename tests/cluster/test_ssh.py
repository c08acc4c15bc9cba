"""A stage starts its workers over ssh, by a real sshd here: a lost host, and a killed stage."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import on_slurm
import pytest
from imports import ROOT
from made.held import held
from made.processes import processes, until
from made.python_server import SOCKET, loaded_python
from made.sshd import missing, sshd

from pipeline.base.errors import ClusterError
from pipeline.base.store import Store
from pipeline.cluster.spread import each
from pipeline.cluster.started import clusters_end
from pipeline.params.site import ClusterParams

# Dask's own sockets are closed by the garbage collector when a connection is lost.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
MARK = {"OF_TEST": uuid.uuid4().hex}


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    pytest.importorskip("asyncssh")
    if missing():
        pytest.skip(missing())
    code = os.pathsep.join(map(str, (ROOT, Path(__file__).parent)))
    environment = {"PYTHONPATH": code, SOCKET: os.environ[SOCKET], "OMP_NUM_THREADS": "1", **MARK}
    with sshd(tmp_path_factory.mktemp("sshd"), environment) as told:
        yield told


def params(connect: dict[str, Any], hosts: int) -> ClusterParams:
    options = {
        "hosts": ["127.0.0.1"] * (1 + hosts),
        "connect_options": connect,
        "remote_python": loaded_python(),
        "worker_class": "distributed.Worker",
    }
    return ClusterParams.model_validate({"kind": "ssh", "workers": hosts, "options": options})


def test_work_outlasts_a_host_that_is_lost_and_leaves_nothing(connect: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    store = Store(tmp_path / "store")
    (tmp_path / "held").touch()
    tasks = [on_slurm.Task(store, name, reads=tmp_path / "held" if name != "a" else None) for name in "abcdefgh"]
    workers = []
    with clusters_end(), held(tmp_path / "held") as file:
        for _, worker in each(on_slurm.make, tasks, params(connect, 2)):
            if not workers:
                until(file.is_read)
                os.kill(int(str(worker)), signal.SIGKILL)
                file.put_back()
                file.let_go()
            workers.append(worker)
    assert len(workers) == 8 and len(set(workers)) == 2
    assert "".join(ref.item for ref in store.own_refs()) == "abcdefgh"
    begun = (tmp_path / "store" / "begun").read_text().split()
    assert set(begun) == set("abcdefgh") and len(begun) <= 9, "what the lost host had made is not made again"
    until(lambda: not processes(**MARK))


def test_a_killed_stage_leaves_nothing_on_its_hosts(connect: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    words = [str(tmp_path / "store"), params(connect, 1).model_dump_json()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, Path(__file__).parent)))}
    stage = subprocess.Popen([loaded_python(), on_slurm.__file__, *words], env=environment, stderr=subprocess.PIPE)
    try:
        until(lambda: (tmp_path / "store" / "begun").exists())
        assert processes(**MARK)
    finally:
        stage.kill()
        stage.communicate()
    until(lambda: not processes(**MARK))


def test_a_host_that_does_not_answer_is_an_error_of_a_line_and_leaves_nothing(connect: dict[str, Any]) -> None:
    told = params(connect, 1)
    options = {**told.options, "connect_options": [connect, {**connect, "port": 9}]}
    with pytest.raises(ClusterError, match=r"it cannot be started: .*Connect call failed"), clusters_end():
        list(each(len, ["a"], told.model_copy(update={"options": options})))
    until(lambda: not processes(**MARK))
