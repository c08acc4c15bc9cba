"""What `histill store prune` leaves: work that is under way, and what was left unfinished of late."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made.checkout import KEY, RECIPE, project, put
from made.partials import orphaned, partials
from small_disk import small_disk
from typer.testing import CliRunner, Result

from pipeline.base.errors import StoreFull
from pipeline.base.living.runs import announced, runs
from pipeline.base.store import Ref, Store
from stages.cli.store import store_cli

Prune = Callable[..., Result]


@pytest.fixture
def prune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prune:
    """`histill store prune …` in a project that names items a and c of its store, which holds a to d."""
    root = project(tmp_path / "project")
    monkeypatch.chdir(root)
    monkeypatch.setenv("HISTILL_STORE", str(tmp_path / "store"))
    for item in "abcd":
        put(Store(tmp_path / "store"), item)
    return lambda *words, answer=None: CliRunner().invoke(store_cli, ["prune", *words], input=answer)


def held(store: Store) -> list[str]:
    return sorted(ref.item for ref in store.refs())


def stage(store: Store, code: str) -> subprocess.Popen[str]:
    """A stage that runs in a process of its own: it does what it is told, says so, and waits for a line."""
    prelude = (
        "import sys\nfrom pathlib import Path\nfrom pipeline.base.living.runs import announced\n"
        "from pipeline.base.store import Ref, Store\n"
        f"store, key = Store({str(store.root)!r}), {KEY!r}\n"
        f"with announced(store.root, 'tokens', Path({str(store.root.parent / 'project')!r})):\n"
    )
    command = [sys.executable, "-c", f"{prelude}    {code}\n    print('ready', flush=True); sys.stdin.readline()\n"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_no_deletes_and_sweeps_nothing(prune: Prune, store: Store) -> None:
    orphan = orphaned(store, put(store, "e"))
    for name in (".", "data"):
        os.utime(orphan / name, (10**9, 10**9))
    assert "to delete: 2 items, 1 unfinished" in prune(answer="n\n").stdout
    assert held(store) == ["a", "b", "c", "d"] and partials(store) == [orphan]
    assert "deleted 2 items, swept 1 unfinished" in prune(answer="y\n").stdout
    assert held(store) == ["a", "c"] and not partials(store)


def test_what_a_killed_writer_left_stays_for_some_days(prune: Prune, store: Store) -> None:
    orphan = orphaned(store, put(store, "e"))
    shown = prune("--yes").stdout
    assert "left: 1 unfinished items, 1 B" in shown and partials(store) == [orphan]
    assert "would sweep" in prune("--yes", "--older-than", "0").stdout and not partials(store)


def test_what_a_running_stage_looks_at_or_writes_stays_and_for_some_days_what_a_killed_one_did(
    prune: Prune, store: Store
) -> None:
    running = stage(store, "assert store.has(Ref('tiles', key, 'b'))")
    try:
        assert "left: 2 items, 2 B: the stage `tokens` runs" in prune("--yes").stdout
        assert held(store) == ["a", "b", "c", "d"]
    finally:
        running.kill()
        running.communicate()
    assert "did not finish" in prune("--yes").stdout and held(store) == ["a", "b", "c", "d"]
    prune("--yes", "--older-than", "0")
    assert held(store) == ["a", "c"] and not runs(store.root)


def test_what_a_worker_commits_for_a_running_stage_stays(prune: Prune, store: Store) -> None:
    """Workers announce nothing: what was committed since the stage began is its."""
    running = stage(store, "pass")
    fresh = Ref("engines", KEY, "fresh")
    with store.write(fresh, RECIPE) as folder:
        (folder / "data").write_bytes(b"")
    assert "1 items, 0 B: the stage `tokens` runs" in prune("--yes").stdout
    assert store.has(fresh) and not store.has(Ref("tiles", KEY, "d"))
    running.communicate("go\n", timeout=600)
    prune("--yes")
    assert not store.has(fresh)


def test_a_stage_that_comes_to_hold_an_item_while_it_is_deleted_keeps_it(store: Store) -> None:
    ref = put(store, "d")
    assert not store.delete(ref, unless=lambda: "somebody has just announced it")
    assert store.has(ref)
    store.verify(ref)
    assert store.delete(ref) and not store.has(ref)


def test_a_run_that_ended_well_is_forgotten_with_those_before_it_that_had_come_less_far(
    store: Store, tmp_path: Path
) -> None:
    ref, other = put(store, "a"), Ref("engines", KEY, "a")
    for touched in ([ref], [ref, other]):
        with pytest.raises(KeyboardInterrupt), announced(store.root, "tokens", tmp_path):
            [store.has(one) for one in touched]
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), announced(store.root, "evaluate", tmp_path):
        raise KeyboardInterrupt
    assert len(runs(store.root)) == 3
    with announced(store.root, "tokens", tmp_path):
        assert store.has(ref)
        assert [run.living for run in runs(store.root)].count(True) == 1
    left = {(run.begun.stage, len(run.held)) for run in runs(store.root)}
    assert left == {("tokens", 2), ("evaluate", 0)}


def test_the_remedy_for_a_full_store_costs_nothing_of_what_the_run_has_made(
    prune: Prune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "small", "1m") as mount:
        monkeypatch.setenv("HISTILL_STORE", str(mount))
        store, old = Store(mount), Ref("tiles", "another", "old")
        named = put(store, "a")
        with store.write(old, {}) as folder:
            (folder / "data").write_bytes(bytes(500_000))

        def run() -> None:
            with announced(store.root, "tokens", tmp_path / "project"):
                for n in range(9):
                    ref = Ref("tokens", KEY, f"slide-{n}")
                    if not store.has(ref):
                        with store.write(ref, RECIPE, resume=True) as folder:
                            (folder / "chunk").write_bytes(bytes(80_000))

        with pytest.raises(StoreFull, match="leaves what this run has made"):
            run()
        made = [ref for ref in store.refs() if ref.kind == "tokens"]
        assert 0 < len(made) < 9 and len(partials(store)) == 1
        assert prune("--yes").exit_code == 0
        assert list(store.refs()) == [named, *made] and len(partials(store)) == 1
        run()
        assert len(list(store.refs())) == 10 and not partials(store)
