"""What the Zarr arrays of a tokens item say of themselves, beside shape and type."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ClsAttributes(BaseModel):
    """Of `cls`: (h, w) of the teacher's token map, and the layout of its patch tokens (`int8`, `fp16`, `none`)."""

    model_config = ConfigDict(frozen=True)
    grid: tuple[int, int]
    patch: str


class PatchAttributes(BaseModel):
    """Of `patch`: mean and deviation of each channel, and how many channels were rotated together (1: none were)."""

    model_config = ConfigDict(frozen=True)
    mu: tuple[float, ...]
    sigma: tuple[float, ...]
    rotation_block: int = 1
