"""A job uses what it was given of the machine: its affinity and its quota of CPU time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.base.limits import bound_threads, cpu_quota, usable_cores

USED = """
from pipeline.base.limits import usable_cores
from pipeline.base.partials import _HASH_THREADS
from pipeline.cluster.spread import processes
from pipeline.params.site import ClusterParams
print(usable_cores(), _HASH_THREADS, processes(100, ClusterParams()))
"""


@pytest.mark.skipif(not shutil.which("taskset"), reason="no taskset")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core cannot be fewer")
def test_a_job_that_may_use_one_core_makes_one_thread_and_one_process() -> None:
    core = str(min(os.sched_getaffinity(0)))
    command = ["taskset", "-c", core, sys.executable, "-c", USED]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["1", "1", "1"]


def test_the_cores_are_no_more_than_the_affinity_allows() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


def write(group: Path, **files: str) -> None:
    group.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (group / name.replace("__", ".")).write_text(text + "\n")


@pytest.mark.parametrize(
    ("own", "above", "cores"),
    [("150000 100000", "max 100000", 1.5), ("max 100000", "200000 100000", 2.0), ("max 100000", "max 100000", None)],
)
def test_the_quota_of_version_2_is_the_smallest_of_the_group_and_those_above(
    own: str, above: str, cores: float | None, tmp_path: Path
) -> None:
    write(tmp_path / "job_7/step_0", cpu__max=own)
    write(tmp_path / "job_7", cpu__max=above)
    (tmp_path / "groups").write_text("0::/job_7/step_0\n")
    assert cpu_quota(tmp_path / "groups", tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("50000", 0.5), ("-1", None)])
def test_the_quota_of_version_1_is_read_where_a_container_sees_it(
    quota: str, cores: float | None, tmp_path: Path
) -> None:
    write(tmp_path / "cpu,cpuacct", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    (tmp_path / "groups").write_text("9:name=systemd:/\n4:cpu,cpuacct:/docker/0123abcd\n0::/\n")
    assert cpu_quota(tmp_path / "groups", tmp_path) == cores


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "none", tmp_path) is None


@pytest.mark.parametrize(("given", "threads"), [(None, "1"), ("3", "3")])
def test_a_quota_bounds_the_pools_of_libraries_unless_the_person_has(
    given: str | None, threads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, cpu__max="50000 100000")
    (tmp_path / "groups").write_text("0::/\n")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    bound_threads(tmp_path / "groups", tmp_path)
    assert os.environ["OMP_NUM_THREADS"] == threads
    monkeypatch.delenv("OMP_NUM_THREADS")
