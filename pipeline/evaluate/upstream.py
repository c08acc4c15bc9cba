"""What the stages before made, and what is compared stands on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.base.manifest import Manifest


@dataclass(frozen=True)
class Upstream:
    """Manifests of `tiles`, `tokens` and `student`, and the folder of the exported student."""

    tiles: Manifest
    tokens: Manifest
    student: Manifest
    folder: Path

    @property
    def jpeg_quality(self) -> int:
        """At which pixels are stored."""
        return int(self.tiles.recipe["jpeg_quality"])

    @property
    def tile_px(self) -> int:
        """Side of a tile."""
        return int(self.tiles.recipe["tile_px"])

    @property
    def learnt_keys(self) -> set[str]:
        """The keys of the slides that the student was trained on."""
        return {item[0] for item in self.student.recipe.get("items", [])}
