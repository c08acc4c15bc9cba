"""What happens to a slide between two laboratories and two scanners, done to one tile on purpose.

Each takes and gives (H, W, 3) uint8 RGB of one square tile and is deterministic; stain changes take a seed a tile.

    stain      haematoxylin and eosin each scaled by 1 +- 0.2 and shifted by +- 0.02 in optical density
               (HED jitter, Tellez et al. 2018: the gain as in their group's strong form, the shift below the light
               one's), in the stain space of Ruifrok & Johnston 2001
    scale      seen 10 % larger (the middle cut out) and 10 % smaller (the border mirrored outwards): another mpp
    blur       a Gaussian of sigma 1 px of the stored tile: slightly out of focus
    jpeg       stored again at quality 50, colour halved (4:2:0)
    dihedral   a mirror and two turns: tissue has no up
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.tiles.pixels import decode_jpeg, resize
from pipeline.views import apply_view
from pipeline.views.stain import restain

Image_HWC = NDArray[np.uint8]
Change = Callable[[Image_HWC, int], Image_HWC]
"""(tile, seed of the tile) to the changed tile."""

STAIN_SCALE, STAIN_SHIFT, LARGER, BLUR_SIGMA, JPEG_QUALITY = 0.2, 0.02, 1.1, 1.0, 50


def stain(rgb_HWC: Image_HWC, seed: int) -> Image_HWC:
    """Another strength and background of haematoxylin and eosin."""
    random = np.random.default_rng([seed, 1])
    gain_2, shift_2 = 1 + random.uniform(-STAIN_SCALE, STAIN_SCALE, 2), random.uniform(-STAIN_SHIFT, STAIN_SHIFT, 2)
    return restain(rgb_HWC, np.array([*gain_2, 1.0]), np.array([*shift_2, 0.0]))


def larger(rgb_HWC: Image_HWC, seed: int) -> Image_HWC:
    """Seen 10 % larger."""
    side = len(rgb_HWC)
    cut = side * (1 - 1 / LARGER) / 2
    return resize(rgb_HWC, (side, side), (cut, cut, side - cut, side - cut))


def smaller(rgb_HWC: Image_HWC, seed: int) -> Image_HWC:
    """Seen 10 % smaller; what lies beyond the border is its mirror image."""
    side = len(rgb_HWC)
    pad = round(side * (LARGER - 1) / 2)
    return resize(np.pad(rgb_HWC, ((pad, pad), (pad, pad), (0, 0)), mode="reflect"), (side, side))


def blur(rgb_HWC: Image_HWC, seed: int) -> Image_HWC:
    """Slightly out of focus."""
    from scipy.ndimage import gaussian_filter

    blurred_HWC = gaussian_filter(rgb_HWC.astype(np.float32), (BLUR_SIGMA, BLUR_SIGMA, 0), mode="reflect")
    return np.clip(np.rint(blurred_HWC), 0, 255).astype(np.uint8)


def jpeg(rgb_HWC: Image_HWC, seed: int) -> Image_HWC:
    """Compressed once more."""
    out = io.BytesIO()
    Image.fromarray(rgb_HWC).save(out, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0")
    return decode_jpeg(out.getvalue())


def view(element: int) -> Change:
    """One of the square's symmetries."""
    return lambda rgb_HWC, seed: apply_view(rgb_HWC, element)


CHANGES: dict[str, tuple[Change, ...]] = {
    "stain": (stain, lambda rgb_HWC, seed: stain(rgb_HWC, seed + 1_000_003)),
    "scale": (larger, smaller),
    "blur": (blur,),
    "jpeg": (jpeg,),
    "dihedral": (view(1), view(2), view(4)),
}
