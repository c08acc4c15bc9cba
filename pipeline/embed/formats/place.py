"""What the names of a slide's files are made of, known before the slide is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath

from pipeline.embed.asked import Asked
from pipeline.embed.encoders.encoder import Facts
from pipeline.embed.stamps import Settings


@dataclass(frozen=True)
class Place:
    """The slide's name, its path below the folder that was given, what the encoder is called, the tiling."""

    name: str
    below: PurePath
    called: str
    tile_px: int
    target_mpp: float
    overlap_px: int
    coords: Path | None

    @classmethod
    def of(cls, asked: Asked, encoder: Facts, settings: Settings) -> Place:
        tiles = settings.tiles
        return cls(
            name=asked.name,
            below=asked.below,
            called=settings.stands_for or encoder.name,
            tile_px=tiles.tile_px,
            target_mpp=tiles.target_mpp,
            overlap_px=tiles.overlap_px,
            coords=asked.source.coords,
        )
