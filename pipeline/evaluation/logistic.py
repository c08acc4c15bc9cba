"""The optimum of a regularised logistic regression, quickly: L-BFGS in coordinates in which it needs few steps.

Embeddings are far from round: a few directions hold most of the variance, and L-BFGS then takes hundreds of steps at
the protocol's small lambda. Minimised here is the same function,

    F(W, b) = mean CE(softmax(X W' + b), y) + lambda / 2 |W|^2 ,

over A = P^-1 W' with P = U (S / K + lambda)^-1/2, where X'X / N = U S U'. S / K + lambda is F's curvature in each
direction where the probabilities are all about 1 / K, so that in A it is about 1 everywhere; the optimum is where it
was. Products are in float32, sums and the search in float64: what is found is a start from which scikit-learn's own
L-BFGS has next to nothing left to do, and that still decides when it is done (see `probes.linear_head`).
Shapes: N tiles, D channels, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from pipeline.evaluation.intervals import Floats

TOLERANCE = 3e-5
"""Of the gradient in the round coordinates; scikit-learn asks for 1e-4 in its own."""
MOST_STEPS = 500


def near_optimum(
    feature_ND: Floats, class_N: NDArray[np.integer], classes: int, penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(coefficients (K, D), intercepts (K,)) close to the optimum, in float64; `penalty` is lambda."""
    x_ND = feature_ND.astype(np.float32)
    n, width = x_ND.shape
    spread_D, direction_DD = np.linalg.eigh((x_ND.T @ x_ND / n).astype(np.float64))
    curvature_D = np.clip(spread_D, 0, None) / classes + penalty
    to_w_DD = direction_DD / np.sqrt(curvature_D)
    round_ND = x_ND @ to_w_DD.astype(np.float32)
    weight_D1 = (penalty / curvature_D)[:, None]
    rows_N = np.arange(n)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        a_DK, b_K = flat[: width * classes].reshape(width, classes), flat[width * classes :]
        logit_NK = (round_ND @ a_DK.astype(np.float32)).astype(np.float64) + b_K
        total_N = logsumexp(logit_NK, axis=1)
        error_NK = np.exp(logit_NK - total_N[:, None])
        error_NK[rows_N, class_N] -= 1
        value = (total_N - logit_NK[rows_N, class_N]).mean() + 0.5 * float((weight_D1 * np.square(a_DK)).sum())
        slope_DK = (round_ND.T @ error_NK.astype(np.float32)).astype(np.float64) / n + weight_D1 * a_DK
        return value, np.concatenate([slope_DK.ravel(), error_NK.mean(axis=0)])

    start = np.zeros(width * classes + classes)
    found = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"gtol": TOLERANCE, "ftol": 0.0, "maxiter": MOST_STEPS, "maxls": 50},
    ).x
    return (to_w_DD @ found[: width * classes].reshape(width, classes)).T, found[width * classes :]
