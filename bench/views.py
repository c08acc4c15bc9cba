"""What applying a view costs a tile on one core, beside decoding it: python -m bench.views.

Best of the repeats, interleaved, of one tile at a time with numpy and Pillow, as the student's loader does. Prints a
table; the last line is one JSON object, milliseconds a tile.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from rich.table import Table

from pipeline.base.progress import console
from pipeline.params.tokens import TokensParams
from pipeline.tiles.pixels import decode_jpeg, encode_jpeg
from pipeline.views import view_fields, view_of_tile

SIDE_PX, TILES, REPEATS = 224, 32, 9
KINDS: dict[str, dict[str, Any]] = {
    "turned": {"views": 2},
    "cropped": {"augment": {"views": 1, "stain_sigma": 0.0}},
    "stained": {"augment": {"views": 1, "crop_side": [1.0, 1.0]}},
    "all": {"augment": {"views": 1}},
}
"""The last view of each; all but `turned` and `all` with element 0."""


def main() -> None:
    """Time decoding and each kind of view on the same tiles."""
    rng = np.random.default_rng(0)
    coarse_NHWC = rng.integers(90, 256, (TILES, SIDE_PX // 8, SIDE_PX // 8, 3), np.uint8)
    jpegs = [encode_jpeg(image.repeat(8, 0).repeat(8, 1), 95) for image in coarse_NHWC]
    images = [decode_jpeg(jpeg, SIDE_PX) for jpeg in jpegs]
    fields = {
        kind: view_fields(TokensParams.model_validate(params), "bench", range(TILES))[:, -1]
        for kind, params in KINDS.items()
    }
    for kind in ("cropped", "stained"):
        fields[kind][:, 0] = 0
    best_ms = dict.fromkeys(["decode", *KINDS], float("inf"))
    for _ in range(REPEATS):
        for name in best_ms:
            began = time.perf_counter()
            for i in range(TILES):
                if name == "decode":
                    decode_jpeg(jpegs[i], SIDE_PX)
                else:
                    view_of_tile(images[i], fields[name][i], SIDE_PX)
            best_ms[name] = min(best_ms[name], (time.perf_counter() - began) / TILES * 1e3)
    table = Table("", "ms a tile", title=f"Views at {SIDE_PX} px, one core")
    for name, ms in best_ms.items():
        table.add_row(name, f"{ms:.2f}")
    console.print(table)
    print(json.dumps({f"{name}_ms": round(ms, 3) for name, ms in best_ms.items()}))


if __name__ == "__main__":
    main()
