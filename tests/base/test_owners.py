"""Whether an owner lives: its process on this machine, its lock in another container, its beat from another machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made.partials import partials
from made.processes import until

from pipeline.base.errors import StoreError
from pipeline.base.living import owners
from pipeline.base.living.owners import LEASE_S, Process, State, me, own, settle, state
from pipeline.base.store import Ref, Store

REF = Ref("tokens", "recipe", "slide")
ELSEWHERE = {"host": "node7", "machine": "another", "boot": "another", "namespace": "another"}


def owned_by(path: Path, **changed: object) -> Path:
    """A file as this process would have made it, were it another one."""
    path.write_text(me().model_copy(update=changed).model_dump_json())
    return path


def touched_ago(path: Path, seconds: float) -> None:
    ns = time.time_ns() - round(seconds * 1e9)
    os.utime(path, ns=(ns, ns))


def test_an_owner_lives_until_it_releases(tmp_path: Path) -> None:
    owner = own(tmp_path / "a.owner")
    assert state(owner.path) is State.LIVES
    owner.release()
    assert state(tmp_path / "a.owner") is State.DEAD and not list(tmp_path.iterdir())


def test_a_process_of_this_machine_is_looked_for_whatever_locks_say(tmp_path: Path) -> None:
    """As where the file system has no locks: the file of this process is there, and unlocked."""
    assert state(owned_by(tmp_path / "a.owner")) is State.LIVES
    assert state(owned_by(tmp_path / "b.owner", pid=2**30)) is State.DEAD
    assert state(owned_by(tmp_path / "c.owner", started="another process of this number")) is State.DEAD


def test_a_child_that_was_killed_is_dead_before_its_parent_has_noticed(tmp_path: Path) -> None:
    code = (
        "import time\nfrom pathlib import Path\nfrom pipeline.base.living.owners import own\n"
        f"own(Path({str(tmp_path)!r}) / 'a.owner')\nprint(flush=True)\ntime.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline()
    assert state(tmp_path / "a.owner") is State.LIVES
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert state(tmp_path / "a.owner") is State.DEAD
    child.communicate()


def test_in_another_container_the_lock_decides(tmp_path: Path) -> None:
    owner = own(tmp_path / "a.owner")
    told = Process.model_validate_json(owner.path.read_bytes())
    assert told.locked, "the tests' file system locks"
    owner.path.write_text(told.model_copy(update={"namespace": "another"}).model_dump_json())
    assert state(owner.path) is State.LIVES
    os.close(owner.handle)
    assert state(owner.path) is State.DEAD
    owners._HEART.forget(owner.handle)


def test_on_another_machine_the_beat_decides(tmp_path: Path) -> None:
    path = owned_by(tmp_path / "a.owner", **ELSEWHERE)
    assert state(path) is State.BEATS
    touched_ago(path, LEASE_S / 2)
    assert state(path) is State.BEATS
    touched_ago(path, LEASE_S + 10)
    assert state(path) is State.DEAD


def test_what_this_machine_had_before_it_was_started_again_is_dead(tmp_path: Path) -> None:
    if not me().machine:
        pytest.skip("this machine has no /etc/machine-id")
    assert state(owned_by(tmp_path / "a.owner", boot="the one before")) is State.DEAD


def test_owners_beat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "BEAT_S", 0.01)
    monkeypatch.setattr(owners, "_HEART", owners._Heart())
    owner = own(tmp_path / "a.owner")
    touched_ago(owner.path, 1000)
    before = owner.path.stat().st_mtime_ns
    until(lambda: owner.path.stat().st_mtime_ns != before, 0.01)
    owner.release()


def test_the_clock_is_the_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = owned_by(tmp_path / "a.owner", **ELSEWHERE)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert state(path) is State.BEATS


def test_who_would_go_on_waits_until_a_silent_machine_is_given_up(tmp_path: Path) -> None:
    store, orphan = Store(tmp_path), tmp_path / "tokens" / "recipe" / ".partials" / "slide" / "0"
    orphan.mkdir(parents=True)
    (orphan / "chunk-0").write_bytes(b"finished")
    path = owned_by(orphan.with_suffix(".owner"), **ELSEWHERE)
    assert store.being_written(REF)
    touched_ago(path, LEASE_S - 1.5)
    with store.write(REF, {}, resume=True) as folder:
        assert (folder / "chunk-0").read_bytes() == b"finished"
    assert store.has(REF) and not partials(store)


def test_a_machine_that_beats_is_not_waited_for_and_keeps_its_partial(tmp_path: Path) -> None:
    store, theirs = Store(tmp_path), tmp_path / "tokens" / "recipe" / ".partials" / "slide" / "0"
    theirs.mkdir(parents=True)
    (theirs / "chunk-0").write_bytes(b"theirs")
    path = owned_by(theirs.with_suffix(".owner"), **ELSEWHERE)
    touched_ago(path, 20)
    settled = threading.Event()

    def beat() -> None:
        while not settled.wait(0.2):
            os.utime(path)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(beat)
        assert settle(path) is State.BEATS
        settled.set()
    with store.write(REF, {}) as folder:
        assert not list(folder.iterdir())
    assert (theirs / "chunk-0").read_bytes() == b"theirs" and path.exists()


def test_a_writer_whose_partial_was_taken_over_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(StoreError, match="another machine took it over"), store.write(REF, {}, resume=True) as folder:
        folder.rename(folder.with_name("theirs"))
        (folder / "chunk").write_bytes(b"")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_owns_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its parent was just beating, and held what a beat holds."""
    heart = owners._Heart()
    monkeypatch.setattr(owners, "_HEART", heart)
    with heart._mutex:
        pid = os.fork()
        if pid == 0:
            signal.alarm(600)
            own(tmp_path / "a.owner")
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert Process.model_validate_json((tmp_path / "a.owner").read_bytes()).pid == pid
    assert state(tmp_path / "a.owner") is State.DEAD
