"""One store, several people: real users of one group, each in a process of their own."""

from __future__ import annotations

import grp
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.base.store import Ref, Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
ALICE, BOB = 61001, 61002
GROUP = next((group for group in grp.getgrall() if group.gr_gid == 100), grp.getgrall()[-1])
REF = Ref("tokens", "recipe", "slide")
PRELUDE = """
import os, sys
from pathlib import Path
from pipeline.base.errors import StoreReadOnly
from pipeline.base.files import write_atomic
from pipeline.base.store import Ref, Store
from pipeline.upkeep.group import share
{imports}
os.setgroups([{gid}]); os.setgid({uid}); os.setuid({uid}); os.umask({umask})
store, ref, other = Store({root!r}), Ref("tokens", "recipe", "slide"), Ref("tokens", "recipe", "other")
def refused(ref):
    try:
        with store.write(ref, {{}}): pass
    except StoreReadOnly as error:
        print(error)
"""
IMPORTS = """
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, zarr
from safetensors.numpy import save_file
from pipeline.base.arrays import ArrayWriter
"""
FILL = """
with store.write(ref, {}) as folder:
    ArrayWriter(folder / "cls", (2, 3), 2, np.int8).write(0, np.ones((2, 3), np.int8))
    pq.write_table(pa.table({"x": [1]}), folder / "tiles.parquet")
    save_file({"w": np.ones(3)}, folder / "weights.safetensors")
    write_atomic(folder / "meta.json", b"{}")
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """A group's store, in a folder that every user reaches."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    store = folder / "store"
    store.mkdir()
    os.chown(store, ALICE, GROUP.gr_gid)
    store.chmod(0o2775)
    yield store
    shutil.rmtree(folder)


def start(root: Path, uid: int, code: str, umask: int = 0o002) -> subprocess.Popen[str]:
    imports = IMPORTS if code == FILL else ""
    prelude = PRELUDE.format(uid=uid, gid=GROUP.gr_gid, umask=umask, root=str(root), imports=imports)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", prelude + code], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def said_by(root: Path, uid: int, code: str, umask: int = 0o002) -> str:
    """What a user's process prints; it has to end well."""
    process = start(root, uid, code, umask)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


def writing(code: str) -> str:
    """A program that writes the item, going on in what there is of it."""
    return f"with store.write(ref, {{}}, resume=True) as folder:\n    {code}\n"


def waiting(root: Path, uid: int, code: str) -> subprocess.Popen[str]:
    """A user's process that has done what it is told in a partial folder of the item, and lives."""
    process = start(root, uid, writing(f"{code}; print(flush=True); sys.stdin.readline()"))
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "\n", process.stderr.read()
    return process


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_whatever_one_writes_the_other_reads_goes_on_in_and_deletes(root: Path) -> None:
    said_by(root, ALICE, FILL)
    paths = list(root.rglob("*"))
    assert {path.name for path in paths} >= {"recipe.json", "weights.safetensors", "tiles.parquet", "item.json", "cls"}
    for path in paths:
        status = path.stat()
        wanted = stat.S_ISGID | 0o770 if path.is_dir() else 0o660
        assert (status.st_gid, status.st_mode & wanted) == (GROUP.gr_gid, wanted), path
    said_by(
        root, BOB, "store.verify(ref)\nassert store.delete(ref)\nassert not list(store.root.glob('*/*/.*.deleted'))"
    )
    killed(waiting(root, ALICE, "write_atomic(folder / 'chunk-0', b'hers')"))
    assert said_by(root, BOB, writing("print((folder / 'chunk-0').read_text())")) == "hers\n"
    Store(root).verify(REF)


def test_a_partial_of_another_user_blocks_nobody_living_or_dead_open_or_closed(root: Path) -> None:
    living = waiting(root, ALICE, "pass")
    killed(waiting(root, ALICE, "folder.chmod(0o700)"))
    said_by(root, BOB, "assert store.being_written(ref)\n" + writing("assert not list(folder.iterdir())"))
    living.communicate("go\n", timeout=600)
    assert living.returncode == 0 and Store(root).has(REF)


def test_a_umask_that_shuts_the_group_out_is_refused_with_what_to_say(root: Path) -> None:
    said = said_by(root, BOB, "refused(ref)", umask=0o022)
    assert "umask 022" in said and "say `umask 002`" in said
    assert not Store(root).has(REF)


def test_a_store_of_ones_own_becomes_the_groups(root: Path) -> None:
    own = root / "own"
    said_by(own, ALICE, writing("write_atomic(folder / 'data', b'')"), umask=0o022)
    assert "docs/sharing.md" in said_by(own, BOB, "refused(other)")
    assert said_by(own, ALICE, f"print(share(store.root, {GROUP.gr_name!r}))") == "0\n"
    assert said_by(own, BOB, "store.verify(ref); refused(other)") == ""
    assert Store(own).has(Ref("tokens", "recipe", "other"))
