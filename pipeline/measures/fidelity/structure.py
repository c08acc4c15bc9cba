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

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.figures import Figure, NotMeasured
from pipeline.base.intervals import Jackknife, Resampler, Units
from pipeline.base.types import Floats
from pipeline.measures.fidelity.neighbours import nearest
from pipeline.measures.split_figures import OfModels, Structure

NEIGHBOURS = 10
MIN_TILES = NEIGHBOURS + 2


@dataclass(frozen=True)
class _Product:
    """X'Y of some tiles, with their sums; products subtract, which is what a jackknife needs."""

    product_DD: NDArray[np.float64]
    x_D: NDArray[np.float64]
    y_D: NDArray[np.float64]
    n: int

    @classmethod
    def of(cls, x_ND: Floats, y_ND: Floats) -> _Product:
        x_ND, y_ND = x_ND.astype(np.float64, copy=False), y_ND.astype(np.float64, copy=False)
        return cls(x_ND.T @ y_ND, x_ND.sum(0), y_ND.sum(0), len(x_ND))

    def __sub__(self, other: _Product) -> _Product:
        sums = self.x_D - other.x_D, self.y_D - other.y_D
        return _Product(self.product_DD - other.product_DD, *sums, self.n - other.n)

    def norm(self) -> float:
        """Frobenius norm of the product of the centred features."""
        return float(np.linalg.norm(self.product_DD - np.outer(self.x_D, self.y_D) / self.n))


def _each_left_out(x_ND: Floats, y_ND: Floats, left_out: Jackknife) -> Iterator[_Product]:
    """The product over all tiles, then over those outside of each block."""
    whole = _Product.of(x_ND, y_ND)
    yield whole
    for i in range(left_out.blocks):
        inside_N = left_out.block_N == i
        yield whole - _Product.of(x_ND[inside_N], y_ND[inside_N])


def _rank(gram_DD: NDArray[np.float64]) -> float:
    singular_D = np.sqrt(np.clip(np.linalg.eigvalsh(gram_DD), 0, None))
    share_D = singular_D / max(float(singular_D.sum()), 1e-12)
    share_D = share_D[share_D > 1e-12]
    return float(np.exp(-(share_D * np.log(share_D)).sum()))


def cka(x_ND: Floats, y_ND: Floats) -> float:
    """Linear CKA, 0 to 1."""
    return _cka(*(_Product.of(*pair).norm() for pair in ((x_ND, x_ND), (y_ND, y_ND), (x_ND, y_ND))))


def _cka(own_x: float, own_y: float, shared: float) -> float:
    return shared**2 / (own_x * own_y) if own_x > 0 and own_y > 0 else 0.0


def rankme(x_ND: Floats) -> float:
    """The effective rank, 1 to min(N, D)."""
    return _rank(x_ND.astype(np.float64).T @ x_ND.astype(np.float64))


def mutual_neighbours(x_ND: Floats, y_ND: Floats, k: int = NEIGHBOURS) -> NDArray[np.float64]:
    """The share of each tile's k nearest that both spaces agree on, (N,)."""
    return _shared(*(nearest(z_ND, z_ND, k, same=True)[0] for z_ND in (x_ND, y_ND)))


def _shared(a_Nk: NDArray[np.int64], b_Nk: NDArray[np.int64]) -> NDArray[np.float64]:
    shared_N: NDArray[np.float64] = (a_Nk[:, :, None] == b_Nk[:, None, :]).sum(axis=(1, 2)) / a_Nk.shape[1]
    return shared_N


def structure(teacher_ND: Floats, others: Mapping[str, Floats], units: Units, resamples: int, seed: int) -> Structure:
    """All three figures; `others` are `student` and its `untrained` twin; all standardised.

    Intervals: CKA and RankMe jackknife, neighbours bootstrap. Raises `ValueError` below `MIN_TILES` tiles: ask
    `too_few` first.
    """
    missing = too_few(len(teacher_ND))
    if missing:
        raise ValueError(missing.why)
    n, left_out, resampler = len(teacher_ND), Jackknife(units), Resampler(units, resamples, seed)
    rank: dict[str, Figure] = {}
    norms: dict[str, list[float]] = {}
    for name, x_ND in (("teacher", teacher_ND), *others.items()):
        products = list(_norm_and_rank(x_ND, left_out))
        norms[name] = [norm for norm, _ in products]
        value, *without = (each for _, each in products)
        rank[name] = Figure(value=value, interval=left_out.interval(value, without), n=n)
    near_Nk = nearest(teacher_ND, teacher_ND, NEIGHBOURS, same=True)[0]
    alike: dict[str, Figure] = {}
    shared: dict[str, Figure] = {}
    for name, other_ND in others.items():
        crossed = [product.norm() for product in _each_left_out(teacher_ND, other_ND, left_out)]
        value, *without = map(_cka, norms["teacher"], norms[name], crossed)
        alike[name] = Figure(value=value, interval=left_out.interval(value, without, 0.0, 1.0), n=n)
        shared_N = _shared(near_Nk, nearest(other_ND, other_ND, NEIGHBOURS, same=True)[0])
        chance = {"chance": NEIGHBOURS / (n - 1)}
        found = Figure(
            value=float(shared_N.mean()), interval=resampler.mean_interval(shared_N, 0, 1), floors=chance, n=n
        )
        shared[name] = found
    return Structure(cka=OfModels(**alike), neighbours=OfModels(**shared), rankme=OfModels(**rank))


def _norm_and_rank(x_ND: Floats, left_out: Jackknife) -> Iterator[tuple[float, float]]:
    for product in _each_left_out(x_ND, x_ND, left_out):
        yield product.norm(), _rank(product.product_DD)


def too_few(n: int) -> NotMeasured | None:
    """Why so few tiles have no structure to compare, or None."""
    return NotMeasured(why=f"{n} tiles are fewer than the {MIN_TILES} that neighbours need") if n < MIN_TILES else None
