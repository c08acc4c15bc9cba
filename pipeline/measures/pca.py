"""Embeddings, or patch tokens, as colours: their first three principal components as red, green and blue.

Shapes: N embeddings of D channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.types import Floats
from pipeline.measures.fidelity.embedding import TINY

ENDS = 2.0, 98.0
"""Percentiles that become the darkest and the brightest of a colour."""


@dataclass(frozen=True)
class Projection:
    """Embeddings, or patch tokens, to colours: `axes_D3` the components; `low_3` becomes 0 and `high_3` 255."""

    mean_D: NDArray[np.float64]
    axes_D3: NDArray[np.float64]
    low_3: NDArray[np.float64]
    high_3: NDArray[np.float64]
    explained: tuple[float, ...]
    """Share of the variance in each component."""

    @classmethod
    def of(cls, embedding_ND: Floats) -> Projection:
        """The three leading components of N embeddings, each with its largest loading positive."""
        embedding_ND = np.asarray(embedding_ND, np.float64)
        mean_D = embedding_ND.mean(axis=0)
        values, vectors_DD = np.linalg.eigh(np.cov(embedding_ND - mean_D, rowvar=False))
        axes_D3 = vectors_DD[:, ::-1][:, :3]
        # An eigenvector's sign is the library's whim; a fixed one makes the same picture everywhere.
        axes_D3 = axes_D3 * np.sign(axes_D3[np.abs(axes_D3).argmax(axis=0), np.arange(3)])
        low_3, high_3 = np.percentile((embedding_ND - mean_D) @ axes_D3, ENDS, axis=0)
        share = values[::-1][:3] / max(float(values.sum()), TINY)
        return cls(mean_D, axes_D3, low_3, high_3, tuple(share.tolist()))

    def __call__(self, embedding_ND: Floats) -> NDArray[np.uint8]:
        """Colours, (N, 3) uint8."""
        along_N3 = (embedding_ND - self.mean_D) @ self.axes_D3
        scaled_N3 = (along_N3 - self.low_3) / np.maximum(self.high_3 - self.low_3, TINY)
        return (255 * np.clip(scaled_N3, 0, 1)).round().astype(np.uint8)
