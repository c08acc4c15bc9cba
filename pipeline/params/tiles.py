"""What is cut: tissue and tiles."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.params.base import Fraction, OnError, Positive, Section, Seed


class TissueParams(Section):
    """How tissue is told from glass."""

    method: Literal["otsu", "hsv", "mask"] = "otsu"
    """otsu: Otsu's threshold on saturation; hsv: fixed bounds; mask: only the masks that slides.csv names."""
    mask_mpp: Annotated[float, Field(gt=0)] = 8.0
    """Resolution of the mask, micrometres a pixel; coarser where it would have more than 16 million pixels."""
    min_coverage: Fraction = 0.5
    """A tile is kept when at least this share of it is tissue."""
    min_area_mm2: Annotated[float, Field(ge=0)] = 0.01
    """Islands smaller than this are dirt, holes smaller than this are filled."""
    exclude_pen: bool = True
    """Leave blue, green, black and red ink out of the mask."""
    fat: bool = True
    """Also take fat that adjoins stained tissue, by its web of membranes."""


class TilesParams(Section):
    """The grid, at a physical resolution, and how its tiles are stored."""

    target_mpp: Annotated[float, Field(gt=0.05, le=10)] = 0.5
    """Micrometres a pixel of the tiles."""
    also_mpp: tuple[Annotated[float, Field(gt=0.05, le=10)], ...] = ()
    """Further scales, e.g. [0.4, 0.63], at which train slides are cut too, as tiles to train on; never others."""
    tile_px: Annotated[int, Field(ge=16, le=2048)] = 224
    """Side of a tile, pixels at `target_mpp`."""
    overlap_px: Annotated[int, Field(ge=0)] = 0
    """Pixels that neighbouring tiles share."""
    edge: Literal["skip", "shift"] = "skip"
    """A tile that would leave the slide is left out, or moved inside."""
    tissue: TissueParams = TissueParams()
    """How tissue is told from glass; see below."""
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] = 95
    """Of the stored tiles, always 4:4:4."""
    reader: Literal["auto", "openslide"] = "auto"
    """auto decodes tiled TIFFs directly where that gives OpenSlide's own pixels, and keeps JPEG tiles that fit."""
    reduced_dct: bool = False
    """Decode JPEG at 1/2, 1/4 or 1/8 where a level is that much finer than needed: sooner, but not the same pixels."""
    min_sharpness: Annotated[float, Field(ge=0)] = 0.8
    """Tiles below are out of focus and left out: 0.8 drops what a blur of sigma 2 to 3 px leaves; 0 keeps all."""
    min_stain: Annotated[float, Field(ge=0)] = 0.005
    """Tiles whose optical densities of haematoxylin and eosin sum to less are blank and left out (fat: 0.01)."""
    max_tiles_per_slide: Positive | None = None
    """So many, if there are, by a seeded choice spread over the tissue; null keeps all."""
    seed: Seed = 0
    """Of every random choice of this stage."""
    on_error: OnError = "refuse"
    """refuse goes on without a bad slide and lists it; fail tries all, then ends with the first one's reason."""

    @model_validator(mode="after")
    def _fits_together(self) -> TilesParams:
        if self.overlap_px >= self.tile_px:
            raise ValueError(f"overlap_px ({self.overlap_px}) must be smaller than tile_px ({self.tile_px})")
        if self.reduced_dct and self.reader == "openslide":
            raise ValueError("reduced_dct is the direct reader's: set reader to auto")
        if len({self.target_mpp, *self.also_mpp}) <= len(self.also_mpp):
            raise ValueError(f"also_mpp has a scale twice, or target_mpp ({self.target_mpp:g}) itself")
        return self

    def at(self, mpp: float) -> TilesParams:
        """The same at that scale alone."""
        return self.model_copy(update={"target_mpp": mpp, "also_mpp": ()})
