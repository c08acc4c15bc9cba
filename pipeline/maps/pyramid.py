"""A map of a slide as a pyramidal TIFF that lies over it: OpenSlide, QuPath, ASAP and libvips open it.

Pixels of the map are whole level-0 pixels, a power of two of them a side, so the scale in its tags is exact and it
overlays the slide wherever both are opened. Each level is half the one before; tiles of 256 px, deflate.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pipeline.base.files import write_atomic

TILE_PX, SMALLEST_PX = 256, 512
LEAST_PX, MOST_PX = 16, 64_000_000
"""A tile's side in the map at least, and pixels of the map at most, which count more."""
NOTHING = 255
"""White: where there is no tile."""


def downsample_of(size_l0: tuple[float, float], slide_l0: tuple[int, int]) -> int:
    """Level-0 pixels a pixel of the map."""
    step = 1
    while min(size_l0) / (2 * step) >= LEAST_PX or slide_l0[0] * slide_l0[1] / step**2 > MOST_PX:
        step *= 2
    return step


def paint(
    rgb_N3: NDArray[np.uint8], corner_N2: NDArray[np.float64], size: tuple[float, float], size_px: tuple[int, int]
) -> NDArray[np.uint8]:
    """(height, width, 3): tiles of a colour each at their corners, all in pixels of the map; the rest is `NOTHING`."""
    canvas_HWC = np.full((size_px[1], size_px[0], 3), NOTHING, np.uint8)
    start_N2 = np.maximum(np.floor(corner_N2 + 0.5), 0).astype(np.int64)
    # Ends are rounded as starts are, so that neighbours meet.
    end_N2 = np.maximum(np.floor(corner_N2 + np.array(size) + 0.5).astype(np.int64), start_N2 + 1)
    for (x0, y0), (x1, y1), colour in zip(start_N2.tolist(), end_N2.tolist(), rgb_N3, strict=True):
        canvas_HWC[y0:y1, x0:x1] = colour
    return canvas_HWC


def write_pyramid(path: Path, rgb_HWC: NDArray[np.uint8], mpp_xy: tuple[float, float]) -> None:
    """`rgb_HWC` has `mpp_xy` um a pixel."""
    levels = [Image.fromarray(rgb_HWC)]
    while max(levels[-1].size) > SMALLEST_PX:
        levels.append(levels[-1].reduce(2))
    data = io.BytesIO()
    with tifffile.TiffWriter(data) as tiff:
        for i, level in enumerate(levels):
            tiff.write(
                np.asarray(level),
                tile=(TILE_PX, TILE_PX),
                compression="deflate",
                photometric="rgb",
                subfiletype=int(i > 0),
                resolution=(1e4 / (mpp_xy[0] * 2**i), 1e4 / (mpp_xy[1] * 2**i)),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    write_atomic(path, data.getvalue())
