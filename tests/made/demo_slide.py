"""One demo slide, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.demo.slides import make_demo_slide


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """slide.tif, labels.png and labels.json of demo slide 1, 1000 px wide (no multiple of a tile)."""
    folder = tmp_path_factory.mktemp("demo")
    make_demo_slide(1, 1000, folder)
    return folder
