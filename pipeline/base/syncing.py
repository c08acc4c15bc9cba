"""Making what was written last: it survives a power cut once one of these has returned.

Files that were written together are synced together, by one `syncfs`: a journal is then written once, not once for
each file and folder (on an ext4: 3 to 10 ms for an item of 20, not 80). That also waits for what others have written to
the same disk and not synced; so a large item, whose own bytes take longer than its files, is synced file by file, as
is all on file systems of several machines.
"""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

from pipeline.base.files import open_to, umask

_JOURNALED = frozenset({"ext4", "xfs", "tmpfs"})
"""Local file systems of which `syncfs` writes all and tells what could not be written."""
_TELLS = (5, 8)
"""Linux since which it does tell."""
_LARGE = 32 << 20
"""Bytes of what is synced file by file."""
_FEW = 3
_LIBC = ctypes.CDLL(None, use_errno=True)
_WRITE = 2
"""SYNC_FILE_RANGE_WRITE."""
_begin = getattr(_LIBC, "sync_file_range", None)
if _begin is not None:
    _begin.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def sync_tree(folder: Path) -> None:
    """Make everything in a folder, and the folder itself, last, and readable to whom the umask lets."""
    mask, paths, nbytes = umask(), [f"{folder}"], 0
    for parent, folders, names in os.walk(folder):
        paths += [f"{parent}/{name}" for name in folders]
        for name in names:
            paths.append(f"{parent}/{name}")
            nbytes += open_to(mask, paths[-1]).st_size
        for name in folders:
            open_to(mask, f"{parent}/{name}")
    if len(paths) > _FEW and nbytes < _LARGE and syncs_at_once(folder):
        sync_file_system(folder)
        return
    # What is in a folder before the folder.
    for path in reversed(paths):
        sync_file(path)


def sync_file(path: Path | str) -> None:
    """fsync a file, or a folder's entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file_system(folder: Path) -> None:
    """syncfs of what a folder is on. Raises OSError where something on it could not be written."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        if _LIBC.syncfs(handle):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(handle)


def begin_writing(handle: int) -> None:
    """Let the disk begin with what was written to an open file: whoever syncs it later waits for less.

    Nothing is made last by it, and what cannot be written the sync says. Linux alone has it.
    """
    if _begin is not None:
        _begin(handle, 0, 0, _WRITE)


def syncs_at_once(folder: Path) -> bool:
    """Whether `sync_file_system` is to be trusted with what is in a folder."""
    device = folder.stat().st_dev
    if device not in _trusted:
        version = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
        _trusted[device] = version >= _TELLS and file_system(folder) in _JOURNALED
    return _trusted[device]


_trusted: dict[int, bool] = {}
"""By the number of the device: to find its kind is to read all mounts."""


def file_system(folder: Path) -> str:
    """The kernel's name for the kind of file system that a folder is on (`ext4`, `nfs4`, `fuse.sshfs`)."""
    inside, found, best = folder.resolve(), "an unknown file system", -1
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        # Blanks in names are octal there.
        mount = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split()[4]))
        # Of several on one mount point, the last one counts.
        if inside.is_relative_to(mount) and len(mount.parts) >= best:
            found, best = right.split()[0], len(mount.parts)
    return found
