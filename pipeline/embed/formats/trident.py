"""TRIDENT's job folder: `<M>x_<P>px_<O>px_overlap/features_<encoder>/<slide>.h5`, and the tiling in `patches/`.

    features  float32 (N, D), chunks (1, D); attributes name, savetodir, encoder
    patch     with patch tokens (dense.py)
    coords    int64 (N, 2), level-0 pixels; its attributes those of the tiling (see tiles/coords/tiling.py)

Its slide encoders read `features`, `coords` and the attribute `patch_size_level0`, from the folder of the patch encoder
that they were made for: `--as` names it. Source: TRIDENT a91fa84, WSI.py:1025, Processor.py:518 and :763.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

import h5py
import numpy as np
from numpy.typing import ArrayLike

from pipeline.embed.features import Features
from pipeline.embed.formats.dense import write_patch
from pipeline.embed.formats.place import Place
from pipeline.embed.formats.tiling import require_square, write_own
from pipeline.embed.stamps import KEY
from pipeline.tiles.coords.tiling import trident_attributes, trident_folder

_FOLDER = re.compile(r".+x_\d+px_\d+px_overlap")


def folder_of(place: Place) -> PurePath:
    """The tiling's folder in the job: that of the given tiling, or as TRIDENT calls it."""
    if place.coords is not None and _FOLDER.fullmatch(place.coords.parent.parent.name):
        return PurePath(place.coords.parent.parent.name)
    return PurePath(trident_folder(place.target_mpp, place.tile_px, place.overlap_px))


def paths(place: Place) -> tuple[PurePath, ...]:
    """The tiling, and the features."""
    folder = folder_of(place)
    return (
        folder / "patches" / f"{place.name}_patches.h5",
        folder / f"features_{place.called}" / f"{place.name}.h5",
    )


def write(features: Features, partials: Sequence[Path], finals: Sequence[Path]) -> None:
    """Raises `SlideRefused` where another tiling of the slide is there, or its pixels are not square."""
    (patches, file), (tiling, final) = partials, finals
    require_square(features)
    attributes = _attributes(features)
    if not _is_given(features, tiling):
        own = {**attributes, "name": features.slide.name, "savetodir": str(tiling.parent.parent)}
        write_own(features, own, patches, tiling)
    named = {"name": features.slide.name, "savetodir": str(final.parent)}
    with h5py.File(file, "w") as opened:
        answers = opened.create_dataset(
            "features",
            data=features.embedding_ND,
            chunks=(1, features.encoder.width),
            maxshape=(None, features.encoder.width),
        )
        answers.attrs.update({**named, "encoder": features.called})
        coords = opened.create_dataset("coords", data=features.corner_N2, chunks=(1, 2), maxshape=(None, 2))
        coords.attrs.update({**named, **attributes})
        write_patch(opened, features)
        opened.attrs[KEY] = features.stamp_text


def _attributes(features: Features) -> dict[str, ArrayLike]:
    """Of the given tiling as they are, where they are TRIDENT's; else of ours."""
    if features.slide.coords is not None:
        with h5py.File(features.slide.coords, "r") as file:
            given = dict(file["coords"].attrs)
        if "target_magnification" in given:
            return {name: value for name, value in given.items() if name not in ("name", "savetodir")}
    geometry = features.geometry
    return trident_attributes(
        geometry.tile_px, features.side_l0, features.slide.mpp_xy[0], features.overlap_px, geometry.slide_l0
    )


def _is_given(features: Features, tiling: Path) -> bool:
    """Whether the tiling in its place is the one that the slide was given."""
    given = features.slide.coords
    if given is None or not tiling.exists():
        return False
    if given.samefile(tiling):
        return True
    with h5py.File(tiling, "r") as file:
        return np.array_equal(np.asarray(file["coords"]), features.corner_N2)
