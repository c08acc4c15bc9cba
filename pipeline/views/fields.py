"""What a view is, in ten numbers: float32 fields of every tile and view, drawn from a counter.

Shapes: n rows asked for, V views, P = len(FIELDS).

They are drawn by Philox, keyed by the seed and the slide's own key, at a counter that is the view and the row (Salmon
et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): so they depend on neither batches, the order of slides, an
interruption nor the machine, and two slides' first tiles differ. An image of a folder is keyed by its own content at
row 0, so that its views stay the same when other images come or go.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.params.tokens import AugmentParams, TokensParams
from pipeline.views.dihedral import N_ELEMENTS

FIELDS = ("element", "x0", "y0", "side", "alpha_h", "alpha_e", "alpha_r", "beta_h", "beta_e", "beta_r")
"""Dihedral element; left, top and side of the crop as shares of the tile's side; factor and shift of the optical
density of haematoxylin, eosin and the residual."""
BOX = slice(FIELDS.index("x0"), FIELDS.index("side") + 1)
ALPHA = slice(FIELDS.index("alpha_h"), FIELDS.index("alpha_r") + 1)
BETA = slice(FIELDS.index("beta_h"), FIELDS.index("beta_r") + 1)
AS_IT_IS = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 0], np.float32)
"""The fields of a tile that nothing is done to."""
Place = tuple[str, int]
"""What a tile's views are drawn by: the slide's item key and the row; of an image of a folder, its digest and 0."""
_BLOCK = 4
"""Words of 64 bits that Philox gives for one count."""
_BLOCKS = -(-len(FIELDS) // _BLOCK)


def view_fields(params: TokensParams, key: str, rows: range) -> NDArray[np.float32]:
    """The fields of every view of a slide's tiles `rows` (of step 1), (n, V, P) float32; `key` is the slide's item key.

    View v < `params.views` is element v; the others draw an element, a crop whose side is uniform within `crop_side`
    and whose place is uniform within the tile, factors uniform within 1 ± `stain_sigma` and shifts within
    ± `stain_sigma` (Tellez et al. 2018, "Whole-slide mitosis detection in H&E breast histology", with natural
    logarithms).
    """
    fields_NVP = np.tile(dihedral_fields(params.views), (len(rows), 1, 1))
    drawn = [_drawn(params.augment, key, rows, view) for view in range(params.augment.views)]
    return np.concatenate([fields_NVP, *[fields_NP[:, None] for fields_NP in drawn]], axis=1)


def batch_fields(params: TokensParams, places: Sequence[Place], size: int) -> NDArray[np.float32]:
    """The fields of a batch of `size` tiles at `places`, (size, V, P); the rest as it is."""
    fields_BVP = np.tile(AS_IT_IS, (size, params.n_views, 1))
    # Neighbouring rows of one slide are drawn together.
    for _, run in itertools.groupby(enumerate(places), lambda at: (at[1][0], at[1][1] - at[0])):
        (first, (key, row)), *others = run
        n = 1 + len(others)
        fields_BVP[first : first + n] = view_fields(params, key, range(row, row + n))
    return fields_BVP


def dihedral_fields(views: int) -> NDArray[np.float32]:
    """The fields of the first `views` elements, (views, P)."""
    fields_VP = np.tile(AS_IT_IS, (views, 1))
    fields_VP[:, FIELDS.index("element")] = np.arange(views)
    return fields_VP


def _drawn(augment: AugmentParams, key: str, rows: range, view: int) -> NDArray[np.float32]:
    digest = hashlib.blake2b(f"{augment.seed}/{key}".encode(), digest_size=16).digest()
    philox = np.random.Philox(key=int.from_bytes(digest, "little"), counter=[rows.start * _BLOCKS, view, 0, 0])
    words = philox.random_raw(len(rows) * _BLOCKS * _BLOCK).reshape(len(rows), _BLOCKS * _BLOCK)[:, : len(FIELDS)]
    unit_NP = (words >> np.uint64(11)) * 2.0**-53
    low, high = augment.crop_side
    fields_NP = np.empty((len(rows), len(FIELDS)))
    side_N = low + (high - low) * unit_NP[:, 3]
    fields_NP[:, 0] = np.floor(unit_NP[:, 0] * N_ELEMENTS)
    fields_NP[:, 1:3] = unit_NP[:, 1:3] * (1 - side_N[:, None])
    fields_NP[:, 3] = side_N
    fields_NP[:, ALPHA] = 1 + augment.stain_sigma * (2 * unit_NP[:, ALPHA] - 1)
    fields_NP[:, BETA] = augment.stain_sigma * (2 * unit_NP[:, BETA] - 1)
    return fields_NP.astype(np.float32)
