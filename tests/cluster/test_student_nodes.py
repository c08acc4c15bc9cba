"""One student over two nodes, by the examples as they stand: a real SLURM's job, and two machines without one."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from imports import ROOT
from made import stopping
from made.cache import make_cache
from made.processes import processes, state_of, until
from made.python_server import loaded_python
from made.slurm import Slurm, free_port, missing, slurm

STUDENT = {
    "model": "test_efficientnet",
    "epochs": 3,
    "batch_size": 8,
    "block_rows": 4,
    "buffer_rows": 16,
    "checkpoint_minutes": 0,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training needs of a checkout: its params, what the stages before have made, an environment to activate."""
    root = tmp_path_factory.mktemp("project")
    cache = make_cache(root)
    cache.tiles.save(root / "artifacts" / "tiles.json")
    cache.tokens.save(root / "artifacts" / "tokens.json")
    told = {"student": STUDENT, "store": {"root": str(root / "store")}}
    (root / "params.yaml").write_text(yaml.safe_dump(told))
    shutil.copytree(ROOT / "examples", root / "examples")
    programs = root / ".venv" / "bin"
    programs.mkdir(parents=True)
    python = loaded_python()
    exported = f"PATH={programs}:$PATH PYTHONPATH={ROOT} PYTHON_EXEC={programs / 'rank'}"
    (programs / "activate").write_text(f"export {exported}\n")
    # torchrun's words are `-u -m MODULE`.
    scripts = {
        "torchrun": f'exec {python} -m torch.distributed.run "$@"',
        "rank": f'[ "$RANKS" ] || exec {python} "$@"; shift 2; exec {python} -u {stopping.__file__} "$RANKS" "$@"',
    }
    for name, line in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    return root


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if missing():
        pytest.skip(missing())
    with slurm(tmp_path_factory.mktemp("slurm"), nodes=2) as one:
        yield one


def test_a_rank_that_dies_ends_the_job_and_requeued_it_goes_on(two_nodes: Slurm, project: Path) -> None:
    ranks = project / "ranks"
    ranks.mkdir()
    job = subprocess.run(
        ["sbatch", "--parsable", "--nodes=2", "--cpus-per-task=1", "examples/student.sbatch"],
        cwd=project,
        env={**two_nodes.environment, "RANKS": str(ranks)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    log = project / f"student-{job}.log"
    until(lambda: (ranks / "stopped").exists() and state_of(int((ranks / "0").read_text())) == "T")
    for rank, number in (("1", signal.SIGKILL), ("0", signal.SIGCONT)):
        os.kill(int((ranks / rank).read_text()), number)
    until(lambda: "JobState=FAILED" in two_nodes.ask("scontrol", "show", "job", job))
    said = log.read_text()
    assert "Root Cause" in said and "Signal 9 (SIGKILL)" in said, said
    assert "2 processes: another number of them trains another student, since each process's batch norm" in said
    until(lambda: not processes(SLURM_JOB_ID=job))
    assert not (project / "artifacts" / "student.json").exists()

    # A job that is still being put away cannot be started again.
    until(lambda: not two_nodes.ask("squeue", "-h"))
    two_nodes.ask("scontrol", "requeue", job)
    started = []

    def ended() -> bool:
        (state,) = re.findall(r"JobState=(\w+)", two_nodes.ask("scontrol", "show", "job", job))
        if state == "PENDING":
            # By itself it would wait until the credentials of its first start have expired, which are for two minutes.
            two_nodes.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
        started.extend([state] if state in ("RUNNING", "COMPLETED") else [])
        assert not (started and state == "FAILED"), log.read_text()
        return state == "COMPLETED"

    until(ended)
    measured = json.loads((project / "metrics" / "student.json").read_text())
    assert 0 < measured["resumed_from"] < measured["steps"] == 15
    made = json.loads((project / "artifacts" / "student.json").read_text())
    assert (made["recipe"]["world"], made["recipe"]["shards"]) == (2, 2)


def test_two_machines_without_a_batch_system_train_the_same(project: Path) -> None:
    before = (
        (project / "artifacts" / "student.json").read_bytes() if (project / "artifacts/student.json").exists() else b""
    )
    words = ["examples/student_nodes.sh", f"127.0.0.1:{free_port()}", "2", "1"]
    machines = [subprocess.Popen(words, cwd=project, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [machine.communicate(timeout=600)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    made = (project / "artifacts" / "student.json").read_bytes()
    assert json.loads(made)["recipe"]["world"] == 2
    if before:
        assert made == before and json.loads((project / "metrics" / "student.json").read_text())["cached"] == 1
