"""The compressed tiles of a tiled TIFF, and their pixels. The only file that opens slides with tifffile.

A whole-slide TIFF is a grid of small images a level, each compressed by itself: what a tile grid needs of it can be
read and decoded once, without a library between that decodes the same tile again for each neighbour. JPEG goes through
the turbo-JPEG binding in its strict mode, because a decoder that goes on after corrupt data makes grey or shifted
tiles; JPEG 2000, deflate and what else tifffile knows go through tifffile to imagecodecs. No JPEG 2000 decoder here is
strict (OpenSlide's is not either), so of those it is looked at whether they end where they should.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray

from pipeline.slides.ome import physical_size
from pipeline.slides.read.levels import is_reduced

_JPEG, _RGB, _YCBCR = 7, 2, 6
_NO_UNIT = 1
_JPEG_2000 = (33003, 33005, 34712)
_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
"""Of JPEG; JPEG 2000 has the same end."""
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
"""An APP14 segment up to its last byte, which says what the components are: 0 = RGB, 1 = YCbCr."""
_MAX_TILE_PX = 4096
MAX_TILES = 1 << 21
"""Of all levels: tifffile takes 80 bytes a tile. A slide of 300,000 px a side has 1.4 million of 256 px."""


MOST_TILE_SIDE_PX = 1024
"""A TIFF of one page, without a scale, and no larger than this is a tile that somebody has cut, not a slide."""


class DamagedTile(ValueError):
    """A tile whose bytes are not there or do not decode."""


@dataclass(frozen=True)
class TiffLevel:
    """One page: `across` x `down` tiles of `tile_w` x `tile_h` px; `header` goes before a JPEG tile's own bytes."""

    width_px: int
    height_px: int
    tile_w: int
    tile_h: int
    across: int
    down: int
    offsets: NDArray[np.int64]
    nbytes: NDArray[np.int64]
    header: bytes | None
    """Of JPEG tiles: start of image, what the components are, and the tables that the tiles share."""
    jpeg_2000: bool
    page: Any = field(repr=False)
    dct_scale: int = 1
    """By which its JPEG tiles are reduced as they are decoded; sizes are those of the reduced level."""


class TiledTiff:
    """The usable levels of a TIFF by their (width, height) in pixels; `close` it. Raises whatever tifffile does."""

    def __init__(self, path: Path) -> None:
        self._tiff = tifffile.TiffFile(path)
        self._file = os.open(path, os.O_RDONLY)
        self.levels: dict[tuple[int, int], TiffLevel] = {}
        try:
            for page in self._tiff.pages:
                level = _level(page)
                if level is not None:
                    self.levels.setdefault((level.width_px, level.height_px), level)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._tiff.close()
        os.close(self._file)

    def compressed(self, level: TiffLevel, tile: int) -> bytes:
        """The bytes of a tile as they are in the file; a JPEG tile as a file of its own, with its tables.

        Raises `DamagedTile` where the file ends before, or where it cannot be a tile's bytes.
        """
        nbytes = int(level.nbytes[tile])
        if nbytes > _most_nbytes(level):
            raise DamagedTile(f"it is said to have {nbytes} bytes, more than its pixels")
        data = os.pread(self._file, nbytes, int(level.offsets[tile]))
        if len(data) < nbytes:
            raise DamagedTile("the file ends within it")
        if level.header is None:
            if level.jpeg_2000 and not data.rstrip(b"\0").endswith(_EOI):
                raise DamagedTile("the end of the JPEG 2000 codestream is missing")
            return data
        if not data.startswith(_SOI):
            raise DamagedTile("not a JPEG")
        return level.header + data[2:]

    def decode(self, level: TiffLevel, tile: int, out_HWC: NDArray[np.uint8]) -> None:
        """The tile's RGB pixels into `out_HWC` (tile_h, tile_w, 3) uint8, C-contiguous. Raises `DamagedTile`."""
        data = self.compressed(level, tile)
        if level.header is not None:
            check_jpeg_size(data, (level.tile_w * level.dct_scale, level.tile_h * level.dct_scale))
            try:
                simplejpeg.decode_jpeg(
                    data,
                    "RGB",
                    min_height=level.tile_h,
                    min_width=level.tile_w,
                    min_factor=level.dct_scale,
                    buffer=out_HWC,
                )
            except ValueError as error:
                raise DamagedTile(str(error)) from None
            return
        try:
            pixels, _, _ = level.page.decode(data, tile)
        except Exception as error:
            # Each codec has its own exceptions, and what a damaged stream makes it raise is not documented.
            raise DamagedTile(str(error)) from None
        if pixels is None or pixels.shape[-3:] != (*pixels.shape[-3:-1], 3) or pixels.dtype != np.uint8:
            raise DamagedTile("it decodes to nothing or to other than RGB")
        height, width = pixels.shape[-3:-1]
        out_HWC.fill(255)
        out_HWC[:height, :width] = pixels.reshape(height, width, 3)


@dataclass(frozen=True)
class Wrong:
    """What a tiled TIFF says of itself that cannot be, or hides the slide, in words; None where it does not.

    `odd` is what its tags say of how its tiles are decoded that is not usual for their compression; mostly nothing.
    """

    lie: str | None = None
    larger: str | None = None
    odd: str = ""


def find_wrong(path: Path, levels: Sequence[tuple[int, int]]) -> Wrong:
    """What keeps a TIFF from being read as the slide; `levels` are OpenSlide's, (width, height).

    Nothing where tifffile does not parse it: whatever that raises, OpenSlide may know better.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]
            return Wrong(_judged(_lie, pages, levels), _judged(_larger, pages, levels), _odd(pages))
    except Exception:
        return Wrong()


Pages = Sequence[tifffile.TiffPage]
Levels = Sequence[tuple[int, int]]


def _judged(judge: Callable[[Pages, Levels], str | None], pages: Pages, levels: Levels) -> str | None:
    """What one of the two says; None also where what the file says makes it raise, as in opening it."""
    try:
        return judge(pages, levels)
    except Exception:
        return None


def _odd(pages: Pages) -> str:
    """What no hash of raw tiles covers, and whoever puts it right in place changes every pixel.

    JPEG is YCbCr but where Aperio's description, which is hashed, says otherwise; all else is RGB.
    """
    usual = {_JPEG: _RGB if pages and "JPEG/RGB" in pages[0].description else _YCBCR}
    told = []
    for page in pages:
        if page.is_tiled:
            seen = int(page.photometric), int(page.predictor), int(page.planarconfig)
            told += [f"{page.index}: {seen}"] if seen != (usual.get(int(page.compression), _RGB), 1, 1) else []
    return ", ".join(told)


def _lie(pages: Pages, levels: Levels) -> str | None:
    """In these formats the first page is the slide and the others are reduced from it.

    A page has a row of its table for each tile: where its size asks for fewer or more, tiles would be put together in
    the wrong places. Levels that cannot be the slide's are never read, so they may lie.
    """
    usable = {level for level in levels if is_reduced(levels[0], level)}
    tiled = [page for page in pages if page.is_tiled]
    said = [(int(page.imagewidth), int(page.imagelength)) for page in tiled]
    if tiled and tiled[0].index == 0 and said[0] != levels[0] and _hides(tiled, levels) is None:
        return f"its first page says {_by(said[0])} px, and its largest has {_by(levels[0])}"
    for page, (width, height) in zip(tiled, said, strict=True):
        n = -(-width // page.tilewidth) * -(-height // page.tilelength)
        n *= page.samplesperpixel if int(page.planarconfig) == 2 else 1
        if (width, height) in usable and 1 < n != len(page.dataoffsets):
            return f"it says {_by((width, height))} px, {n} tiles, and has {len(page.dataoffsets)}"
    return None


def _larger(pages: Pages, levels: Levels) -> str | None:
    """A first page that is not the largest: OpenSlide shows it alone where no later one says that it is reduced.

    So a thumbnail that comes first hides the slide. A larger page in strips is the slide too where the first has its
    proportions; else it is a photograph of the glass or its label.
    """
    if hidden := _hides([page for page in pages if page.is_tiled], levels):
        return hidden
    first = levels[0]
    for page in pages:
        for part in [page, *(page.pages or ())]:
            size = int(part.imagewidth), int(part.imagelength)
            # What says that it is reduced is no other picture, and is judged where it is read: no sub-page is.
            if int(part.subfiletype) & 1 and part is page:
                continue
            if size[0] * size[1] > first[0] * first[1] and (part.is_tiled or is_reduced(size, first)):
                return f"its first page is not its largest: {_by(first)} px, and another has {_by(size)}"
    return None


def _hides(tiled: Pages, levels: Levels) -> str | None:
    """A first page that is whole, and that OpenSlide puts behind a larger one since their sizes tell their order."""
    if not tiled or tiled[0].index != 0:
        return None
    first, *others = ((int(page.imagewidth), int(page.imagelength)) for page in tiled)
    whole = len(tiled[0].dataoffsets) == -(-first[0] // tiled[0].tilewidth) * -(-first[1] // tiled[0].tilelength)
    if not whole or first == levels[0] or levels[0] not in others:
        return None
    return f"its first page is not its largest: {_by(first)} px, and another has {_by(levels[0])}"


def _by(size_px: tuple[int, int]) -> str:
    return f"{size_px[0]} x {size_px[1]}"


def check_jpeg_size(data: bytes, size_px: tuple[int, int]) -> None:
    """Raises `DamagedTile` where a JPEG's own header does not say 3 components of the size (width, height)."""
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise DamagedTile(str(error)) from None
    if (width, height) != size_px or space not in ("YCbCr", "RGB"):
        raise DamagedTile(f"a JPEG of {width} x {height} px, {space}")


def _most_nbytes(level: TiffLevel) -> int:
    """More than any encoding of a tile takes: twice its pixels, and some for headers."""
    return 2 * 3 * level.tile_w * level.tile_h * level.dct_scale**2 + 65536


def _level(page: Any) -> TiffLevel | None:
    """What the page says, if it is 8-bit RGB in tiles and its tables are as long as its dimensions ask for."""
    if not isinstance(page, tifffile.TiffPage) or not page.is_tiled:
        return None
    width, height, tile_w, tile_h = (
        int(side) for side in (page.imagewidth, page.imagelength, page.tilewidth, page.tilelength)
    )
    plain = page.samplesperpixel == 3 and page.bitspersample == 8 and int(page.planarconfig) == 1
    if not plain or int(page.photometric) not in (_RGB, _YCBCR) or min(width, height, tile_w, tile_h) < 1:
        return None
    across, down = -(-width // tile_w), -(-height // tile_h)
    if max(tile_w, tile_h) > _MAX_TILE_PX or not len(page.dataoffsets) == len(page.databytecounts) == across * down:
        return None
    offsets, nbytes = (np.array(table, np.int64) for table in (page.dataoffsets, page.databytecounts))
    # Python's own integers would take five times the memory of these.
    page.dataoffsets = page.databytecounts = ()
    for name in ("TileOffsets", "TileByteCounts"):
        page.tags[name].value = ()
    header = _header(page) if int(page.compression) == _JPEG else None
    jpeg_2000 = int(page.compression) in _JPEG_2000
    return TiffLevel(width, height, tile_w, tile_h, across, down, offsets, nbytes, header, jpeg_2000, page)


def _header(page: Any) -> bytes:
    """A JPEG file's beginning up to the tile's own segments.

    Without a marker, decoders guess the colour space by the components' names; the TIFF knows, so it is said.
    """
    tables = bytes(page.jpegtables or b"")
    adobe = _ADOBE + (b"\x00" if int(page.photometric) == _RGB else b"\x01")
    return _SOI + adobe + tables.removeprefix(_SOI).removesuffix(_EOI)


def is_tile(path: Path, vendor: str | None) -> bool:
    """Whether a TIFF is a picture, not a slide: small, of one page, and without a scale or no slide to OpenSlide."""
    try:
        with tifffile.TiffFile(path) as tiff:
            page, n_pages = tiff.pages.first, len(tiff.pages)
            scaled = "XResolution" in page.tags and int(page.tags.valueof("ResolutionUnit", 2)) != _NO_UNIT
            scaled = scaled or physical_size(page.description, (page.imagewidth, page.imagelength)) is not None
            n_pages += len(page.subifds or ())
            side_px = max(page.imagewidth, page.imagelength)
    except (tifffile.TiffFileError, OSError, ValueError, IndexError, KeyError, TypeError):
        return False
    small = n_pages == 1 and side_px <= MOST_TILE_SIDE_PX
    return small and (vendor is None or (vendor == "generic-tiff" and not scaled))
