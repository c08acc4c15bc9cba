"""HDF5 files of features: TRIDENT's, CLAM's, STAMP's, or anybody's.

    TRIDENT  features, coords with the tiling's attributes (tiles/coords/tiling.py); encoder is an attribute of features
    CLAM     features, coords; the file says nothing of a tile's side: the coordinates' own file does
    STAMP    feats, coords float32 in micrometres; of the file: extractor, tile_size_um, tile_size_px
    plain    features, and coords or x and y in level-0 pixels; of the file, where it says so: encoder, side_l0,
             side_um, patch_px; `slide`, a name a row, where it holds many slides

Source: TRIDENT a91fa84, WSI.py:1025; CLAM 53e2409, extract_features_fp.py:38; STAMP c54ce06, preprocessing/__init__.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.base.types import Array
from pipeline.imports.formats.chunks import pieces_of, rows_of
from pipeline.imports.formats.feature_file import (
    FeatureFile,
    Piece,
    Places,
    Rows,
    Seen,
    read_through,
    refused,
    require_matrix,
    require_places,
    side_told,
)
from pipeline.tiles.coords.tiling import side_of, slide_size_of

NAMES = ("features", "feats")
SAME_SIDE = 0.01
"""By how much two things that a file says of a tile's side may differ: both tools round to whole pixels."""
Attributes = Mapping[str, Array]
Opening: TypeAlias = contextlib.AbstractContextManager[tuple[h5py.File, BinaryIO]]


def open_hdf5(path: Path, slide: str, held: contextlib.ExitStack | None = None) -> FeatureFile:
    """What the file has of that slide. Raises `SlideRefused`, and what h5py raises where it makes no sense of it.

    It is open for as long as `held` is, where that is given, and else opened again by who reads the features.
    """
    with contextlib.ExitStack() as closing:
        opened = (closing if held is None else held).enter_context(_opened(path))
        file, raw = opened
        name = next((name for name in NAMES if name in file), None)
        if name is None:
            raise refused(path, f"has neither features nor feats, but {', '.join(sorted(file)) or 'nothing'}")
        features, told = _own(path, file, name), attributes_of(file)
        require_matrix(path, features.shape or (), features.dtype)
        rows = _rows(path, file, slide, len(features))
        corner_N2 = _corners(path, file, raw, len(features))
        if corner_N2 is not None:
            corner_N2 = rows.of(corner_N2)
        own = attributes_of(file["coords"]) if "coords" in file else None
        own_encoder = _text(attributes_of(features).get("encoder"))
        n, width, dtype = rows.count(len(features)), features.shape[1], str(features.dtype)
    tool, encoder, patch_px, places = _told(path, corner_N2, told, own)
    return FeatureFile(
        path=path,
        tool=tool,
        encoder=own_encoder or encoder,
        dtype=dtype,
        n=n,
        width=width,
        places=places,
        pieces=lambda seen: _pieces(
            _opened(path) if held is None else contextlib.nullcontext(opened), name, rows, seen
        ),
        patch_px=patch_px,
        many=rows.at_N is not None,
    )


def _told(
    path: Path, corner_N2: NDArray[np.float64] | None, told: Attributes, own: Attributes | None
) -> tuple[str, str | None, int | None, Places | None]:
    """Tool, encoder, pixels of a patch and places, by the attributes of the file and of its data set `coords`."""
    if corner_N2 is None:
        return "plain", _text(told.get("encoder")), _whole(told.get("patch_px")), None
    if "stamp_version" in told or "extractor" in told:
        if "tile_size_um" not in told:
            raise refused(path, "is an early STAMP's, which does not say how large a tile is")
        for name, usual in (("unit", "um"), ("feat_type", "tile")):
            if (given := _text(told.get(name))) not in (None, usual):
                raise refused(path, f"says {name} {given}, and a tile's features have {usual}")
        places = Places(corner_N2, float(told["tile_size_um"]), "um", "um")
        return "STAMP", _text(told.get("extractor")), _whole(told.get("tile_size_px")), places
    if own and "patch_size" in own and "target_magnification" in own:
        patch_px, power, target = int(own["patch_size"]), own.get("level0_magnification"), own["target_magnification"]
        if power is not None and not (float(power) > 0 and float(target) > 0):
            raise refused(path, f"is of magnification {target:g}, of a slide of {power:g}")
        side = side_of(own)
        by_power = side if power is None else patch_px * float(power) / float(target)
        if not side >= 1 or abs(by_power / side - 1) > SAME_SIDE + 1 / side:
            what = f"says that a patch is {side:g} level-0 pixels wide, and by its magnifications {by_power:g}"
            raise refused(path, what)
        overlap = float(own.get("overlap", 0)) / patch_px
        places = Places(corner_N2, side, overlap=overlap, slide_l0=slide_size_of(own))
        return "TRIDENT", None, patch_px, places
    side_of_tile, unit = side_told(path, told)
    places = Places(corner_N2, side_of_tile, side_unit=unit)
    plain = side_of_tile is not None or "encoder" in told or own is None
    return "plain" if plain else "CLAM", _text(told.get("encoder")), _whole(told.get("patch_px")), places


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[h5py.File, BinaryIO]]:
    """As the library has it, and its bytes."""
    with open(path, "rb", buffering=0) as raw, h5py.File(path, "r") as file:
        yield file, raw


def _corners(path: Path, file: h5py.File, raw: BinaryIO, n: int) -> NDArray[np.float64] | None:
    """(N, 2), None where the file has no coordinates."""
    if "coords" in file:
        coords = _own(path, file, "coords")
        require_places(path, coords.shape or (), coords.dtype, n)
        return rows_of(coords, raw).astype(np.float64)
    if "x" in file and "y" in file:
        corner_N2 = np.stack([np.ravel(file[name]) for name in ("x", "y")], 1)
        require_places(path, corner_N2.shape, corner_N2.dtype, n)
        return corner_N2.astype(np.float64)
    return None


def _own(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    """A data set, whose numbers have to be in this file: its checksum is what the features are known by."""
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise refused(path, f"has no data set of numbers called {name}, but a folder or a broken link")
    if found.file.id != file.id or found.is_virtual or found.external:
        raise refused(path, f"keeps {name} in another file", fix="write both into one file (h5repack, h5copy)")
    return found


def attributes_of(owner: h5py.HLObject) -> Attributes:
    """Those of a file or data set; some tools write each as an array of one."""
    found = {name: np.asarray(value) for name, value in owner.attrs.items()}
    return {name: value.item() if value.size == 1 else value for name, value in found.items()}


def _rows(path: Path, file: h5py.File, slide: str, n: int) -> Rows:
    """Those of the slide, where the file holds many."""
    return Rows.of_slide(path, np.asarray(file["slide"].asstr()[()]), slide, n) if "slide" in file else Rows()


def _pieces(opening: Opening, name: str, rows: Rows, seen: Seen | None) -> Iterator[Piece]:
    with opening as (file, raw):
        if rows.at_N is None:
            yield from pieces_of(file[name], raw, seen)
            return
        if seen:
            read_through(raw, seen)
        yield 0, rows.of(rows_of(file[name], raw))


def _text(value: object) -> str | None:
    text = value.decode() if isinstance(value, bytes) else value
    return str(text) if text is not None and str(text) else None


def _whole(value: Array | None) -> int | None:
    return None if value is None else int(value)
