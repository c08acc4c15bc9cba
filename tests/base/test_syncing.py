"""What is written lasts: how often the disk is asked for it, and what it says where it could not be written.

In processes of their own, since the tests' own does not sync.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.base.syncing import syncs_at_once

COUNTED = """
import os, sys
from pathlib import Path
from pipeline.base import syncing
from pipeline.base.store import Ref, Store
calls = []
fsync = os.fsync
os.fsync = lambda handle: (calls.append(os.readlink(f"/proc/self/fd/{handle}")), fsync(handle))[1]
whole = syncing.sync_file_system
syncing.sync_file_system = lambda folder: (calls.append(f"all of {folder}"), whole(folder))[1]
with Store(sys.argv[1]).write(Ref("tokens", "r", "slide"), {}) as folder:
    for name in "abcdef":
        (folder / name).mkdir()
        (folder / name / "data").write_bytes(bytes(int(sys.argv[2])))
print(*calls, sep="\\n")
"""


def synced(store: Path, nbytes: int) -> list[str]:
    """What a writer of an item of six files of so many bytes syncs, relative to the store."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, str(store), str(nbytes)], capture_output=True, text=True, check=True
    )
    return done.stdout.replace(f"{store}/tokens/r", "").splitlines()


def test_the_files_of_a_small_item_are_synced_by_one_call_and_its_name_by_another(tmp_path: Path) -> None:
    if not syncs_at_once(tmp_path):
        pytest.skip("this file system is synced file by file")
    first, *calls = synced(tmp_path, 10)
    assert "recipe.json" in first
    assert len(calls) == 2 and calls[0].startswith("all of /.partials/slide/") and calls[1] == ""


def test_a_large_item_is_synced_file_by_file(tmp_path: Path) -> None:
    calls = synced(tmp_path, 6 << 20)
    names = [call.split("/", 4)[-1] for call in calls[1:-1]]
    # A folder's entries after what they name; the item's own last.
    assert {f"{name}/data" for name in "abcdef"} < set(names) and "item.json" in names
    assert all(names.index(f"{name}/data") < names.index(name) for name in "abcdef")
    assert len(names) == 14 and calls[-1] == ""
