"""STAMP's feature folder: `<extractor>/<path of the slide>.h5`, as the slides lie below the folder that was given.

    feats   float16 (N, D); coords float32 (N, 2), top left corners in MICROMETRES
    of the file: stamp_version, extractor, unit, tile_size_um, tile_size_px, code_hash, feat_type

A `stamp_version` newer than the installed one is an error there, so the oldest that has this layout is told. Source:
STAMP c54ce06, preprocessing/__init__.py:350, modeling/data.py:612 and :741.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

import h5py
import numpy as np

from pipeline.embed.features import Features
from pipeline.embed.formats.place import Place
from pipeline.embed.stamps import KEY

OLDEST = "2.1.0"


def paths(place: Place) -> tuple[PurePath, ...]:
    """One file."""
    return (PurePath(place.called) / place.below.with_suffix(".h5"),)


def write(features: Features, partials: Sequence[Path], finals: Sequence[Path]) -> None:
    """In float16, as the tool keeps them."""
    with h5py.File(partials[0], "w") as file:
        file["coords"] = (features.corner_N2 * np.array(features.slide.mpp_xy)).astype(np.float32)
        file["feats"] = features.answer.embedding_ND.astype(np.float16)
        file.attrs.update(
            {
                "stamp_version": OLDEST,
                "extractor": features.called,
                "unit": "um",
                "tile_size_um": features.tile_um,
                "tile_size_px": features.geometry.tile_px,
                "code_hash": features.encoder.digest[:8],
                "feat_type": "tile",
                KEY: features.stamp_text,
            }
        )
