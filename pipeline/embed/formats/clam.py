"""CLAM's feature folder: `h5_files/<slide_id>.h5` and `pt_files/<slide_id>.pt`, and the tiling in `patches/`.

    h5  features  float32 (N, D), chunks (32, D); coords int32 (N, 2), level-0 pixels; patch tokens (dense.py)
    pt  one float32 tensor (N, D), which training reads unless it is told `load_from_h5(True)`

Source: CLAM 53e2409, extract_features_fp.py:38, dataset_generic.py:338; WholeSlideImage.py:466 of the tiling.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

import h5py
import numpy as np

from pipeline.embed.features import Features
from pipeline.embed.formats.dense import write_patch
from pipeline.embed.formats.place import Place
from pipeline.embed.formats.tiling import require_square, write_own
from pipeline.embed.formats.torch_file import write_tensor
from pipeline.embed.stamps import KEY
from pipeline.tiles.coords.tiling import clam_attributes

_ROWS = 32


def paths(place: Place) -> tuple[PurePath, ...]:
    """The tiling, where it is our own; the tensor; the HDF5 file."""
    own = PurePath("patches") / f"{place.name}.h5"
    # A tiling that was given is where it was.
    tiling = () if place.coords is not None else (own,)
    return (*tiling, PurePath("pt_files") / f"{place.name}.pt", PurePath("h5_files") / f"{place.name}.h5")


def write(features: Features, partials: Sequence[Path], finals: Sequence[Path]) -> None:
    """Raises `SlideRefused` where another's tiling is in the way, or the slide's pixels are not square."""
    require_square(features)
    *tiling, tensor, file = partials
    if tiling:
        level = features.geometry.level if features.geometry.level < len(features.slide.levels) else 0
        attributes = clam_attributes(features.side_l0, level, features.slide.levels[level])
        attributes |= {"name": features.slide.name, "save_path": str(finals[0].parent)}
        write_own(features, attributes, tiling[0], finals[0])
    write_tensor(tensor, features.embedding_ND)
    n, width = features.embedding_ND.shape
    with h5py.File(file, "w") as opened:
        opened.create_dataset(
            "features", data=features.embedding_ND, chunks=(min(_ROWS, n), width), maxshape=(None, width)
        )
        opened.create_dataset(
            "coords", data=features.corner_N2.astype(np.int32), chunks=(min(_ROWS, n), 2), maxshape=(None, 2)
        )
        write_patch(opened, features)
        opened.attrs[KEY] = features.stamp_text
