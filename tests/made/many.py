"""Hundreds of slides for the price of one, an item's files under other keys; and few descriptors to read them with."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
from collections.abc import Iterator
from typing import TypeVar

from pipeline.base.items import TilesItem, TokensItem
from pipeline.base.store import Ref, Store

ItemT = TypeVar("ItemT", TilesItem, TokensItem)


@contextlib.contextmanager
def few_descriptors(limit: int = 256) -> Iterator[None]:
    """At most so many open files in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def repeated(store: Store, ref: Ref, item: ItemT, n: int) -> tuple[ItemT, ...]:
    """`n` slides that hold what `item` holds, each an item of the store; `item` itself is none of them."""
    keys = [f"{item.key}-{number:04}" for number in range(n)]
    for key in keys:
        shutil.copytree(store.path(ref), store.path(Ref(ref.kind, ref.recipe, key)), copy_function=os.link)
    return tuple(item.model_copy(update={"id": key, "key": key}) for key in keys)
