"""The store as this user has it: there, writable, lockable, with room, and of a group where one shares it."""

from __future__ import annotations

import grp
import os
import stat
import tempfile
from pathlib import Path

from pipeline.base.files import free_bytes, human, umask
from pipeline.base.store import Store
from pipeline.machine.finding import Finding, costs, stops
from pipeline.upkeep.group import advice
from pipeline.upkeep.locks import locks

LOW_NBYTES, NONE_NBYTES = 10_000_000_000, 100_000_000
_ELSEWHERE = "point HISTILL_STORE at a folder of your own; with HISTILL_STORE_BASE this one is still read"


def storing(store: Store) -> list[Finding]:
    """Nothing is left in it, and nothing made but a file that goes again."""
    place = store.root
    while not place.exists():
        place = place.parent
    writable = _writable(store.root, place)
    found = [writable, _free(store.root)]
    if store.root.is_dir() and not writable.mend:
        found.append(_locks(store.root))
    return [*found, _shared(store.root), *(_base(base) for base in store.bases)]


def _writable(root: Path, place: Path) -> Finding:
    """Tried: root may write where nobody else may, and a file system may be mounted read-only."""
    cost = "no stage can keep what it makes"
    if not place.is_dir():
        return stops("store", f"{root}: {place} is a file", cost, _ELSEWHERE)
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x")
    except OSError as error:
        return stops("store", f"{root}: {error.strerror}", cost, _ELSEWHERE)
    return Finding(what="store", found=f"{root}, writable" if root.exists() else f"{root}, which the first stage makes")


def _free(root: Path) -> Finding:
    free = free_bytes(root)
    mend = "free some space (`histill store prune`), or point HISTILL_STORE at a larger disk"
    if free < NONE_NBYTES:
        return stops("store.free", human(free), "nothing can be written", mend)
    if free < LOW_NBYTES:
        cost = "a ViT-L teacher's tokens are 0.2 MB a tile; `histill plan` says what your slides take"
        return costs("store.free", human(free), cost, mend)
    return Finding(what="store.free", found=human(free))


def _locks(root: Path) -> Finding:
    found = locks(root)
    if found.works:
        return Finding(what="store.locks", found=str(found))
    cost = "two runs at once may make the same slide twice; none is damaged"
    return costs("store.locks", str(found), cost, "mount it with locks (NFS: without nolock), or one run at a time")


def _shared(root: Path) -> Finding:
    mask = f"umask {umask():03o}"
    if not root.exists():
        return Finding(what="store.group", found=f"{mask}; not made yet")
    mode, gid = root.stat().st_mode, root.stat().st_gid
    try:
        name = grp.getgrgid(gid).gr_name
    except KeyError:
        name = str(gid)
    if mode & stat.S_ISGID and mode & stat.S_IWGRP:
        found = f"shared by {name}; {mask}"
        if advice():
            what = "what you write the others could not go on in: stages refuse to start"
            return stops("store.group", found, what, "umask 002, in ~/.profile")
        mine = gid in (os.getegid(), *os.getgroups()) or os.geteuid() == 0
        if not mine:
            return costs("store.group", found, f"you are not in {name}", f"be added to {name}, then log in again")
        return Finding(what="store.group", found=found)
    return Finding(what="store.group", found=f"your own ({name}); {mask}")


def _base(base: Path) -> Finding:
    if base.is_dir() and os.access(base, os.R_OK | os.X_OK):
        return Finding(what="store.base", found=f"{base}, read")
    mend = "mount it, or mend store.base (HISTILL_STORE_BASE)"
    return stops("store.base", f"{base} is not there or not readable", "what it holds would be made again", mend)
