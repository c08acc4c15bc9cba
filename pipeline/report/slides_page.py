"""reports/slides.html: every slide with what was taken of it and what was not, for hundreds of slides.

The page holds no picture: its data is a JSON inside, a script pages, sorts and filters, and only the pictures on the
screen are loaded, from small files beside it. It opens from a disk, without a network or a server. Everything that a
table could have put there is set as text, never as markup.

A picture's file is called after what it was made of, and after what is in it: slides/<slide>~<hash>-<CRC-32>.jpg and
slides/<slide>~tiles~<hash>-<CRC-32>.jpg. One that is there and has that CRC is right, so that a report of ten thousand
slides makes the pictures of those alone that are new; DVC leaves the folder where it is (`persist`).
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from pipeline.base.files import write_atomic
from pipeline.base.items import WITH_TISSUE, SlideItem, SlidesManifest, TilesItem
from pipeline.base.limits import usable_cores
from pipeline.base.types import Json
from pipeline.report.pictures import Stored, small_jpeg

PICTURES = {"": "overlay.jpg", "~tiles": "mosaic.jpg"}
"""Ending of the file's name here -> picture in the store; thumb.jpg stands in for an overlay that there is none of.

No slide id has a `~`: the tiles of the slide `a` are never written over the slide `a-tiles`.
"""
MOST_BYTES = 60_000
"""Of one picture: a thousand slides are then at most 120 MB, and a screen of them loads at once."""
FORM = 1
"""Of the pictures: count it up when `small_jpeg` makes others of the same."""


def build_slides_page(environment: Environment, title: str, slides: SlidesManifest, stored: Stored, out: Path) -> None:
    """Write the page to `out`, and the pictures to the folder `slides` beside it; pictures of other slides go."""
    folder = out.parent / "slides"
    folder.mkdir(parents=True, exist_ok=True)
    about, tiles = {item.id: item for item in slides.items}, stored.tiles
    there = {path.stem.rpartition("-")[0]: path for path in folder.glob("*.jpg")}

    def pictures_of(item: TilesItem) -> dict[str, str]:
        return _pictures(item, stored, folder, there)

    # Pillow lets go of the interpreter's lock while it decodes, resizes and encodes.
    with ThreadPoolExecutor(usable_cores()) as pool:
        pictures = list(pool.map(pictures_of, tiles.items))
    rows = [_row(item, about.get(item.id), found) for item, found in zip(tiles.items, pictures, strict=True)]
    names = {name for found in pictures for name in found.values()}
    for stale in sorted(folder.glob("*.jpg")):
        if stale.name not in names:
            stale.unlink()
    # In a script element nothing is escaped, so no `<` may end it early.
    data = json.dumps(rows, ensure_ascii=False, sort_keys=True).replace("<", "\\u003c")
    parts = {
        name: Markup(environment.get_template(name).render()) for name in ("report.css", "slides.css", "slides.js")
    }
    page = environment.get_template("slides.html").render(
        title=title,
        css=parts["report.css"] + parts["slides.css"],
        script=parts["slides.js"],
        data=Markup(data),
        refused=len(tiles.refused),
    )
    write_atomic(out, page.encode())


def _row(item: TilesItem, about: SlideItem | None, pictures: dict[str, str]) -> dict[str, Json]:
    """What the page knows of one slide."""
    dropped = {reason: n for reason, n in item.dropped.items() if n}
    lost = sum(dropped.get(reason, 0) for reason in WITH_TISSUE)
    return {
        "id": item.id,
        "split": item.split,
        "label": item.label or "",
        "tiles": item.n,
        "tissue": item.tissue_mm2,
        "dropped": dropped,
        "remarks": list(item.remarks),
        "lost": lost / (item.n + lost) if item.n + lost else 0.0,
        "mpp": about.mpp[0] if about and about.mpp else None,
        "width": about.width_px if about else None,
        "height": about.height_px if about else None,
        "overlay": pictures.get(""),
        "mosaic": pictures.get("~tiles"),
    }


def _pictures(item: TilesItem, stored: Stored, folder: Path, there: Mapping[str, Path]) -> dict[str, str]:
    """Write those of one slide's pictures that are not `there`, by what they are made of; their names by ending.

    What the store does not hold is left out.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", item.id)[:128]
    made_of = hashlib.sha256(json.dumps([FORM, MOST_BYTES, item.digest]).encode()).hexdigest()[:12]
    written = {}
    for ending, name in PICTURES.items():
        called = f"{stem}{ending}~{made_of}"
        found = there.get(called)
        if found is not None and found.name == _named(called, found.read_bytes()):
            written[ending] = found.name
            continue
        data = stored.read(item, name) or (b"" if ending else stored.read(item, "thumb.jpg"))
        if data:
            small = small_jpeg(data, MOST_BYTES)
            written[ending] = _named(called, small)
            write_atomic(folder / written[ending], small)
    return written


def _named(called: str, data: bytes) -> str:
    """The name of a picture's file: half of one, or a damaged one, has another."""
    return f"{called}-{zlib.crc32(data):08x}.jpg"
