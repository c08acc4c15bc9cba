"""Mapped files: what they hold, and what they do not: descriptors, nor more maps than the machine allows."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest

from pipeline.base import maps
from pipeline.base.limits import open_files, open_files_left
from pipeline.base.maps import MapsOf, map_file


def mapped_now(file: Path) -> int:
    """How many maps of that file this process has."""
    return Path("/proc/self/maps").read_text().count(f" {file}\n")


def test_a_map_is_read_only_holds_no_descriptor_and_goes_with_the_last_view_of_it(tmp_path: Path) -> None:
    file = tmp_path / "numbers"
    np.arange(1000, dtype=np.int16).tofile(file)
    before = open_files()
    bytes_ = map_file(file, 2000)
    view = bytes_.view(np.int16).reshape(10, 100)[3:5]
    assert open_files() == before and mapped_now(file) == 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True
    del bytes_
    assert mapped_now(file) == 1 and view[0, 0] == 300
    del view
    assert mapped_now(file) == 0


def test_what_cannot_be_mapped_is_an_error_and_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"1234")
    before = open_files()
    with pytest.raises(ValueError, match="4 bytes, not 5"):
        map_file(tmp_path / "short", 5)
    with pytest.raises(FileNotFoundError):
        map_file(tmp_path / "missing", 5)
    with pytest.raises(OSError, match="cannot be mapped"):
        map_file(tmp_path, 1)
    assert open_files() == before


def test_where_the_system_refuses_another_map_those_held_are_given_up(tmp_path: Path) -> None:
    file, held = tmp_path / "large", MapsOf()
    nbytes = 1 << 33
    with open(file, "wb") as out:
        out.truncate(nbytes)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 3 * nbytes // 2, limits[1]))
    try:
        for number in range(3):
            held.keep(number, map_file(file, nbytes))
            assert mapped_now(file) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_limits_are_those_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = int(Path("/proc/sys/vm/max_map_count").read_text())
    assert maps.maps_allowed() <= allowed // 4
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = open_files()
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 100, limits[1]))
    try:
        assert 0 < open_files_left() < 100
        handles = [os.open("/dev/null", os.O_RDONLY) for _ in range(open_files_left())]
        for handle in handles:
            os.close(handle)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
