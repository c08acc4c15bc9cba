"""What two sets of embeddings have in common besides their axes: linear CKA, mutual neighbours, effective rank.

Cosine asks whether the student's embedding IS the teacher's. These ask whether it is as useful: the same up to a
rotation (CKA), with the same neighbours (so that retrieval finds the same tiles), spread over as many directions.

    linear CKA        |Y'X|^2 / (|X'X| |Y'Y|), Frobenius norms of centred features: Kornblith et al. 2019, eq. 5. Biased
                      upwards where there are fewer tiles than channels; read it beside the untrained network's.
    mutual neighbours the share of the k nearest tiles (cosine) that are the same in both spaces, mean over tiles: the
                      mutual k-NN of Huh et al. 2024 (The Platonic Representation Hypothesis). Chance is k / (N - 1).
    RankMe            exp of the entropy of the normalised singular values: Garrido et al. 2023, eq. 1.

All on embeddings standardised by the teacher's train statistics, so that a massive channel does not decide alone.
Shapes: N tiles, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.intervals import Floats, Resampler, blocks, jackknife
from pipeline.evaluation.neighbours import nearest

NEIGHBOURS = 10
MIN_TILES = NEIGHBOURS + 2


class _Moments:
    """Sums of X'X, Y'Y, X'Y, X and Y over some tiles; they subtract, which is what a jackknife needs."""

    def __init__(self, x_ND: Floats, y_ND: Floats) -> None:
        x_ND, y_ND = x_ND.astype(np.float64), y_ND.astype(np.float64)
        self.parts: tuple[Any, ...] = (x_ND.T @ x_ND, y_ND.T @ y_ND, x_ND.T @ y_ND, x_ND.sum(0), y_ND.sum(0), len(x_ND))

    def without(self, other: _Moments) -> _Moments:
        left = object.__new__(_Moments)
        left.parts = tuple(mine - theirs for mine, theirs in zip(self.parts, other.parts, strict=True))
        return left

    def cka(self) -> float:
        xx, yy, xy, x, y, n = self.parts
        own_x, own_y = (np.linalg.norm(m - np.outer(s, s) / n) for m, s in ((xx, x), (yy, y)))
        shared = np.square(np.linalg.norm(xy - np.outer(x, y) / n))
        return float(shared / (own_x * own_y)) if own_x > 0 and own_y > 0 else 0.0

    def rank(self, which: int) -> float:
        """RankMe of X (0) or Y (1)."""
        return _rank(self.parts[which])


def _rank(gram_DD: NDArray[np.float64]) -> float:
    singular_D = np.sqrt(np.clip(np.linalg.eigvalsh(gram_DD), 0, None))
    share_D = singular_D / max(float(singular_D.sum()), 1e-12)
    share_D = share_D[share_D > 1e-12]
    return float(np.exp(-(share_D * np.log(share_D)).sum()))


def cka(x_ND: Floats, y_ND: Floats) -> float:
    """Linear CKA, 0 to 1."""
    return _Moments(x_ND, y_ND).cka()


def rankme(x_ND: Floats) -> float:
    """The effective rank, 1 to min(N, D)."""
    return _rank(x_ND.astype(np.float64).T @ x_ND.astype(np.float64))


def mutual_neighbours(x_ND: Floats, y_ND: Floats, k: int = NEIGHBOURS) -> NDArray[np.float64]:
    """The share of each tile's k nearest that both spaces agree on, (N,)."""
    return _shared(*(nearest(z_ND, z_ND, k, same=True)[0] for z_ND in (x_ND, y_ND)))


def _shared(a_Nk: NDArray[np.int64], b_Nk: NDArray[np.int64]) -> NDArray[np.float64]:
    shared_N: NDArray[np.float64] = (a_Nk[:, :, None] == b_Nk[:, None, :]).sum(axis=(1, 2)) / a_Nk.shape[1]
    return shared_N


def structure(
    teacher_ND: Floats, others: Mapping[str, Floats], slide_N: Sequence[str], resamples: int, seed: int
) -> dict[str, Any]:
    """`cka`, `neighbours` {model: {value, interval}}, `neighbours_chance`, `rankme` {teacher and model: the same}.

    `others` are `student` and its untrained twin; all standardised. Intervals: CKA and RankMe jackknife, neighbours
    bootstrap. Raises `ValueError` below `MIN_TILES` tiles: ask `too_few` first.
    """
    if too_few(len(teacher_ND)):
        raise ValueError(too_few(len(teacher_ND)))
    block_N = blocks(slide_N)
    resampler = Resampler(slide_N, resamples, seed)
    found: dict[str, Any] = {"cka": {}, "neighbours": {}, "rankme": {}}
    near_Nk = nearest(teacher_ND, teacher_ND, NEIGHBOURS, same=True)[0]
    for name, other_ND in others.items():
        whole = _Moments(teacher_ND, other_ND)
        parts = [(teacher_ND[block_N == i], other_ND[block_N == i]) for i in range(int(block_N.max()) + 1)]
        left = [whole.without(_Moments(*part)) for part in parts]
        low, high = jackknife(whole.cka(), [rest.cka() for rest in left])
        found["cka"][name] = {"value": whole.cka(), "interval": [max(0.0, low), min(1.0, high)]}
        # The teacher's own rank does not depend on whom it is compared with.
        for who, which in ((name, 1),) if found["rankme"] else (("teacher", 0), (name, 1)):
            rank = whole.rank(which)
            interval = jackknife(rank, [rest.rank(which) for rest in left])
            found["rankme"][who] = {"value": rank, "interval": interval}
        shared_N = _shared(near_Nk, nearest(other_ND, other_ND, NEIGHBOURS, same=True)[0])
        found["neighbours"][name] = {"value": float(shared_N.mean()), "interval": resampler.mean_interval(shared_N)}
    return found | {"neighbours_chance": NEIGHBOURS / (len(teacher_ND) - 1), "n": len(teacher_ND)}


def too_few(n: int) -> str | None:
    """Why so few tiles have no structure to compare, or None."""
    return f"{n} tiles are fewer than the {MIN_TILES} that neighbours need" if n < MIN_TILES else None
