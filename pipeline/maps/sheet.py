"""What all pictures for people are drawn with: text, colours, a bar for the scale, the ramp of a legend."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.base.files import write_atomic
from pipeline.maps.colours import Scale, ramp
from pipeline.maps.lettering import font_of, written

PAPER, INK, FAINT = (255, 255, 255), (20, 20, 20), (225, 225, 225)
MARGIN_PX, TEXT_PX = 24, 22
_RAMP_PX = (260, 18)
_LENGTHS_UM = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)


class Sheet:
    """A white picture to draw on."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), PAPER)
        self._draw = ImageDraw.Draw(self.image)

    def paste(self, rgb_HWC: NDArray[np.uint8], x: int, y: int) -> None:
        """A picture with its top left corner there."""
        self.image.paste(Image.fromarray(rgb_HWC), (x, y))

    def text(self, words: str, x: int, y: int, size: int = TEXT_PX, most_px: int | None = None) -> int:
        """Write, with the top left corner there, and cut it where it is longer than `most_px`; its width."""
        font = font_of(size)
        words = written(words)
        while most_px is not None and len(words) > 4 and font.getlength(words) > most_px:
            words = words[:-4] + "..."
        self._draw.text((x, y), words, fill=INK, font=font)
        return round(font.getlength(words))

    def box(self, box: tuple[float, float, float, float]) -> None:
        """A frame that is seen on light and dark: black outside, white inside."""
        x0, y0, x1, y1 = (round(value) for value in box)
        self._draw.rectangle((x0 - 3, y0 - 3, x1 + 3, y1 + 3), outline=INK, width=3)
        self._draw.rectangle((x0, y0, x1, y1), outline=PAPER, width=2)

    def scale_bar(self, x: int, y: int, um_a_px: float, most_px: int) -> int:
        """The longest round length that fits, with its text; returns its width."""
        fits = [length for length in _LENGTHS_UM if length / um_a_px <= most_px] or [_LENGTHS_UM[0]]
        length = round(fits[-1] / um_a_px)
        self._draw.rectangle((x, y + 6, x + length, y + 12), fill=INK)
        said = f"{fits[-1] // 1000} mm" if fits[-1] >= 1000 else f"{fits[-1]} um"
        return max(length, 0) + 8 + self.text(said, x + length + 8, y - 4)

    def legend(self, x: int, y: int, scale: Scale) -> int:
        """The ramp between its ends' numbers; returns its width."""
        width, height = _RAMP_PX
        low = self.text(f"{scale.low:.2f}", x, y - 4) + 8
        row_N3 = ramp(np.linspace(scale.low, scale.high, width), scale)
        self.paste(np.repeat(row_N3[None], height, axis=0), x + low, y)
        return low + width + 8 + self.text(f"{scale.high:.2f}", x + low + width + 8, y - 4)

    def write(self, path: Path) -> None:
        """As PNG."""
        data = io.BytesIO()
        self.image.save(data, "PNG")
        write_atomic(path, data.getvalue())
