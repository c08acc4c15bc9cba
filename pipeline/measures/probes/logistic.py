"""The optimum of a regularised logistic regression, quickly: L-BFGS in coordinates in which it needs few steps.

Embeddings are far from round: a few directions hold most of the variance, and L-BFGS then takes hundreds of steps at
the protocol's small lambda. Minimised here is the same function,

    F(W, b) = mean CE(softmax(X W' + b), y) + lambda / 2 |W|^2 ,

over A = P^-1 W' with P = U (S / K + lambda)^-1/2, where X'X / N = U S U'. S / K + lambda is F's curvature in each
direction where the probabilities are all about 1 / K, so that in A it is about 1 everywhere; the optimum is where it
was. Directions in which the tiles do not differ are left out, since W is 0 there: the search over a net whose last
layer is narrower than the teacher's embedding is that much shorter. Products are in float32, sums and the search in
float64: what is found is a start from which scikit-learn's own L-BFGS has next to nothing left to do, and that still
decides when it is done (see `probes.linear_head`).
Shapes: N tiles, D channels, R directions in which they differ, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.base.types import Floats

TOLERANCE = 3e-5
"""Of the gradient in the round coordinates; scikit-learn asks for 1e-4 in its own."""
MOST_STEPS = 500
FLAT = 1e-10
"""Variance below which tiles do not differ: the gradient there is at most its root, a tenth of scikit-learn's 1e-4."""


def near_optimum(
    feature_ND: Floats, class_N: NDArray[np.integer], classes: int, penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(coefficients (K, D), intercepts (K,)) close to the optimum, in float64; `penalty` is lambda."""
    from scipy.optimize import minimize

    # In float64: what float32 rounds of a large direction would pass for small ones.
    x_ND, n = feature_ND.astype(np.float64, copy=False), len(feature_ND)
    spread_D, direction_DD = np.linalg.eigh(x_ND.T @ x_ND / n)
    kept_D = spread_D > FLAT
    curvature_R = spread_D[kept_D] / classes + penalty
    to_w_DR = direction_DD[:, kept_D] / np.sqrt(curvature_R)
    round_NR = x_ND.astype(np.float32) @ to_w_DR.astype(np.float32)
    weight_R1 = (penalty / curvature_R)[:, None]
    rows_N, directions = np.arange(n), len(curvature_R)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        a_RK, b_K = flat[:-classes].reshape(directions, classes), flat[-classes:]
        logit_NK = (round_NR @ a_RK.astype(np.float32)).astype(np.float64) + b_K
        logit_NK -= logit_NK.max(axis=1, keepdims=True)
        error_NK = np.exp(logit_NK)
        total_N1 = error_NK.sum(axis=1, keepdims=True)
        error_NK /= total_N1
        error_NK[rows_N, class_N] -= 1
        entropy_N = np.log(total_N1[:, 0]) - logit_NK[rows_N, class_N]
        value = float(entropy_N.mean()) + 0.5 * float((weight_R1 * np.square(a_RK)).sum())
        slope_RK = (round_NR.T @ error_NK.astype(np.float32)).astype(np.float64) / n + weight_R1 * a_RK
        return value, np.concatenate([slope_RK.ravel(), error_NK.mean(axis=0)])

    start = np.zeros(directions * classes + classes)
    found = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"gtol": TOLERANCE, "ftol": 0.0, "maxiter": MOST_STEPS, "maxls": 50},
    ).x
    return (to_w_DR @ found[:-classes].reshape(directions, classes)).T, found[-classes:]
