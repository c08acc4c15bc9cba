"""Pictures of slides as data URIs, small enough that the page stays one file that opens anywhere."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from pipeline.base.items import TilesItem, TilesManifest
from pipeline.base.store import Ref, Store
from pipeline.evaluate.summary import Maps, MapTile

BUDGET_BYTES = 10_000_000
"""Of all pictures together, before base64 makes them a third larger: the page stays below 15 MB."""
MOST_BYTES = 150_000
"""Of one picture: more is not seen at the size at which the page shows it."""
NAMES = ("thumb.jpg", "overlay.jpg", "mosaic.jpg")
FEW = 5
"""Damaged items that are named."""
DENSER = 0.5
"""A picture's bytes a pixel after making it smaller over those before: at these qualities rarely less."""
SIDES_PX = (1024, 768, 512, 384, 256, 180, 120)
"""A half and a quarter of the thumbnail's 1024 px are among them: the decoder makes those itself, and far faster."""
QUALITIES = (82, 70)


@dataclass(frozen=True)
class SlidePictures:
    """Data URIs of one slide; an empty string where the store does not hold the picture."""

    thumb: str
    overlay: str
    mosaic: str


@dataclass(frozen=True)
class Stored:
    """The pictures that the store holds of slides' tiles; `damaged` grows by the items in which one is not whole."""

    tiles: TilesManifest
    store: Store
    damaged: set[str] = field(default_factory=set)

    def read(self, item: TilesItem, name: str) -> bytes:
        """The file as it was committed; empty where there is none, or its bytes are others."""
        ref = Ref.of(self.tiles, item)
        try:
            data = (self.store.path(ref) / name).read_bytes()
        except OSError:
            return b""
        known = self.store.files(ref).get(name)
        if known is not None and hashlib.sha256(data).hexdigest() == known["sha256"]:
            return data
        self.damaged.add(str(ref))
        return b""

    def told(self) -> str:
        """What is to be said of damaged items, and what to do; empty where there are none."""
        if not self.damaged:
            return ""
        named = ", ".join(sorted(self.damaged)[:FEW])
        return (
            f"pictures left out, since the store's are damaged: {named}\n  -> `histill store verify` says how to mend"
        )


def slide_pictures(stored: Stored, items: list[TilesItem]) -> dict[str, SlidePictures]:
    """{slide id: pictures}, sharing the budget equally."""
    share = min(MOST_BYTES, BUDGET_BYTES // max(1, len(items) * len(NAMES)))
    pictures = {}
    for item in items:
        thumb, overlay, mosaic = (data_uri(stored.read(item, name), share) for name in NAMES)
        # A folder of images has no view of a whole slide: its thumbnail is the mosaic.
        pictures[item.id] = SlidePictures("" if item.kind == "folder" else thumb, overlay, mosaic)
    return pictures


@dataclass(frozen=True)
class MapPictures:
    """Data URIs of one tile, and of what both models' tokens of it look like (see evaluate/pca_maps.py)."""

    of: MapTile
    tile: str
    teacher: str
    student: str


def map_pictures(maps: Maps | None, folder: Path) -> list[MapPictures]:
    """Of each tile with maps; one of which a picture is gone is left out."""
    found = []
    for i, tile in enumerate(maps.tiles if maps else ()):
        shown = MapPictures(
            tile,
            _whole(folder / f"{i}-tile.jpg", "jpeg"),
            _whole(folder / f"{i}-teacher.png", "png"),
            _whole(folder / f"{i}-student.png", "png"),
        )
        if shown.tile and shown.teacher and shown.student:
            found.append(shown)
    return found


def _whole(path: Path, kind: str) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(path.read_bytes()).decode() if path.is_file() else ""


def spread(items: tuple[TilesItem, ...], most: int) -> list[TilesItem]:
    """At most `most` items, evenly spread over the list."""
    if len(items) <= most:
        return list(items)
    return [items[i * len(items) // most] for i in range(most)]


def data_uri(data: bytes, nbytes: int) -> str:
    """A JPEG in at most so many bytes; empty for nothing."""
    data = small_jpeg(data, nbytes)
    return "data:image/jpeg;base64," + base64.b64encode(data).decode() if data else ""


def small_jpeg(data: bytes, nbytes: int) -> bytes:
    """A JPEG as it is where it fits, else made smaller until it does."""
    if len(data) <= nbytes:
        return data
    with Image.open(io.BytesIO(data)) as opened:
        whole_px = max(opened.size)
    # A size of which a dense picture surely does not fit is not tried: with a thousand slides a trial is half a minute.
    tried = [side for side in SIDES_PX if len(data) * min(1.0, side / whole_px) ** 2 * DENSER < nbytes] or SIDES_PX[-1:]
    smaller = data
    for side_px in tried:
        # Opened anew, so that the decoder itself leaves out what the smaller picture does not show.
        with Image.open(io.BytesIO(data)) as whole:
            whole.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=1.0)
            shown = whole.convert("RGB")
        for quality in QUALITIES:
            out = io.BytesIO()
            shown.save(out, "JPEG", quality=quality)
            smaller = out.getvalue()
            if len(smaller) <= nbytes:
                return smaller
    return smaller
