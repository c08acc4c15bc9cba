"""A store that a group of people writes: its folders are the group's, and what is made in them is too."""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path

from pipeline.base.errors import StoreReadOnly
from pipeline.base.files import umask


def share(root: Path, group: str) -> int:
    """Make a store, and all that is in it, a group's to read and write: chgrp, g+rw, and g+s on folders.

    Files that it leaves alone are those of other users, who have to do the same; their number is given back. Raises
    `StoreReadOnly` where the group is unknown, not one's own, or the store another user's.
    """
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        raise StoreReadOnly(f"there is no group {group}", where=str(root), fix="see `id` for yours") from None
    try:
        root.mkdir(parents=True, exist_ok=True)
        _give(root, gid)
    except PermissionError as error:
        fix = f"have its owner do it, and be in the group yourself (`id` names your groups; {group} has to be one)"
        raise StoreReadOnly(f"cannot give it to {group}: {error.strerror}", where=str(root), fix=fix) from error
    left = 0
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            try:
                _give(Path(folder) / name, gid)
            except PermissionError:
                left += 1
            except FileNotFoundError:
                # A writer that is at work has committed or dropped it.
                continue
    return left


def advice() -> str:
    """What a member has to say first, where the umask is not yet right; empty where it is."""
    return f"your umask is {umask():03o}: say `umask 002`, in ~/.profile" if umask() & stat.S_IWGRP else ""


def _give(path: Path, gid: int) -> None:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return
    if status.st_gid != gid:
        os.chown(path, -1, gid)
    wanted = 0o2770 if stat.S_ISDIR(status.st_mode) else 0o660
    mode = stat.S_IMODE(status.st_mode)
    if mode & wanted != wanted:
        path.chmod(mode | wanted)
