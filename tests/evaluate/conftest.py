"""One run for the room's tests, and hand-made manifests of the stages beside `evaluate` and of other experiments."""

from __future__ import annotations

import fcntl
import os
import pickle

import pytest
from made.manifests import compared, manifests
from made.run import Made, make

__all__ = ["compared", "made", "manifests"]


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What the stages upstream leave; nothing is evaluated in it, nor changed: who would, takes a copy.

    The first of pytest's workers that needs it makes it for all.
    """
    root = tmp_path_factory.getbasetemp()
    shared = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with open(shared / "fresh.pickle", "a+b") as kept:
        fcntl.flock(kept, fcntl.LOCK_EX)
        kept.seek(0)
        if not (content := kept.read()):
            content = pickle.dumps(make(shared / "fresh"))
            kept.write(content)
    made: Made = pickle.loads(content)
    return made


@pytest.fixture(scope="session")
def made(fresh: Made, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same for all tests that evaluate it as it is."""
    return fresh.copied(tmp_path_factory.mktemp("run"))
