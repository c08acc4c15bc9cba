"""What doctor says of a store's file system."""

from __future__ import annotations

from pathlib import Path

from small_disk import small_disk

from pipeline.base.syncing import file_system
from pipeline.upkeep.locks import Locks, locks


def test_two_processes_find_out_whether_locks_hold(tmp_path: Path) -> None:
    found = locks(tmp_path)
    assert found.works and not found.error
    assert f"flock works on {found.kind}" in str(found) and not list(tmp_path.iterdir())


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    with small_disk(tmp_path / "a b", "64k") as mount:
        (mount / "deep").mkdir()
        assert file_system(mount / "deep") == "tmpfs"


def test_where_machines_share_it_says_when_a_silent_one_is_given_up() -> None:
    assert "120 s" in str(Locks("nfs4", True)) and "120 s" in str(Locks("fuse.sshfs", False, " (No locks available)"))
    assert "120 s" not in str(Locks("ext4", True))
