"""What applying a view costs a tile on one core, beside decoding it: python -m bench.views.

Best of the repeats, interleaved, of one tile at a time with numpy and Pillow, as the student's loader does. Prints a
table; the last line is one JSON object, milliseconds a tile.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from bench.clock import ratios, turns
from bench.printing import finish, show
from pipeline.params.tokens import TokensParams
from pipeline.tiles.pixels import decode_jpeg, encode_jpeg
from pipeline.views import view_fields, view_of_tile

SIDE_PX, TILES, PASSES, REPEATS = 224, 32, 8, 9
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

    def decode() -> None:
        for jpeg in jpegs * PASSES:
            decode_jpeg(jpeg, SIDE_PX)

    def view(kind: str) -> None:
        for _ in range(PASSES):
            for image, fields_F in zip(images, fields[kind], strict=True):
                view_of_tile(image, fields_F, SIDE_PX)

    taken = turns({"decode": decode, **{kind: partial(view, kind) for kind in KINDS}}, REPEATS)
    best_ms = {name: min(one.wall_s for one in each) / TILES / PASSES * 1e3 for name, each in taken.items()}
    over = {name: ratios(each, taken["decode"]) for name, each in taken.items()}
    rows = [(name, ms, over[name]["wall"], over[name]["cpu"]) for name, ms in best_ms.items()]
    show(f"Views at {SIDE_PX} px, one core", ("", "ms a tile", "times a decode", "by CPU seconds"), rows)
    finish({f"{name}_ms": round(ms, 3) for name, ms in best_ms.items()} | {"over_decode": over})


if __name__ == "__main__":
    main()
