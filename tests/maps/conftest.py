"""One slide, and the embeddings of its tiles."""

from __future__ import annotations

from pathlib import Path

import pytest
from made.embedded import SIZE, write_embedded
from made.slides import make_slide, tissue_picture


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of 0.5 um/px."""
    return make_slide(tmp_path_factory.mktemp("slide") / "one.tif", tissue_picture(*SIZE), kind="plain")


@pytest.fixture(scope="module")
def parquet(slide: Path) -> Path:
    """Of 8 x 6 tiles of 64 px."""
    return write_embedded(slide.parent / "parquet", "parquet", slide, SIZE)
