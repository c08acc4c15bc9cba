"""What the stages before made, and what is compared stands on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.base.items import StudentManifest, TilesManifest, TokensManifest


@dataclass(frozen=True)
class Upstream:
    """The manifests, and the folder of the exported student."""

    tiles: TilesManifest
    tokens: TokensManifest
    student: StudentManifest
    folder: Path
