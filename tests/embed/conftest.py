"""A corpus, a student and slides for the room's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from made.cache import cache
from made.shipped import PARAMS, SIDE, ship
from made.slides import make_slide, tissue_picture

__all__ = ["cache"]


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student with its ONNX file."""
    return ship(tmp_path_factory.mktemp("shipped") / "student")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a test, with the params of its slides, and a cache folder of its own."""
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "slides").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def slide(here: Path) -> Path:
    """A slide of 0.5 um/px whose tiles are its own pixels; below `slides`."""
    return make_slide(here / "slides" / "one.tif", tissue_picture(SIDE, SIDE), kind="plain")
