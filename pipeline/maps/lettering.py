"""The font of pictures, and names in letters that it lacks.

DejaVu Sans, which Linux desktops and matplotlib bring along, has the letters of European languages, Greek and Cyrillic
too; without it Pillow's own has little beyond
ASCII. A letter that the font lacks is written without its accents,
else by its number, [4E2D]: longer, but another name still looks like another.
"""

from __future__ import annotations

import functools
import importlib.util
import unicodedata
from pathlib import Path

from PIL import ImageFont

_NAME = "DejaVuSans.ttf"
_PROBE_PX = 20
_NO_LETTER = "\U0010ffff"


@functools.cache
def font_of(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The best that is here, so many pixels high."""
    for name in (_NAME, *_beside_matplotlib()):
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def written(words: str) -> str:
    """The words in letters that the font has."""
    return "".join(_letter(letter) for letter in unicodedata.normalize("NFC", words))


@functools.cache
def _letter(letter: str) -> str:
    if has(letter):
        return letter
    plain = "".join(part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part))
    if plain != letter and plain and all(map(has, plain)):
        return plain
    return f"[{ord(letter):04X}]"


@functools.cache
def has(letter: str) -> bool:
    """Whether the font draws it as anything but its sign for a letter that it lacks."""
    font = font_of(_PROBE_PX)
    return bytes(font.getmask(letter)) != bytes(font.getmask(_NO_LETTER))


def _beside_matplotlib() -> list[str]:
    """The font in matplotlib's folder, found without importing it."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return []
    return [str(Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / _NAME)]
