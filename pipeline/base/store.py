"""The content-addressed store: terabytes of tiles and tokens, outside DVC's cache, shared by every experiment.

    <root>/<kind>/<recipe key>/recipe.json            what the bytes depend on, for people and for `store why`
    <root>/<kind>/<recipe key>/<item key>/…           one committed item; its existence means it is complete
    <root>/<kind>/<recipe key>/<item key>/item.json   size and sha256 of each of its files
    <root>/<kind>/<recipe key>/.partials/             items being written, owned by their living writers (unfinished.py)

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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pipeline.base import unfinished
from pipeline.base.errors import CorruptItem, MissingItem, StoreError
from pipeline.base.files import write_atomic, write_json
from pipeline.base.manifest import ItemName, Outline
from pipeline.base.partials import ITEM_FILE, describe, file_sha256, store_errors, sync_folder, sync_tree
from pipeline.base.types import Recipe

_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def recipe_key(recipe: Recipe) -> str:
    """32 hex digits of the sha256 of the recipe's canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class StoredFile(TypedDict):
    """What item.json says of a file."""

    nbytes: int
    sha256: str


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
    """A folder of committed items. Cheap to make and to pickle: it holds only the root's path."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser().absolute()

    @classmethod
    def find(cls, configured: str | None = None) -> Store:
        """`$HISTILL_STORE`, else `configured` (params store.root, from the DVC root), else `<DVC root>/.store`."""
        environment = os.environ.get("HISTILL_STORE")
        return cls(environment or dvc_root() / (configured or ".store"))

    def path(self, ref: Ref) -> Path:
        """Where the item is, or would be."""
        return self.root / ref.kind / ref.recipe / ref.item

    def has(self, ref: Ref) -> bool:
        """Whether the item is there, complete."""
        return (self.path(ref) / ITEM_FILE).is_file()

    def open(self, ref: Ref, *, remedy: str) -> Path:
        """The committed item's folder. Raises `MissingItem` with what would make it again."""
        if not self.has(ref):
            raise MissingItem("the store does not hold this item", where=str(self.path(ref)), fix=f"make it: {remedy}")
        return self.path(ref)

    def require(self, manifest: Outline) -> None:
        """Check that all that a manifest names is there. Raises `MissingItem`: which, where, how to make it again."""
        gone = sorted(text for text in manifest.refs() if not self.has(Ref.parse(text)))
        if gone:
            more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
            fix = f"make them again: dvc repro -f -s {manifest.stage} (or point HISTILL_STORE at the store they are in)"
            raise MissingItem(f"the store lacks {gone[0]}{more} of {manifest.stage}", where=str(self.root), fix=fix)

    def digest(self, ref: Ref) -> str:
        """sha256 (32 hex digits) over the names, sizes and checksums of the item's files."""
        return hashlib.sha256((self.path(ref) / ITEM_FILE).read_bytes()).hexdigest()[:32]

    @contextlib.contextmanager
    def write(self, ref: Ref, recipe: Recipe, *, resume: bool = False) -> Iterator[Path]:
        """Write one item: yields a folder to fill, commits it when the block ends well.

        With `resume`, the folder may hold what a killed writer of the same item had finished; a failing block then
        keeps the folder too. Files in it must therefore be written atomically (a name that exists is a whole file). If
        someone else commits the item meanwhile, this copy is dropped. Raises `StoreFull` and `StoreReadOnly`.
        """
        final = self.path(ref)
        with store_errors(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            if not (final.parent / "recipe.json").exists():
                write_json(final.parent / "recipe.json", dict(recipe))
            claim = unfinished.claim(final.parent, ref.item, resume=resume)
            partial = claim.folder
            try:
                yield partial
                if self.has(ref):
                    shutil.rmtree(partial, ignore_errors=True)
                    return
                write_atomic(partial / ITEM_FILE, describe(partial))
                sync_tree(partial)
                try:
                    os.rename(partial, final)
                except OSError:
                    if not self.has(ref):
                        raise
                    shutil.rmtree(partial, ignore_errors=True)
                sync_folder(final.parent)
            except BaseException:
                if not resume:
                    shutil.rmtree(partial, ignore_errors=True)
                raise
            finally:
                claim.release()

    def being_written(self, ref: Ref) -> bool:
        """Whether a living process, this one too, is writing the item."""
        return unfinished.being_written(self.path(ref).parent, ref.item)

    def sweep(self) -> int:
        """Delete partials that no living process owns, and what a killed `delete` left; returns how many."""
        return unfinished.sweep(self.root)

    def refs(self) -> Iterator[Ref]:
        """Every committed item, sorted."""
        # `[!.]`: a folder that is being deleted has its item.json still.
        for path in sorted(self.root.glob(f"*/*/[!.]*/{ITEM_FILE}")):
            yield Ref(*path.parent.relative_to(self.root).parts)

    def recipe(self, ref: Ref) -> Recipe:
        """The recipe that the item was made by."""
        path = self.path(ref).parent / "recipe.json"
        try:
            return dict(json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise MissingItem("no such recipe in the store", where=str(path)) from None

    def nbytes(self, ref: Ref) -> int:
        """Bytes of the item's files, as committed."""
        return sum(entry["nbytes"] for entry in self._files(ref).values())

    def verify(self, ref: Ref) -> None:
        """Compare every file with its checksum. Raises `CorruptItem` that names each differing file."""
        wrong = [f"{name} {what}" for name, what in self.faults(ref).items()]
        if wrong:
            raise CorruptItem("; ".join(wrong), where=str(ref), fix=f"delete {self.path(ref)} and run its stage again")

    def faults(self, ref: Ref) -> dict[str, str]:
        """What is wrong with each of the item's files that is not as it was committed, by name."""
        wrong = {}
        for name, entry in self._files(ref).items():
            file = self.path(ref) / name
            if not file.is_file():
                wrong[name] = "is missing"
            elif file.stat().st_size != entry["nbytes"]:
                wrong[name] = f"has {file.stat().st_size} bytes, not {entry['nbytes']}"
            elif file_sha256(file) != entry["sha256"]:
                wrong[name] = "has another checksum"
        return wrong

    def partial_nbytes(self, refs: Iterable[Ref]) -> int:
        """Bytes that unfinished writers of these items have on the disk already."""
        wanted: dict[Path, set[str]] = {}
        for ref in refs:
            wanted.setdefault(self.path(ref).parent, set()).add(ref.item)
        return sum(unfinished.nbytes(recipe, items) for recipe, items in wanted.items())

    def delete(self, ref: Ref) -> None:
        """Remove one item: renamed first, so that a reader or a kill never sees half of it."""
        folder = self.path(ref)
        with store_errors(folder):
            dying = folder.parent / f".{ref.item}.{uuid.uuid4().hex}.deleted"
            os.rename(folder, dying)
            shutil.rmtree(dying)

    def _files(self, ref: Ref) -> dict[str, StoredFile]:
        try:
            return dict(json.loads((self.path(ref) / ITEM_FILE).read_bytes()))
        except FileNotFoundError:
            raise MissingItem("the store does not hold this item", where=str(self.path(ref))) from None


def dvc_root(here: Path | None = None) -> Path:
    """The project's root: the nearest folder with `.dvc`; inside a temporary experiment, the root it was made from."""
    here = here or Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".dvc").is_dir():
            parts = folder.parts
            for i in range(len(parts) - 2):
                if parts[i : i + 3] == (".dvc", "tmp", "exps"):
                    return Path(*parts[:i])
            return folder
    return here
