"""What chance decides of a step's inputs: a function of (seed, step), a row a tile of the whole batch.

A step number determines its epoch and its place there, so a resumed training draws what an undisturbed one would have.
Each process draws for the whole batch and takes the rows of its own tiles: a tile gets the same numbers however many
processes there are. They are drawn on the host, so that every device has the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.loader import Loader

_INPUTS = 17
"""Fourth word of the seed, which keeps these draws apart from those of the order, which has three."""
MIX, CHANGE, BANK = 1, 2, 3
"""What is drawn for: each has a stream of its own, so that switching one on moves no number of the other."""


@dataclass(frozen=True)
class Draws:
    """Of the tiles `first` to `first + n` of batches of `batch_size` tiles over all processes."""

    seed: int
    batch_size: int
    first: int
    n: int

    @classmethod
    def of(cls, loader: Loader, seed: int) -> Draws:
        """For what that loader of this process reads."""
        return cls(seed, loader.batch_size, loader.rank * loader.own_size, loader.own_size)

    def generator(self, step: int, purpose: int) -> np.random.Generator:
        """Of that step, for one of the purposes."""
        return np.random.default_rng([self.seed % 2**32, step, purpose, _INPUTS])

    def unit(self, generator: np.random.Generator, columns: int) -> NDArray[np.float64]:
        """Evenly drawn from [0, 1): (n, columns), a row for each tile of this process."""
        return self.own(generator.random((self.batch_size, columns)))

    def own(self, drawn_B: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of rows for the whole batch those of this process's tiles."""
        return drawn_B[self.first : self.first + self.n]
