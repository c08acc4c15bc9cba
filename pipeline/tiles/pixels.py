"""Tiles as JPEG, and back. Shapes: HWC = height, width, RGB; uint8 throughout."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.tiles.resample import LEAST_PX, halve

FILTER = Image.Resampling.BICUBIC
"""Pillow widens a filter by the factor it shrinks, so this is antialiased; what timm and the teachers resize with."""
_JPEG = b"\xff\xd8"
MAX_PX = 1 << 25
"""Pixels of an image: a third of a GiB, where it has to be converted."""


def encode_jpeg(rgb_HWC: NDArray[np.uint8], jpeg_quality: int) -> bytes:
    """Baseline JPEG with colour at full resolution (4:4:4): stain is colour, so none of it is thrown away."""
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(rgb_HWC), jpeg_quality, "RGB", colorsubsampling="444")
    return bytes(data)


def decode_jpeg(data: bytes, side_px: int | None = None, resample: Image.Resampling = FILTER) -> NDArray[np.uint8]:
    """RGB pixels of an encoded image (JPEG; whatever else Pillow reads), (H, W, 3) uint8.

    With `side_px` the answer is (side_px, side_px, 3): the middle square where the image is not square, resized with an
    antialiasing filter where its side differs. Raises `ValueError` for what does not decode without an error; a
    truncated JPEG does not pass for a grey one; nor for one of more than `MAX_PX` pixels.
    """
    rgb_HWC = _turbo(data) if data.startswith(_JPEG) else None
    if rgb_HWC is None:
        rgb_HWC = _pillow(data)
    return rgb_HWC if side_px is None else fit_square(rgb_HWC, side_px, resample)


def fit_square(rgb_HWC: NDArray[np.uint8], side_px: int, resample: Image.Resampling = FILTER) -> NDArray[np.uint8]:
    """(side_px, side_px, 3): the middle square where the image is not square, resized where its side differs."""
    if rgb_HWC.shape[:2] == (side_px, side_px):
        return rgb_HWC
    height, width = rgb_HWC.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square_HWC = rgb_HWC[top : top + side, left : left + side]
    if side == 2 * side_px and side >= LEAST_PX and resample is FILTER:
        small_HWC: NDArray[np.uint8] = halve(np.ascontiguousarray(square_HWC)[None])[0]
        return small_HWC
    return resize(square_HWC, (side_px, side_px), resample=resample)


def fit_squares(rgb_NHWC: NDArray[np.uint8], side_px: int, resample: Image.Resampling = FILTER) -> NDArray[np.uint8]:
    """`fit_square` of N squares of one size, (N, side_px, side_px, 3); some at a time are cheaper than each alone."""
    side = rgb_NHWC.shape[1]
    if side == side_px:
        return rgb_NHWC
    if side == 2 * side_px and side >= LEAST_PX and resample is FILTER:
        return halve(rgb_NHWC)
    return np.stack([fit_square(rgb_HWC, side_px, resample) for rgb_HWC in rgb_NHWC])


def resize(
    rgb_HWC: NDArray[np.uint8],
    size_px: tuple[int, int],
    box: tuple[float, float, float, float] | None = None,
    resample: Image.Resampling = FILTER,
) -> NDArray[np.uint8]:
    """`box` (x0, y0, x1, y1 in pixels, fractional; None = all) of the image as (height, width, 3), size = (w, h).

    A box of whole pixels that already has the size is cut out as it is.
    """
    height, width = rgb_HWC.shape[:2]
    x0, y0, x1, y1 = box or (0.0, 0.0, float(width), float(height))
    if (x1 - x0, y1 - y0) == size_px and x0 == int(x0) and y0 == int(y0):
        return rgb_HWC[int(y0) : int(y1), int(x0) : int(x1)]
    image = Image.fromarray(rgb_HWC)
    return np.asarray(image.resize(size_px, resample, box=(x0, y0, x1, y1)))


def is_plain_jpeg(data: bytes) -> bool:
    """Whether this is a baseline 8-bit RGB JPEG, which may be stored as it is and decodes the same everywhere."""
    if not data.startswith(_JPEG):
        return False
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.format == "JPEG" and image.mode == "RGB" and not image.info.get("progressive")
    except (OSError, SyntaxError, ValueError):
        return False


def _turbo(data: bytes) -> NDArray[np.uint8] | None:
    """By the turbo-JPEG binding; None for the colour spaces it does not turn into RGB (CMYK)."""
    height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    _check_size(width, height)
    if space not in ("YCbCr", "RGB", "Gray"):
        return None
    rgb_HWC: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB")
    return rgb_HWC


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PX:
        raise ValueError(f"an image of {width} x {height} px is no tile")


def _pillow(data: bytes) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data)) as file:
            _check_size(*file.size)
            file.load()
            image: Image.Image = file
            if image.mode.startswith("I;16"):
                # Pillow's own conversion clips 16 bits at 255 instead of scaling them.
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.mode in ("I", "F"):
                # Of 32 bits Pillow keeps what lies between 0 and 255: a picture of 0 to 1 would be black.
                raise ValueError(f"not an image of 8 or 16 bits a channel (mode {image.mode})")
            if image.has_transparency_data:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        # Its own words hold an address in memory, and a refusal's reason goes into a manifest.
        raise ValueError("not an image that decodes: of no known format") from None
    except (MemoryError, ValueError):
        raise
    except Exception as error:
        # Each of Pillow's plugins has its own way to stumble over a damaged file.
        raise ValueError(f"not an image that decodes: {error}") from None
