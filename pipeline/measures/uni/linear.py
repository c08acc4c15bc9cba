"""UNI's linear probe: logistic regression on raw features, with a penalty of the weights' norm and not of its square.

Minimised by L-BFGS from zero, at most 1,000 steps, strong Wolfe line search, torch's tolerances, is

    mean CE(X W' + b, y) + |W| / (2 C) ,   C = D K / 100 ,

with |W| the Frobenius norm (linear_probe.py and logistic_regression.py of eval_patch_features); where W is 0 the norm's
slope is taken as 0. Theirs runs in float32 on a GPU, here it is float64, so that another machine comes to the same.
The penalty is not free of scale: features that hardly vary, as an untrained network's, may be left no weight at all.
Shapes: N tiles, D channels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.base.types import Floats

MOST_STEPS = 1000


@dataclass(frozen=True)
class UniHead:
    """Weights (K, D) and biases (K,), float64."""

    weight_KD: Tensor
    bias_K: Tensor

    def probabilities(self, feature_ND: Floats) -> NDArray[np.float64]:
        """Of each class, (N, K)."""
        logit_NK = _tensor(feature_ND) @ self.weight_KD.T + self.bias_K
        found_NK: NDArray[np.float64] = torch.softmax(logit_NK, dim=1).numpy()
        return found_NK


def fit_head(feature_ND: Floats, class_N: NDArray[np.integer], classes: int) -> UniHead:
    """The head after the recipe's steps; classes are 0 … K - 1."""
    x_ND, target_N = _tensor(feature_ND), torch.from_numpy(class_N.astype(np.int64))
    n, width = x_ND.shape
    half_cost, rows_N = width * classes / 100 * 2, torch.arange(n)
    weight_KD = torch.zeros(classes, width, dtype=torch.float64)
    bias_K = torch.zeros(classes, dtype=torch.float64)

    def loss() -> Tensor:
        log_NK = torch.log_softmax(x_ND @ weight_KD.T + bias_K, dim=1)
        entropy = -log_NK[rows_N, target_N].mean()
        error_NK = log_NK.exp_()
        error_NK[rows_N, target_N] -= 1
        norm = weight_KD.norm()
        slope_KD = weight_KD / norm if norm > 0 else torch.zeros_like(weight_KD)
        weight_KD.grad = error_NK.T @ x_ND / n + slope_KD / half_cost
        bias_K.grad = error_NK.mean(dim=0)
        total: Tensor = entropy + norm / half_cost
        return total

    search = torch.optim.LBFGS([weight_KD, bias_K], max_iter=MOST_STEPS, line_search_fn="strong_wolfe")
    search.step(loss)  # type: ignore[no-untyped-call]
    return UniHead(weight_KD, bias_K)


def _tensor(feature_ND: Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(feature_ND, np.float64))
