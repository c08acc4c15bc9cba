"""Mean, deviation and covariance of all targets: from the sums that each slide's tokens have, else computed and kept.

Items of tokens have sums of their CLS beside them (`tokens/item/sums.py`), so that 10,000 slides take seconds and not a
pass over all of the cache. Where they do not serve (items of earlier versions, a fraction of the tiles), and for the
covariance, a slide's share in which is as large as its CLS, the targets are read once, and what comes of them is kept:

    statistics/<recipe key: what, of which rows>/<item key: of which tokens>/sums.npy, of.json

of.json names these tokens: no manifest names what is kept here, and `histill store prune` leaves it with them.

Shapes: C chunks of rows, D channels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import TrainingError
from pipeline.base.files import write_atomic, write_json
from pipeline.base.limits import usable_cores
from pipeline.base.partials import OF_FILE
from pipeline.base.store import Ref, recipe_key
from pipeline.base.types import Json
from pipeline.corpus.corpus import CHUNK_ROWS, Corpus
from pipeline.tokens.item.sums import SUM_ROWS, SUMS_FILE, sums_of

KIND, VERSION = "statistics", 1
_THREADS = min(8, usable_cores())
CONSTANT = 1e-6
"""Share of its mean below which a channel's deviation is float64 rounding: float16 itself resolves 1e-3."""
STD_FLOOR = 1e-3
"""Share of the median deviation below which a channel counts as constant: float16 noise is not a target."""


def cls_statistics(corpus: Corpus, chunk_rows: int = CHUNK_ROWS) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation per channel of the cached CLS over all tiles that are trained on and all views.

    (mean_D, std_D), float32. Accumulated in float64, slide after slide, so the same corpus gives the same bits. A
    constant channel gets a deviation of `STD_FLOOR` times the median of those that vary (1 where none does). Raises
    `TrainingError` on NaN or inf.
    """
    count = corpus.kept_total * corpus.views
    sum_D, square_D = np.zeros(corpus.width), np.zeros(corpus.width)
    for slide, sums_C2D in enumerate(_sums(corpus, chunk_rows)):
        for of_chunk_2D in sums_C2D:
            sum_D += of_chunk_2D[0]
            square_D += of_chunk_2D[1]
        if not np.isfinite(square_D).all():
            fix = "histill store verify; then run the tokens stage again for this slide"
            raise TrainingError("the cached CLS tokens hold NaN or infinity", where=corpus.items[slide].id, fix=fix)
    mean_D = sum_D / count
    std_D = np.sqrt(np.maximum(square_D / count - np.square(mean_D), 0))
    # The two squares cancel to rounding noise, not to 0, where a channel is constant.
    varying = std_D > CONSTANT * np.abs(mean_D)
    floor = STD_FLOOR * float(np.median(std_D[varying])) if varying.any() else 1.0
    return mean_D.astype(np.float32), np.maximum(std_D, floor).astype(np.float32)


def covariance(corpus: Corpus, mean_D: NDArray[np.float32]) -> NDArray[np.float64]:
    """(D, D) of the cached CLS over all tiles that are trained on and all views, about `mean_D`."""

    def compute() -> NDArray[np.float64]:
        product_DD = np.zeros((corpus.width, corpus.width))
        for slide in range(len(corpus.items)):
            for cls_ND in corpus.cls_chunks(slide):
                centred_ND = cls_ND.astype(np.float64) - mean_D
                product_DD += centred_ND.T @ centred_ND
        return product_DD / (corpus.kept_total * corpus.views)

    return _kept(corpus, range(len(corpus.items)), {"what": "covariance"}, compute)


def _sums(corpus: Corpus, chunk_rows: int) -> list[NDArray[np.float64]]:
    """(C, 2, D) of each slide."""
    found = [corpus.tokens[i].sums if _serve(corpus, chunk_rows) else None for i in range(len(corpus.items))]
    lacking = [slide for slide, sums in enumerate(found) if sums is None]
    if lacking:
        chunks = [-(-len(corpus.kept(slide)) // chunk_rows) for slide in lacking]

        def compute() -> NDArray[np.float64]:
            with ThreadPoolExecutor(_THREADS) as pool:
                of_slides = pool.map(lambda i: sums_of(corpus.cls_chunks(i, chunk_rows), corpus.width), lacking)
                return np.concatenate(list(of_slides))

        whole = _kept(corpus, lacking, {"what": "sums", "rows": chunk_rows}, compute)
        for slide, sums_C2D in zip(lacking, np.split(whole, np.cumsum(chunks)[:-1]), strict=True):
            found[slide] = sums_C2D
    return [sums for sums in found if sums is not None]


def _serve(corpus: Corpus, chunk_rows: int) -> bool:
    """Whether the slides' own sums are of the rows that are asked for."""
    return chunk_rows == SUM_ROWS and corpus.fraction == 1


def _kept(
    corpus: Corpus, slides: Sequence[int], what: dict[str, Json], compute: Callable[[], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """What the store holds of those slides' tokens, else computed, and kept there."""
    if corpus.store is None:
        return compute()
    recipe: dict[str, Json] = {"version": VERSION, "fraction": corpus.fraction, **what}
    of: list[Json] = [[corpus.items[slide].key, corpus.items[slide].digest] for slide in slides]
    ref = Ref(KIND, recipe_key(recipe), recipe_key({"tokens": of}))
    if not corpus.store.has(ref):
        out = io.BytesIO()
        np.save(out, compute())
        with corpus.store.write(ref, recipe) as folder:
            write_atomic(folder / SUMS_FILE, out.getvalue())
            write_json(folder / OF_FILE, ["/".join(corpus.tokens[slide].folder.parts[-3:]) for slide in slides])
    return np.asarray(np.load(corpus.store.path(ref) / SUMS_FILE))
