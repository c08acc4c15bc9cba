"""A Parquet table a slide, `<slide>.parquet`: a row a tile.

x, y      int64, top left corner in level-0 pixels
tissue    float32, share of the tile that is tissue
embedding fixed-size list of D float32
of the schema: `about` (scale and size of tiles and slide, the encoder) and the stamp, JSON each
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.embed.features import Features
from pipeline.embed.formats.place import Place
from pipeline.embed.stamps import KEY

_ROWS = 4096


def paths(place: Place) -> tuple[PurePath, ...]:
    """One file."""
    return (PurePath(f"{place.name}.parquet"),)


def write(features: Features, partials: Sequence[Path], finals: Sequence[Path]) -> None:
    """Row groups of some thousand tiles."""
    kind = pa.list_(pa.float32(), features.encoder.width)
    flat = np.ascontiguousarray(features.answer.embedding_ND).reshape(-1)
    columns = {
        "x": pa.array(features.corner_N2[:, 0]),
        "y": pa.array(features.corner_N2[:, 1]),
        "tissue": pa.array(features.tissue_N),
        "embedding": pa.FixedSizeListArray.from_arrays(flat, type=kind),
    }
    told = {"about": json.dumps(features.about()), KEY: features.stamp_text}
    table = pa.table(columns).replace_schema_metadata(told)
    pq.write_table(table, partials[0], row_group_size=_ROWS)
