"""Mean and deviation of a teacher's patch tokens, channel by channel: what standardises them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.base.errors import TeacherError

_FLOOR = 0.1


@dataclass(frozen=True)
class Calibration:
    """Mean and deviation of each channel of the teacher's patch tokens, float32 (D,)."""

    mu: NDArray[np.float32]
    sigma: NDArray[np.float32]


def measure(patch_batches: Iterable[Tensor], where: str) -> Calibration:
    """(mu, sigma) over all tokens of batches (n, T, D), summed in float64. Raises `TeacherError` for none, NaN or inf.

    A channel that hardly moves gets a tenth of the mean deviation: divided by its own, one stray token would take all
    of int8's levels from the others.
    """
    n, total_D, square_D = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for patch_nTD in patch_batches:
        tokens_MD = patch_nTD.double().flatten(0, 1).cpu()
        n += len(tokens_MD)
        total_D = total_D + tokens_MD.sum(0)
        square_D = square_D + tokens_MD.square().sum(0)
    if n == 0:
        raise TeacherError("no tile to calibrate on could be decoded", where=where, fix="histill store verify")
    mu_D = total_D / n
    sigma_D = (square_D / n - mu_D.square()).clamp(min=0).sqrt()
    if not (torch.isfinite(mu_D).all() and torch.isfinite(sigma_D).all()):
        fix = "try `tokens.precision: fp32`; check the weights"
        raise TeacherError("the teacher answers NaN or inf on the calibration tiles", where=where, fix=fix)
    floor = max(_FLOOR * float(sigma_D.mean()), 1e-6)
    return Calibration(mu_D.float().numpy(), sigma_D.clamp(min=floor).float().numpy())
