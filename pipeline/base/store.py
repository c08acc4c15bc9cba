"""The content-addressed store: terabytes of tiles and tokens, outside DVC's cache, shared by every experiment.

    <root>/<kind>/<recipe key>/recipe.json            what the bytes depend on, for people and for `store why`
    <root>/<kind>/<recipe key>/<item key>/…           one committed item; its existence means it is complete
    <root>/<kind>/<recipe key>/<item key>/item.json   size and sha256 of each of its files
    <root>/<kind>/<recipe key>/.partials/             items being written, by living owners (living/unfinished.py)

An item is written into a partial folder, synced, and renamed. Two writers may race: the loser drops its copy. A
killed writer leaves a partial that it no longer owns: the next writer of that item goes on in it (`resume=True`) or
sweeps it. Nothing ever waits for an owner, so a dead run blocks nobody.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pipeline.base.elsewhere import Remote
from pipeline.base.errors import BeingWritten, CorruptItem, MissingItem, StoreError, some
from pipeline.base.files import as_json, dvc_root, write_atomic
from pipeline.base.living import unfinished
from pipeline.base.living.owners import LEASE_S
from pipeline.base.living.runs import hold
from pipeline.base.manifest import ItemName, Outline
from pipeline.base.names import at_home
from pipeline.base.partials import (
    ITEM_FILE,
    StoredFile,
    describe,
    differing,
    require_group_umask,
    store_errors,
)
from pipeline.base.syncing import sync_file, sync_tree
from pipeline.base.types import Recipe

Folder: TypeAlias = Path | str
FETCHED = ".fetched"
"""After an item's key, the name of what is being fetched of it among the partials."""
ALL = "[!.]*"
"""Every folder but hidden ones."""
RECIPE_FILE = "recipe.json"
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def recipe_key(recipe: Recipe) -> str:
    """32 hex digits of the sha256 of the recipe's canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Ref:
    """Address of one item: kind (`tiles`, `tokens`, …), recipe key, item key."""

    kind: str
    recipe: str
    item: str

    def __post_init__(self) -> None:
        for part in (self.kind, self.recipe, self.item):
            if not part or part.startswith(".") or not set(part) <= _SAFE:
                raise StoreError(
                    f"{part!r} would leave the store's folder", fix="use letters, digits, '.', '_' and '-'"
                )

    def __str__(self) -> str:
        return f"{self.kind}/{self.recipe}/{self.item}"

    @classmethod
    def parse(cls, text: str) -> Ref:
        """The ref that `str` made."""
        return cls(*text.split("/"))

    @classmethod
    def of(cls, manifest: Outline, item: ItemName) -> Ref:
        """Where one of a manifest's items is."""
        return cls.parse(manifest.address(item))


class Store:
    """A folder of committed items, and others (`bases`) whose items are read and never touched.

    Where a bucket is behind it (`remote`), what none of them has is fetched from there when its path is asked for.
    Cheap to make and to pickle: it holds only paths, and whether code that others made may be loaded (`trust`).
    """

    def __init__(
        self, root: Folder, bases: Iterable[Folder] = (), *, trust: bool = False, remote: Remote | None = None
    ):
        self.root = at_home(root).absolute()
        self.bases = tuple(at_home(base).absolute() for base in bases)
        self.trust, self.remote = trust, remote

    @classmethod
    def find(cls, configured: str | None = None, bases: Iterable[str] = (), *, trust: bool = False) -> Store:
        """`$HISTILL_STORE`, else `configured` (params store.root, from the DVC root), else `<DVC root>/.store`.

        Likewise `$HISTILL_STORE_BASE` (several with colons between), else `bases`. Raises `StoreError` for a base that
        is not there.
        """
        environment, others = os.environ.get("HISTILL_STORE"), os.environ.get("HISTILL_STORE_BASE")
        root = environment or dvc_root() / (configured or ".store")
        told = others.split(os.pathsep) if others else [dvc_root() / at_home(base) for base in bases]
        found = cls(root, (base for base in told if str(base)), trust=trust)
        for base in found.bases:
            if not base.is_dir():
                fix = "mount it, or change HISTILL_STORE_BASE or store.base"
                raise StoreError("the base of the store is not there", where=str(base), fix=fix)
        return found

    def path(self, ref: Ref) -> Path:
        """Where the item is, here or in a base, or would be here; what the bucket alone has is fetched first."""
        folder = self._found(ref)
        if folder is None and self.remote is not None and self.remote.has(ref):
            folder = self.remote.bring(ref, self)
        return folder or self.own_path(ref)

    def is_here(self, ref: Ref) -> bool:
        """Whether the item is in this store or in a base, complete, whatever the bucket has."""
        return self._found(ref) is not None

    def _found(self, ref: Ref) -> Path | None:
        hold(self.root, f"{ref.kind}/{ref.recipe}")
        for root in (self.root, *self.bases):
            # Text, since a stage of ten thousand slides asks some hundred thousand times, and a Path is ten times it.
            if os.path.isfile(f"{root}/{ref}/{ITEM_FILE}"):  # noqa: PTH113
                return root / str(ref)
        return None

    def own_path(self, ref: Ref) -> Path:
        """Where the item is or would be in the store that is written, whatever bases have."""
        hold(self.root, f"{ref.kind}/{ref.recipe}")
        return self.root / ref.kind / ref.recipe / ref.item

    def holder(self, ref: Ref) -> Path:
        """The folder of the store that the item is in: this one's or a base's."""
        return self.path(ref).parents[2]

    def recipes(self, kind: str, key: str = ALL) -> list[Path]:
        """The folders of a kind's recipes, or of the one with this key, here and then in the bases.

        Of all of a kind those of the bucket are among them, as folders here with their recipe.json.
        """
        if self.remote is not None and key == ALL:
            self.remote.learn(kind, self.root)
        return [path for root in (self.root, *self.bases) for path in sorted((root / kind).glob(key))]

    def has(self, ref: Ref) -> bool:
        """Whether the item is there, complete: here, in a base, or in the bucket."""
        return self.is_here(ref) or (self.remote is not None and self.remote.has(ref))

    def open(self, ref: Ref, *, remedy: str) -> Path:
        """The committed item's folder. Raises `MissingItem` with what would make it again."""
        here = self._found(ref)
        if here is None and not self.has(ref):
            raise MissingItem("the store does not hold this item", where=str(self.path(ref)), fix=f"make it: {remedy}")
        return here or self.path(ref)

    def require(self, manifest: Outline) -> None:
        """Check that a stage's items are there. Raises `MissingItem`. What else they were made with, nobody reads."""
        own = sorted(text for text in manifest.refs() if text.startswith(f"{manifest.stage}/"))
        gone = [text for text in own if not self.has(Ref.parse(text))]
        if gone:
            fix = f"make them again: dvc repro -f -s {manifest.stage} (or point HISTILL_STORE at the store they are in)"
            raise MissingItem(f"the store lacks {some(gone, 1)} of {manifest.stage}", where=str(self.root), fix=fix)

    def digest(self, ref: Ref) -> str:
        """sha256 (32 hex digits) over the names, sizes and checksums of the item's files."""
        return hashlib.sha256(self._item_file(ref)).hexdigest()[:32]

    @contextlib.contextmanager
    def write(
        self, ref: Ref, recipe: Recipe, *, resume: bool = False, fetched: bool = False, alone: bool = False
    ) -> Iterator[Path]:
        """Write one item: yields a folder to fill, commits it when the block ends well.

        With `resume`, the folder may hold what a killed writer of the same item had finished; a failing block then
        keeps the folder too. Files in it must therefore be written atomically (a name that exists is a whole file). If
        someone else commits the item meanwhile, this copy is dropped. What is `fetched` has partials of its own, which
        no maker goes on in, nor a fetch in a maker's. `alone`: raises `BeingWritten` where another living writer was
        there before, or at the same time and first. Raises `StoreFull` and `StoreReadOnly`.
        """
        final = self.own_path(ref)
        with store_errors(final):
            require_group_umask(self.root)
            final.parent.mkdir(parents=True, exist_ok=True)
            if not (final.parent / RECIPE_FILE).exists():
                unfinished.write_owned(final.parent, RECIPE_FILE, as_json(dict(recipe)).encode() + b"\n")
            claim = unfinished.claim(final.parent, f"{ref.item}{FETCHED if fetched else ''}", resume=resume)
            partial = claim.folder
            if alone and not unfinished.is_first(claim):
                claim.give_way()
                raise BeingWritten("another process is writing it", where=str(ref), fix="wait for it")
            try:
                yield partial
                if self.is_here(ref):
                    shutil.rmtree(partial, ignore_errors=True)
                    return
                write_atomic(partial / ITEM_FILE, describe(partial), sync=False)
                sync_tree(partial)
                try:
                    os.rename(partial, final)
                except OSError:
                    if not (final / ITEM_FILE).is_file():
                        raise
                    shutil.rmtree(partial, ignore_errors=True)
                sync_file(final.parent)
            except BaseException as error:
                if isinstance(error, FileNotFoundError) and not partial.exists():
                    fix = "run again: what is finished is kept"
                    what = f"another machine took it over: this one had not been heard of for {LEASE_S:.0f} s"
                    raise StoreError(what, where=str(ref), fix=fix) from error
                if not resume:
                    shutil.rmtree(partial, ignore_errors=True)
                raise
            finally:
                claim.release()

    def being_written(self, ref: Ref) -> bool:
        """Whether a living process, this one too, is writing the item."""
        return unfinished.being_written(self.own_path(ref).parent, ref.item)

    def refs(self) -> Iterator[Ref]:
        """Every committed item, sorted, those of bases as well."""
        if not self.bases:
            yield from self.own_refs()
            return
        stores = (self, *(Store(base) for base in self.bases))
        yield from sorted({ref for store in stores for ref in store.own_refs()}, key=str)

    def own_refs(self) -> Iterator[Ref]:
        """Every committed item of the store that is written, sorted."""
        for kind in _names(f"{self.root}"):
            for recipe in _names(f"{self.root}/{kind}"):
                for item in _names(f"{self.root}/{kind}/{recipe}"):
                    if os.path.isfile(f"{self.root}/{kind}/{recipe}/{item}/{ITEM_FILE}"):  # noqa: PTH113
                        yield Ref(kind, recipe, item)

    def recipe(self, ref: Ref) -> Recipe:
        """The recipe that the item was made by."""
        path = self.path(ref).parent / RECIPE_FILE
        try:
            return dict(json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise MissingItem("no such recipe in the store", where=str(path)) from None

    def nbytes(self, ref: Ref) -> int:
        """Bytes of the item's files, as committed."""
        return sum(entry["nbytes"] for entry in self.files(ref).values())

    def verify(self, ref: Ref) -> None:
        """Compare every file with its checksum. Raises `CorruptItem` that names each differing file."""
        wrong = [f"{name} {what}" for name, what in self.faults(ref).items()]
        if wrong:
            raise CorruptItem("; ".join(wrong), where=str(ref), fix=f"delete {self.path(ref)} and run its stage again")

    def faults(self, ref: Ref, read: Callable[[int], object] = lambda nbytes: None) -> dict[str, str]:
        """What is wrong with each file that is not as it was committed, by name; `read` is told the bytes of each."""
        return differing(self.path(ref), self.files(ref), read)

    def partial_nbytes(self, refs: Iterable[Ref]) -> int:
        """Bytes that unfinished writers of these items have on the disk already."""
        wanted: dict[Path, set[str]] = {}
        for ref in refs:
            wanted.setdefault(self.own_path(ref).parent, set()).add(ref.item)
        return sum(unfinished.nbytes(recipe, items) for recipe, items in wanted.items())

    def committed_ns(self, ref: Ref) -> int:
        """When the item was committed, by the file system's clock, ns."""
        return (self.own_path(ref) / ITEM_FILE).stat().st_mtime_ns

    def delete(self, ref: Ref, unless: Callable[[], object] = lambda: None) -> bool:
        """Remove one item: renamed first, so that a reader or a kill never sees half of it.

        `unless` is asked when the item is already out of sight: who announces that an item is held and then sees it is
        asked about in time, and the item comes back. False where it did.
        """
        folder = self.own_path(ref)
        with store_errors(folder):
            dying = folder.parent / f".{ref.item}.{uuid.uuid4().hex}.deleted"
            os.rename(folder, dying)
            if unless():
                os.rename(dying, folder)
                return False
            shutil.rmtree(dying)
        return True

    def files(self, ref: Ref) -> dict[str, StoredFile]:
        """What its item.json says of each of its files, by name."""
        return dict(json.loads(self._item_file(ref)))

    def _item_file(self, ref: Ref) -> bytes:
        """item.json, from the bucket where only that has the item: the item itself is not fetched for it."""
        hold(self.root, f"{ref.kind}/{ref.recipe}")
        for root in (self.root, *self.bases):
            with contextlib.suppress(FileNotFoundError), open(f"{root}/{ref}/{ITEM_FILE}", "rb") as file:
                return file.read()
        if self.remote is not None and self.remote.has(ref):
            return self.remote.item_file(ref)
        raise MissingItem("the store does not hold this item", where=str(self.path(ref)))


def _names(folder: str) -> list[str]:
    """What is in a folder, sorted; without hidden ones, among which is what is being deleted. None of a file."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
