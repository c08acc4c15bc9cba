"""Items that are being written, or were when their writer was killed.

    <recipe>/.partials/<item key>/<uuid>/         what a writer has made so far
    <recipe>/.partials/<item key>/<uuid>.owner    the writer's, for as long as it lives (owners.py)
    <recipe>/.partials/<item key>/<uuid>.deleted/ what is just being deleted

An item's partials are in a folder of their own, so that a write looks at them alone, however many items a recipe has.
A partial whose owner is dead is an orphan: the next writer of the item takes it over, to go on in it or to drop it.
To take over is to rename: of several who try, one succeeds. Nobody writes an item again that is committed, so what a
writer left that was killed just then is swept by the next stage that ends well with the recipe, or by a prune.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.files import tree_nbytes, write_atomic
from pipeline.base.living.owners import OWNER_SUFFIX, Owner, is_living, is_locked, own, settle

PARTIALS = ".partials"
_DELETED = ".deleted"
_LOOK_AGAIN_S = 0.1
"""After which a rival who gives way has done so."""
_EARLIER = ".*.partial"
"""Stores of earlier versions have partials beside the items: `.<item key>.<uuid>.partial`, with a file `.lock`."""


@dataclass(frozen=True)
class Claim:
    """A partial folder and the ownership of it."""

    folder: Path
    owner: Owner

    def release(self) -> None:
        """Give it up: what is still there is an orphan, anyone's to go on in or to sweep."""
        self.owner.release()
        _drop_if_empty(self.folder.parent)

    def give_way(self) -> None:
        """Give it up to somebody else; what was taken over stays an orphan."""
        _drop_if_empty(self.folder)
        self.release()

    def drop(self) -> None:
        """Give it up, and leave nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.release()


def claim(recipe: Path, item: str, *, resume: bool) -> Claim:
    """A partial folder of one's own: with `resume` an orphan of the same item, else an empty one. Other orphans go.

    Nobody waits for an owner that lives. With `resume` one waits until it is known whether an owner on another machine
    does, which is two minutes at most, since what a dead one had made would else be made again.
    """
    partials = recipe / PARTIALS
    if not partials.is_dir():
        partials.mkdir(exist_ok=True)
        _take_in(recipe)
    return claim_in(partials / item, resume=resume)


def write_owned(recipe: Path, name: str, data: bytes) -> None:
    """Write a file of a recipe as an item is written, so that what a killed writer leaves of it is found and goes."""
    making = claim(recipe, name, resume=False)
    try:
        write_atomic(making.folder / name, data)
        os.replace(making.folder / name, recipe / name)
    finally:
        making.drop()


def claim_in(partials: Path, *, resume: bool = False) -> Claim:
    """The same, where one thing's partials are in any folder; it goes with the last of them."""
    if resume:
        for path in _owners(partials):
            # A hidden one is being made, or was when its maker was killed: it owns no partial yet.
            if not path.name.startswith("."):
                settle(path)
    name = uuid.uuid4().hex
    owner = _own_in(partials, name)
    folder = partials / name
    try:
        for orphan in _orphans(partials):
            if not resume or folder.exists():
                _delete(orphan)
            elif _writable(orphan) and _renamed(orphan, folder):
                _unlink(_owner_of(orphan))
                _drop_unfinished(folder)
        folder.mkdir(exist_ok=True)
    except BaseException:
        owner.release()
        raise
    return Claim(folder, owner)


def claim_alone(partials: Path) -> Claim | None:
    """As `claim_in`, unless somebody who lives, or this process, has a claim there, or comes at once (`is_first`)."""
    if any(map(is_living, _owners(partials))):
        return None
    claim = claim_in(partials)
    if not is_first(claim):
        claim.drop()
        return None
    return claim


def is_first(claim: Claim) -> bool:
    """Whether nobody else who lives has a claim to the same thing, so that work is not done twice.

    Two who come at once see one another, and one gives way at once: the one who found nothing to go on in, else the
    later by name. The other looks again a little later. Who was seen by nobody stays, and the newcomer gives way to
    them. Should both give way, since one took longer than the other waited, whoever asks again gets it.
    """
    rivals = _rivals(claim)
    if rivals and min(map(_rank, rivals)) < _rank(claim.folder):
        return False
    if rivals:
        time.sleep(_LOOK_AGAIN_S * (0.5 + random.random()))
    return not _rivals(claim)


def _rivals(claim: Claim) -> list[Path]:
    """The partial folders beside a claim's own that have living owners; of one who is just coming, where it will be."""
    others = [path for path in _owners(claim.folder.parent) if path != claim.owner.path and is_living(path)]
    return [path.with_name(path.name.lstrip(".").removesuffix(OWNER_SUFFIX)) for path in others]


def _rank(folder: Path) -> tuple[bool, str]:
    return not _inside(folder), folder.name


def being_written(recipe: Path, item: str) -> bool:
    """Whether a living process, this one too, is writing the item."""
    return any(map(is_living, _owners(recipe / PARTIALS / item)))


def nbytes(recipe: Path, items: Collection[str]) -> int:
    """Bytes that writers of these items have on the disk, whoever they are; the recipe's folder is read once."""
    folders = [path for path in (recipe / PARTIALS).glob("*") if path.name in items]
    folders += [path for path in recipe.glob(_EARLIER) if _item_of(path) in items]
    return sum(map(tree_nbytes, folders))


@dataclass(frozen=True)
class Partial:
    """What a killed writer, or a killed deletion, has left of an item."""

    name: str
    """kind/recipe key/item key."""
    path: Path
    nbytes: int
    last_ns: int
    """When it was last written to, by the file system's clock; 0 where it was being deleted."""

    def delete(self) -> bool:
        """Delete it; False where a writer was the first to take it over."""
        deleted = _delete(self.path)
        _drop_if_empty(self.path.parent)
        return deleted


def orphans(root: Path) -> list[Partial]:
    """All partials of a store that no living process owns, and what killed deletions left."""
    folders = list(root.glob(f"*/*/{PARTIALS}/*"))
    found = [(folder.name, orphan) for folder in folders for orphan in _orphans(folder)]
    for folder in folders:
        _drop_if_empty(folder)
    beside = [*root.glob(f"*/*/{_EARLIER}"), *root.glob(f"*/*/.*{_DELETED}")]
    found += [(_item_of(path), path) for path in beside if not _locked(path)]
    return [_partial("/".join([*path.relative_to(root).parts[:2], item]), path) for item, path in found]


def sweep_committed(recipe: Path) -> None:
    """Delete what killed writers left of a recipe's items that are committed, by them or by others.

    Such an item is never written again, so no writer would come to take it over.
    """
    for folder in _inside(recipe / PARTIALS):
        for orphan in _orphans(folder):
            if (recipe / folder.name).exists():
                _delete(orphan)
        _drop_if_empty(folder)


def _partial(name: str, path: Path) -> Partial:
    nbytes = last_ns = 0
    for file in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            status = file.lstat()
            nbytes += status.st_size if file.is_file() else 0
            last_ns = max(last_ns, status.st_mtime_ns)
    return Partial(name, path, nbytes, 0 if path.name.endswith(_DELETED) else last_ns)


def _own_in(folder: Path, name: str) -> Owner:
    """The owner's file in an item's folder of partials, which another writer that ends may just be removing."""
    while True:
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return own(folder / f"{name}{OWNER_SUFFIX}")


def _owner_of(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}{OWNER_SUFFIX}")


def _renamed(partial: Path, to: Path) -> bool:
    """Whether it could be renamed: somebody else may have been the first, or does not let others."""
    try:
        os.rename(partial, to)
    except (FileNotFoundError, PermissionError):
        return False
    return True


def _writable(partial: Path) -> bool:
    """Whether one can go on in what may be another user's: their umask may have kept it for them alone.

    Not in what somebody else takes over at this moment.
    """
    with contextlib.suppress(FileNotFoundError):
        return all(
            os.access(path, os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0))
            for path in (partial, *partial.rglob("*"))
        )
    return False


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _delete(orphan: Path) -> bool:
    """Delete an orphan, by a name that nobody takes over; False where somebody was the first."""
    dying = orphan.with_name(f"{orphan.name.removesuffix(_DELETED)}{_DELETED}")
    if not _renamed(orphan, dying):
        return False
    _unlink(_owner_of(orphan))
    shutil.rmtree(dying, ignore_errors=True)
    return True


def _orphans(folder: Path) -> Iterator[Path]:
    """An item's partials that nobody living owns, and what a killed deletion left.

    An owner's file whose partial became the item goes by the way.
    """
    names = {path.name: path for path in _inside(folder)}
    for name, path in names.items():
        partial = path.with_name(name.removesuffix(OWNER_SUFFIX))
        if is_living(_owner_of(partial)):
            continue
        if path != partial and partial.name not in names:
            _unlink(path)
        elif path == partial:
            yield partial


def _owners(partials: Path) -> list[Path]:
    return [path for path in _inside(partials) if path.name.endswith(OWNER_SUFFIX)]


def _inside(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing where it is gone."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _drop_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _take_in(recipe: Path) -> None:
    """Move a recipe's partials from where earlier versions of Histill had them, but those that live."""
    for path in recipe.glob(_EARLIER):
        if not _locked(path):
            folder = recipe / PARTIALS / _item_of(path)
            folder.mkdir(exist_ok=True)
            _renamed(path, folder / uuid.uuid4().hex)


def _item_of(earlier: Path) -> str:
    return earlier.name[1:].rsplit(".", 2)[0]


def _locked(partial: Path) -> bool:
    """Whether an earlier version of Histill is writing it."""
    try:
        handle = os.open(partial / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    try:
        return is_locked(handle)
    finally:
        os.close(handle)


def _drop_unfinished(partial: Path) -> None:
    """Remove what a killed atomic write left: our dot-files and zarr's `.partial`; they would be committed with it."""
    for path in partial.rglob("*"):
        if path.is_file() and (path.name.startswith(".") or path.name.endswith(".partial")):
            path.unlink()
