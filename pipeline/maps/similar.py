"""`histill similar`: the tiles most alike to one, by the cosine of their embeddings, as one picture and one table.

similar.png  the tile itself, framed, then the most alike in their order, each with its cosine and where it is
similar.csv  rank, slide, x, y (level-0 pixels, top left corner), cosine, file
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.files import write_csv
from pipeline.maps.sheet import FAINT, MARGIN_PX, Sheet
from pipeline.maps.source import Embedded
from pipeline.measures.fidelity.embedding import cosine
from pipeline.slides.read.reader import DamagedPixels, SlideReader
from pipeline.tiles.pixels import resize

COLUMNS = ("rank", "slide", "x", "y", "cosine", "file")
_CELL_PX, _CAPTION_PX, _ACROSS = 208, 44, 6
_SMALL_PX = 15


@dataclass(frozen=True)
class Hit:
    """Tile `row` of a slide, and how alike it is."""

    of: Embedded
    row: int
    cosine: float

    @property
    def at_l0(self) -> tuple[int, int]:
        x, y = self.of.tiles.corner_N2[self.row].tolist()
        return x, y


def most_alike(slides: Sequence[Embedded], at_l0: tuple[float, float], n: int) -> list[Hit]:
    """The tile of the first slide at (x, y), and then the n most alike of all slides, best first.

    Tiles that overlap it show the same tissue, and are passed over. Raises `MapError` where no tile lies there.
    """
    first = slides[0].tiles
    query = first.tile_at(*at_l0)
    embedding_1D = first.embedding_ND[query][None]
    found = []
    for i, slide in enumerate(slides):
        cosine_N = cosine(slide.tiles.embedding_ND, embedding_1D)
        if i == 0:
            away_N2 = np.abs(first.corner_N2 - first.corner_N2[query])
            # Corners are rounded: neighbours may seem to overlap by a pixel.
            cosine_N[(away_N2 < np.array(first.size_l0) - 1).all(axis=1)] = -np.inf
        best = np.argsort(-cosine_N, kind="stable")[:n]
        found += [Hit(slide, row, float(cosine_N[row])) for row in best.tolist() if np.isfinite(cosine_N[row])]
    found.sort(key=lambda hit: -hit.cosine)
    return [Hit(slides[0], query, 1.0), *found[:n]]


def write_similar(hits: Sequence[Hit], out: Path) -> list[Path]:
    """The picture and the table; the first hit is what was asked for. Raises `SlideRefused` where a slide is gone."""
    table, png = out / "similar.csv", out / "similar.png"
    rows = [
        {"rank": rank, "slide": hit.of.name, "x": x, "y": y, "cosine": f"{hit.cosine:.4f}", "file": source.where}
        for rank, hit in enumerate(hits)
        for (x, y), source in [(hit.at_l0, hit.of.asked.source)]
    ]
    write_csv(table, COLUMNS, rows)
    _draw(hits).write(png)
    return [png, table]


def _draw(hits: Sequence[Hit]) -> Sheet:
    across = min(_ACROSS, len(hits))
    down = -(-len(hits) // across)
    step_x, step_y = _CELL_PX + MARGIN_PX // 2, _CELL_PX + _CAPTION_PX
    sheet = Sheet(across * step_x + 2 * MARGIN_PX - MARGIN_PX // 2, down * step_y + 2 * MARGIN_PX)
    several = len({hit.of.name for hit in hits}) > 1
    pictures: dict[int, NDArray[np.uint8]] = {}
    # One slide open at a time: those of a bucket may be more than may lie here at once.
    for of in {hit.of.name: hit.of for hit in hits}.values():
        with of.open() as reader:
            pictures |= {rank: tile_picture(reader, hit) for rank, hit in enumerate(hits) if hit.of.name == of.name}
    for rank, hit in enumerate(hits):
        x, y = MARGIN_PX + rank % across * step_x, MARGIN_PX + rank // across * step_y
        sheet.paste(pictures[rank], x, y)
        if rank == 0:
            sheet.box((x, y, x + _CELL_PX - 1, y + _CELL_PX - 1))
        told = "query" if rank == 0 else f"{rank}: {hit.cosine:.4f}"
        place = ",".join(map(str, hit.at_l0))
        sheet.text(f"{told}   {place}", x, y + _CELL_PX + 4, _SMALL_PX, _CELL_PX)
        if several:
            sheet.text(hit.of.name, x, y + _CELL_PX + 4 + _SMALL_PX + 2, _SMALL_PX - 2, _CELL_PX)
    return sheet


def tile_picture(reader: SlideReader, hit: Hit) -> NDArray[np.uint8]:
    """Its pixels in the size of a cell; grey where they do not decode."""
    (x, y), (width, height) = hit.at_l0, hit.of.tiles.size_l0
    fine = [level for level, factor in enumerate(reader.level_downsamples) if width / factor >= _CELL_PX] or [0]
    factor = reader.level_downsamples[fine[-1]]
    try:
        size_px = max(1, round(width / factor)), max(1, round(height / factor))
        return resize(reader.read(fine[-1], x, y, *size_px), (_CELL_PX, _CELL_PX))
    except DamagedPixels:
        return np.full((_CELL_PX, _CELL_PX, 3), FAINT, np.uint8)
