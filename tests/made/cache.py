"""A corpus in a store, made once for the room's tests."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from made.corpus import write_corpus

from pipeline.base.items import TilesManifest, TokensManifest
from pipeline.base.store import Store


class Cache(NamedTuple):
    store: Store
    tiles: TilesManifest
    tokens: TokensManifest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Two views, int8."""
    return make_cache(tmp_path_factory.mktemp("cache"), views=2)


def make_cache(root: Path, views: int = 1, patch: str = "int8") -> Cache:
    store = Store(root / "store")
    return Cache(store, *write_corpus(store, views=views, patch=patch))
