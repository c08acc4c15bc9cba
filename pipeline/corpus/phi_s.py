"""PHI-S: rotate standardised targets so that every channel has the same variance, and divide by one number.

    z = R (x - mean) / scale,   R = H U^T,   covariance = U diag(variance) U^T,   scale² = mean of variance

U^T turns to the principal axes; H, orthogonal with entries of one magnitude, mixes all of them equally into every
channel. So each channel has variance 1, as with one scale a channel, but distances and angles are the teacher's own: a
channel that hardly varies stays small, and an error costs the same whatever direction it has. Source: PHI-S (Ranzinger
et al., 2024, section 3.3).

H is a Hadamard matrix where D has one by Sylvester's and Paley's constructions: powers of two times 1 or q + 1, q a
prime that leaves 3 when divided by 4 (so 192, 384, 768, 1024, 1280, 1536 …). Elsewhere Givens rotations make all
variances equal (Bendel and Mickey 1978): exactly too, but the principal axes are then not mixed evenly.

Shapes: D channels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def phi_s(covariance_DD: Array) -> tuple[Array, float]:
    """(R_DD, scale) from the covariance of the targets, all float64; scale 1 where nothing varies."""
    variance_D, axes_DD = np.linalg.eigh(covariance_DD)
    variance_D = np.maximum(variance_D, 0)
    # An eigenvector is known up to its sign, and libraries differ.
    largest_D = np.take_along_axis(axes_DD, np.abs(axes_DD).argmax(0)[None], axis=0)[0]
    axes_DD = axes_DD * np.where(largest_D < 0, -1.0, 1.0)
    mixing_DD = hadamard(len(variance_D))
    if mixing_DD is None:
        mixing_DD = equalising(variance_D)
    return mixing_DD @ axes_DD.T, float(np.sqrt(variance_D.mean())) or 1.0


def hadamard(width: int) -> Array | None:
    """An orthogonal (D, D) with entries ±1/sqrt(D), or None where neither construction gives one."""
    doublings = 0
    while width >> doublings:
        if width % (1 << doublings):
            return None
        order = width >> doublings
        if order == 1 or (order % 4 == 0 and _is_prime(order - 1)):
            matrix = np.ones((1, 1)) if order == 1 else _paley(order - 1)
            for _ in range(doublings):
                matrix = np.block([[matrix, matrix], [matrix, -matrix]])
            unit: Array = matrix / np.sqrt(width)
            return unit
        doublings += 1
    return None


def equalising(variance_D: Array) -> Array:
    """An orthogonal R_DD for which R diag(variance) R^T has a constant diagonal: D - 1 Givens rotations at most."""
    rotation_DD, matrix_DD, mean = np.eye(len(variance_D)), np.diag(variance_D), variance_D.mean()
    for _ in range(len(variance_D) - 1):
        diagonal_D = matrix_DD.diagonal()
        low, high = int(diagonal_D.argmin()), int(diagonal_D.argmax())
        a, b, c = diagonal_D[low] - mean, matrix_DD[low, high], diagonal_D[high] - mean
        if -a <= 1e-12 * mean or c <= 1e-12 * mean:
            break
        tangent = (np.sqrt(b * b - a * c) - b) / c
        cosine = 1 / np.hypot(1, tangent)
        turn = np.array([[cosine, tangent * cosine], [-tangent * cosine, cosine]])
        pair = [low, high]
        matrix_DD[pair] = turn @ matrix_DD[pair]
        matrix_DD[:, pair] = matrix_DD[:, pair] @ turn.T
        rotation_DD[pair] = turn @ rotation_DD[pair]
    return rotation_DD


def _paley(q: int) -> Array:
    """Paley's first construction: a Hadamard matrix of order q + 1, entries ±1, for a prime q = 3 mod 4."""
    squares = {i * i % q for i in range(1, q)}
    character = np.array([0.0] + [1.0 if i in squares else -1.0 for i in range(1, q)])
    jacobsthal = character[(np.arange(q)[:, None] - np.arange(q)) % q]
    skew = np.block([[np.zeros((1, 1)), np.ones((1, q))], [-np.ones((q, 1)), jacobsthal]])
    matrix: Array = np.eye(q + 1) + skew
    return matrix


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % i for i in range(2, int(number**0.5) + 1))
