"""slide2vec's output folder: coordinates in `tiles/`, features in `tile_embeddings/`, and `process_list.csv`.

    tiles/<id>.coordinates.npz        tile_index int32, x and y int64 level-0 pixels, tissue_fractions float32
    tiles/<id>.coordinates.meta.json  six sections, with just the keys that hs2p checks
    tile_embeddings/<id>.pt           one float32 tensor (N, D); <id>.meta.json beside it, with our stamp

The tool wants tiles ordered by x, then y: so they are here, whatever order a given tiling had. Source: hs2p 6.1.0,
tiling/io.py; slide2vec 7.1.4, artifacts.py:495, runtime/embedding.py:50, runtime/persistence.py:172.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from pipeline.base.files import write_json
from pipeline.base.types import Json
from pipeline.embed.features import Features
from pipeline.embed.formats.place import Place
from pipeline.embed.formats.torch_file import write_tensor
from pipeline.embed.shared_table import SharedTable
from pipeline.embed.stamps import KEY

PROCESSES = (
    "sample_id", "annotation", "image_path", "mask_path", "requested_backend", "backend", "tiling_status", "num_tiles",
    "coordinates_npz_path", "coordinates_meta_path", "error", "traceback", "feature_status", "feature_path",
    "encoder_name", "output_variant", "feature_kind",
)  # fmt: skip
_BACKEND = "openslide"
_NO_SEGMENTATION = (
    "sthresh", "sthresh_up", "mthresh", "close", "sam2_checkpoint_path", "sam2_config_path", "mask_path",
    "tissue_mask_tissue_value", "mask_level", "mask_spacing_um",
)  # fmt: skip
_NO_FILTER: dict[str, Json] = {
    "a_t": 0, "a_h": 0, "filter_white": False, "filter_black": False, "white_threshold": 0, "black_threshold": 0,
    "fraction_threshold": 0.0, "filter_grayspace": False, "grayspace_saturation_threshold": 0.05,
    "grayspace_fraction_threshold": 0.6, "filter_blur": False, "blur_threshold": 50.0, "qc_spacing_um": 2.0,
}  # fmt: skip
"""Of hs2p's own filters: none of them was run."""


def paths(place: Place) -> tuple[PurePath, ...]:
    """Coordinates and what they mean, features and what they are."""
    tiles, features = PurePath("tiles") / place.name, PurePath("tile_embeddings") / place.name
    return (
        tiles.with_name(f"{place.name}.coordinates.npz"),
        tiles.with_name(f"{place.name}.coordinates.meta.json"),
        features.with_name(f"{place.name}.pt"),
        features.with_name(f"{place.name}.meta.json"),
    )


def write(features: Features, partials: Sequence[Path], finals: Sequence[Path]) -> None:
    """All four, and the slide's row of the process list."""
    order = np.lexsort((features.corner_N2[:, 1], features.corner_N2[:, 0]))
    x_N, y_N = features.corner_N2[order].T
    np.savez_compressed(
        partials[0],
        tile_index=np.arange(len(order), dtype=np.int32),
        x=x_N,
        y=y_N,
        tissue_fractions=features.tissue_N[order],
    )
    write_json(partials[1], _tiling(features))
    write_tensor(partials[2], features.embedding_ND[order])
    npz, meta, tensor = (str(path.absolute()) for path in finals[:3])
    write_json(
        partials[3],
        {
            "sample_id": features.slide.name,
            "artifact_type": "tile_embeddings",
            "format": "pt",
            "feature_dim": features.encoder.width,
            "num_tiles": len(features),
            "annotation": None,
            "encoder_name": features.called,
            "encoder_level": "tile",
            "coordinates_npz_path": npz,
            "coordinates_meta_path": meta,
            "tiles_tar_path": "",
            "image_path": features.slide.where,
            "mask_path": None,
            "tile_size_lv0": round(features.side_l0),
            "backend": _BACKEND,
            "read_tile_size_px": _read_px(features),
            "requested_tile_size_px": features.geometry.tile_px,
            "encoder_input_size_px": features.encoder.input_px,
            "requested_spacing_um": features.tile_mpp,
            "compatibility": {"encoder": features.called, "weights": features.encoder.digest},
            KEY: features.stamp_text,
        },
    )
    SharedTable(finals[0].parents[1] / "process_list.csv", PROCESSES).put(
        {
            "sample_id": features.slide.name,
            "image_path": features.slide.where,
            "requested_backend": _BACKEND,
            "backend": _BACKEND,
            "tiling_status": "success",
            "num_tiles": len(features),
            "coordinates_npz_path": npz,
            "coordinates_meta_path": meta,
            "feature_status": "success",
            "feature_path": tensor,
            "encoder_name": features.called,
            "feature_kind": "tile",
        }
    )


def _tiling(features: Features) -> dict[str, Json]:
    """The six sections that hs2p checks; what it has no word for (our tissue) is called a tissue method `histill`."""
    geometry, slide = features.geometry, features.slide
    step_px = geometry.tile_px - features.overlap_px
    return {
        "provenance": {
            "sample_id": slide.name,
            "image_path": slide.where,
            "mask_path": None,
            "backend": _BACKEND,
            "requested_backend": _BACKEND,
            "spacing_at_level_0": slide.mpp_xy[0],
            "mask_backend": None,
            "requested_mask_backend": None,
        },
        "slide": {
            "dimensions": list(geometry.slide_l0),
            "base_spacing_um": slide.mpp_xy[0],
            "level_downsamples": [downsample for _, _, downsample in slide.levels],
        },
        "tiling": {
            "requested_tile_size_px": geometry.tile_px,
            "requested_spacing_um": features.tile_mpp,
            "read_level": _level(features),
            "read_tile_size_px": _read_px(features),
            "read_spacing_um": slide.mpp_xy[0] * slide.levels[_level(features)][2],
            "tile_size_lv0": round(features.side_l0),
            "tolerance": 0.01,
            "step_px_lv0": round(step_px * geometry.scale[0]),
            "overlap": features.overlap_px / geometry.tile_px,
            "min_tissue_fraction": float(features.tissue_N.min(initial=1.0)),
            "is_within_tolerance": geometry.as_is,
            "n_tiles": len(features),
        },
        "segmentation": {
            "tissue_method": "histill",
            "requested_seg_downsample": 1,
            "seg_downsample": 1,
            "seg_level": 0,
            "seg_spacing_um": slide.mpp_xy[0],
            "ref_tile_size_px": geometry.tile_px,
            **dict.fromkeys(_NO_SEGMENTATION),
        },
        "filtering": _NO_FILTER,
        "artifact": {
            "coordinate_space": "level0_px",
            "tile_order": "x_then_y",
            "annotation": None,
            "selection_strategy": None,
            "output_mode": None,
        },
    }


def _level(features: Features) -> int:
    """The file's own level that is read; 0 where it was one that the reader adds."""
    return features.geometry.level if features.geometry.level < len(features.slide.levels) else 0


def _read_px(features: Features) -> int:
    return round(features.side_l0 / features.slide.levels[_level(features)][2])
