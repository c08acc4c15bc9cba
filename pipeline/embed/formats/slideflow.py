"""slideflow's bags: `<slide>.pt`, `<slide>.index.npz`, and one `bags_config.json` for the folder.

    pt         one float32 tensor (N, D)
    index.npz  `arr_0` int64 (N, 2): the CENTRES of tiles, level-0 pixels; beside it our stamp
    json       extractor {class, kwargs}, normalizer, num_features, tile_px, tile_um

Training reads the bags; the extractor is named by a dotted path, as the tool demands, but cannot be built by it.

Source: slideflow 7f5a40b, features.py:628 and :727, tfrecord2idx.py:117, model/extractors/_factory.py:245.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from pipeline.base.files import write_json
from pipeline.embed.features import Features
from pipeline.embed.formats.place import Place
from pipeline.embed.formats.torch_file import write_tensor
from pipeline.embed.stamps import KEY

CONFIG = "bags_config.json"


def paths(place: Place) -> tuple[PurePath, ...]:
    """The tensor and the index."""
    return PurePath(f"{place.name}.pt"), PurePath(f"{place.name}.index.npz")


def write(features: Features, partials: Sequence[Path], finals: Sequence[Path]) -> None:
    """The folder's config is that of the last slide: all of a job have one scale."""
    write_tensor(partials[0], features.answer.embedding_ND)
    centre_N2 = np.rint(features.corner_N2 + np.array(features.geometry.size_l0) / 2).astype(np.int64)
    np.savez(partials[1], centre_N2, allow_pickle=False, **{KEY: np.array(features.stamp_text)})
    write_json(
        finals[0].parent / CONFIG,
        {
            "extractor": {
                "class": "histill.Student",
                "kwargs": {"encoder": features.called, "weights": features.encoder.digest},
            },
            "normalizer": None,
            "num_features": features.encoder.width,
            "tile_px": features.geometry.tile_px,
            "tile_um": round(features.tile_um, 3),
        },
    )
