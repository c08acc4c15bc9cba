"""One run for the room's tests, and hand-made manifests of the stages beside `evaluate` and of other experiments."""

from __future__ import annotations

import pytest
from made.manifests import compared, manifests
from made.run import Made, make

__all__ = ["compared", "made", "manifests"]


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What the stages upstream leave; nothing is evaluated in it, nor changed: who would, takes a copy."""
    return make(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="session")
def made(fresh: Made, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same for all tests that evaluate it as it is."""
    return fresh.copied(tmp_path_factory.mktemp("run"))
