"""Files of features as `histill embed` writes them, of embeddings that a test knows, without an encoder."""

from __future__ import annotations

from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from pipeline.embed.encoders.encoder import Facts
from pipeline.embed.features import Features, SlideFacts
from pipeline.embed.formats import FORMATS, Place
from pipeline.params.tiles import TilesParams
from pipeline.tiles.grid import geometry_of, lay

MPP, TILE_PX = 0.5, 64
SIZE = 530, 401
"""Of a slide: no multiple of a tile, nor of a map's pixels."""


def write_embedded(folder: Path, form: str, slide: Path, size: tuple[int, int], width: int = 6) -> Path:
    """The file in `form` of all whole tiles of 64 px at 0.5 um/px; embeddings are `embeddings(N, width)`."""
    finals = [folder / f"{i}-{slide.stem}{_SUFFIX[form]}" for i in range(_FILES[form])]
    folder.mkdir(parents=True, exist_ok=True)
    FORMATS[form].write(_features(slide, size, width), finals, finals)
    return finals[-1]


def embedded_job(job: Path, form: str, slide: Path, size: tuple[int, int], width: int) -> Features:
    """The same where `histill embed --out` puts the files of `form`; gives what was written."""
    features = _features(slide, size, width)
    place = Place(slide.stem, PurePath(slide.name), "made", TILE_PX, MPP, 0, None)
    finals = [job / path for path in FORMATS[form].paths(place)]
    for path in finals:
        path.parent.mkdir(parents=True, exist_ok=True)
    FORMATS[form].write(features, finals, finals)
    return features


def _features(slide: Path, size: tuple[int, int], width: int) -> Features:
    levels = [(*size, 1.0)]
    geometry = geometry_of(levels, (MPP, MPP), TilesParams(tile_px=TILE_PX, target_mpp=MPP))
    corner_N2 = np.stack(lay(geometry, "skip").corners(), axis=1).astype(np.int64)
    return Features(
        slide=SlideFacts(slide.stem, str(slide.absolute()), PurePath(slide.name), (MPP, MPP), tuple(levels), None),
        geometry=geometry,
        overlap_px=0,
        corner_N2=corner_N2,
        tissue_N=np.ones(len(corner_N2), np.float32),
        embedding_ND=embeddings(len(corner_N2), width),
        encoder=Facts("made", "0" * 32, width, 64),
        stands_for=None,
        stamp={"digest": "0", "tiling": {"tile_px": TILE_PX, "target_mpp": MPP}},
    )


_SUFFIX = {"parquet": ".parquet", "trident": ".h5", "clam": ".h5", "stamp": ".h5"}
_FILES = {"parquet": 1, "trident": 2, "clam": 3, "stamp": 1}


def embeddings(n: int, width: int) -> NDArray[np.float32]:
    """(n, width), with a common part as those of real encoders have."""
    found: NDArray[np.float32] = np.random.default_rng(7).normal(1, 1, (n, width)).astype(np.float32)
    return found
