"""One run for the room's tests, and hand-made manifests of the stages beside `evaluate` and of other experiments."""

from __future__ import annotations

import pytest
from made.manifests import compared, manifests
from made.run import Made, make

__all__ = ["compared", "made", "manifests"]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What the stages upstream leave; a test that needs it otherwise changes a copy."""
    return make(tmp_path_factory.mktemp("run"))
