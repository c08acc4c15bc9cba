"""The bucket as the store sees it: what it has, and how an item comes from there."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.base.errors import MissingItem, RemoteError
from pipeline.base.files import as_json, write_atomic
from pipeline.base.partials import ITEM_FILE
from pipeline.base.store import RECIPE_FILE, Ref, Store, recipe_key
from pipeline.base.types import Json
from pipeline.remote.address import checked
from pipeline.remote.heads import FAR
from pipeline.remote.names import items_of, marker, recipe_file
from pipeline.remote.objects import Objects, opened
from pipeline.remote.streams import open_streamed
from pipeline.remote.transfers import fetch, files_in

LOCAL_KINDS = ("engines",)
"""Built for a machine, and code that runs: nobody's but those who can write the store."""
FRESH_S = 30.0
"""For which a listing counts."""
LOCKS, _N_LOCKS = ".fetching", 64


@dataclass(frozen=True)
class Bucket:
    """Committed items below a URL; pickles as that, without what it has listed, which is timed by this machine.

    With `stream_nbytes`, tiles and tokens are read where they lie, and so much of them is kept here at most.
    """

    url: str
    stream_nbytes: int | None = None
    _listed: dict[str, tuple[float, frozenset[str]]] = field(default_factory=dict, compare=False, repr=False)

    def __reduce__(self) -> tuple[type[Bucket], tuple[str, int | None]]:
        return type(self), (self.url, self.stream_nbytes)

    @classmethod
    def at(cls, url: str, stream_nbytes: int | None = None) -> Bucket:
        """The one at a URL. Raises `ParamsError` for one that holds a secret or that no library here can open."""
        whole = checked(url)
        opened(whole, os.getpid())
        return cls(whole, stream_nbytes)

    @property
    def objects(self) -> Objects:
        """The objects that they are made of."""
        return Objects(self.url)

    def has(self, ref: Ref) -> bool:
        """Whether it is there, by a listing of its recipe that is at most `FRESH_S` old."""
        if ref.kind in LOCAL_KINDS:
            return False
        folder = items_of(ref)
        when, items = self._listed.get(folder, (-FRESH_S, frozenset()))
        if ref.item not in items and time.monotonic() - when >= FRESH_S:
            items = frozenset(name.removesuffix(".json") for name in self.objects.names(folder))
            self._listed[folder] = time.monotonic(), items
        return ref.item in items

    def sent(self, ref: Ref) -> None:
        """The item has just been sent: the listing, however fresh, does not know."""
        when, items = self._listed.get(items_of(ref), (-FRESH_S, frozenset()))
        self._listed[items_of(ref)] = when, items | {ref.item}

    def item_file(self, ref: Ref) -> bytes:
        """Its item.json. Raises `MissingItem`."""
        try:
            return self.objects.read(marker(ref))
        except FileNotFoundError:
            raise self._gone(ref) from None

    def bring(self, ref: Ref, store: Store) -> Path | None:
        """Have an item here: open what is streamed, fetch all else. Raises `MissingItem` and `RemoteError`."""
        if self.stream_nbytes is None or ref.kind not in FAR:
            return self.fetch(ref, store)
        try:
            folder = open_streamed(self.objects, ref, store, self.stream_nbytes)
        except FileNotFoundError:
            raise self._gone(ref) from None
        if not (folder.parent / RECIPE_FILE).is_file():
            write_atomic(folder.parent / RECIPE_FILE, as_json(self._recipe(ref)).encode() + b"\n")
        return folder

    def fetch(self, ref: Ref, store: Store) -> Path | None:
        """Fetch an item, once for all processes that ask. Raises `MissingItem` and `RemoteError`."""
        with _alone(store, ref):
            if not store.is_here(ref):
                item = self.item_file(ref)
                with store.write(ref, self._recipe(ref), resume=True, fetched=True) as partial:
                    fetch(self.objects, ref, item, files_in(self.objects, ref, item), partial)
        # Not `store.path`, which would ask the bucket again.
        return store.own_path(ref) if (store.own_path(ref) / ITEM_FILE).is_file() else None

    def learn(self, kind: str, root: Path) -> None:
        """Write the recipe.json of every recipe of a kind that the store at `root` has none of."""
        if kind in LOCAL_KINDS:
            return
        for key in self.objects.names(kind):
            path = root / kind / key / "recipe.json"
            if not path.is_file():
                with contextlib.suppress(FileNotFoundError):
                    write_atomic(path, self.objects.read(f"{kind}/{key}/recipe.json"))

    def refs(self) -> Iterator[Ref]:
        """Every item that is there, sorted."""
        for kind in self.objects.names(""):
            for recipe in self.objects.names(kind):
                for name in self.objects.names(f"{kind}/{recipe}/items"):
                    yield Ref(kind, recipe, name.removesuffix(".json"))

    def _recipe(self, ref: Ref) -> dict[str, Json]:
        where = f"{self.url}/{recipe_file(ref)}"
        try:
            recipe: dict[str, Json] = json.loads(self.objects.read(recipe_file(ref)))
        except (FileNotFoundError, ValueError):
            recipe = {}
        if recipe_key(recipe) != ref.recipe:
            raise RemoteError("not the recipe that its key is of", where=where, fix="`histill store push --again`")
        return recipe

    def _gone(self, ref: Ref) -> MissingItem:
        self._listed.pop(items_of(ref), None)
        fix = "make it anew: run its stage with HISTILL_STORE_REMOTE=none"
        return MissingItem("the bucket does not hold this item any more", where=str(ref), fix=fix)


@contextlib.contextmanager
def _alone(store: Store, ref: Ref) -> Iterator[None]:
    """One process or thread fetches an item, others wait; a lock dies with its process, so none waits for ever.

    Where the file system has no locks, two may fetch it, and one copy is dropped.
    """
    number = int(hashlib.sha256(str(ref).encode()).hexdigest(), 16) % _N_LOCKS
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            (store.root / LOCKS).mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(store.root / LOCKS / f"{number:02d}", "a"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
