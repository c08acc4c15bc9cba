"""What a file of features says of itself, whichever tool wrote it.

Shapes: N tiles, D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import SlideRefused
from pipeline.base.types import Array

Unit = Literal["px", "um"]
Piece: TypeAlias = tuple[int, Array]
"""The first row, and the rows from there on, (M, D)."""
Seen: TypeAlias = Callable[[memoryview], object]
"""What is given the bytes of a file as they are read."""
BLOCK_NBYTES = 512 << 10
"""What is read at a time: a core's cache still has it when all is done with it."""


@dataclass(frozen=True)
class Places:
    """Where tiles lie: `corner_N2` (x, y) float64 and `side`, in level-0 pixels or micrometres from the corner.

    `centred`: the numbers are of the tiles' centres. `overlap` is the share of a side that neighbours have in common,
    `slide_l0` the slide's width and height; what the file does not say is None.
    """

    corner_N2: NDArray[np.float64]
    side: float | None
    unit: Unit = "px"
    side_unit: Unit = "px"
    centred: bool = False
    overlap: float | None = None
    slide_l0: tuple[int, int] | None = None


class OfOtherSlides(SlideRefused):
    """A file that says of each row, or of all, which slide it is of, and has none of this one."""


@dataclass(frozen=True)
class Rows:
    """Which rows of a file are one slide's: all (None), or these."""

    at_N: NDArray[np.int64] | None = None

    @classmethod
    def of_slide(cls, path: Path, names: Array, slide: str, n: int) -> Rows:
        """Those of n that are called so. Raises `OfOtherSlides` where none is.

        `names`: one a row, or one of all. Raises `SlideRefused` where they are neither.
        """
        if names.shape not in ((n,), ()):
            raise refused(path, f"has {n} rows of features, and slide is {list(names.shape)}, not a name a row")
        at_N = np.flatnonzero(names.astype(str) == slide)
        if not len(at_N):
            what, fix = (
                f"its features {path.name}: the file has no row of a slide called {slide}",
                "is that its slide_id?",
            )
            raise OfOtherSlides(what, fix=fix)
        if not names.shape:
            return cls()
        return cls(at_N)

    def of(self, array: Array) -> Array:
        """Those rows of an array."""
        return array if self.at_N is None else array[self.at_N]

    def count(self, n: int) -> int:
        """How many they are, of n."""
        return n if self.at_N is None else len(self.at_N)


@dataclass(frozen=True)
class FeatureFile:
    """`tool` that wrote it, `encoder` as it is named there; `places` is None where the rows stand without them.

    `patch_px` is the side, in pixels, of what the encoder saw, where the file says so; `many`: it holds other slides
    too, by their names. `pieces` gives the features a few rows at a time, in any order, each serving until the next; it
    is the only thing that reads them, and gives all bytes of the file, in order, to whoever wants to have `seen` them.
    """

    path: Path
    tool: str
    encoder: str | None
    dtype: str
    n: int
    width: int
    places: Places | None
    pieces: Callable[[Seen | None], Iterator[Piece]] = field(compare=False)
    patch_px: int | None = None
    many: bool = False

    def read(self) -> Array:
        """All of the features, (N, D)."""
        found = np.empty((self.n, self.width), self.dtype)
        for at, values in self.pieces(None):
            found[at : at + len(values)] = values
        return found


def at_once(path: Path, features: Callable[[], Array], seen: Seen | None) -> Iterator[Piece]:
    """The pieces of a file whose library reads all of it."""
    if seen:
        with open(path, "rb", buffering=0) as file:
            read_through(file, seen)
    yield 0, features()


def read_through(file: BinaryIO, seen: Seen) -> None:
    """Give all bytes of a file, in order."""
    file.seek(0)
    block = memoryview(bytearray(BLOCK_NBYTES))
    while n := file.readinto(block):  # type: ignore[attr-defined]
        seen(block[:n])


def side_told(path: Path, told: Mapping[str, object]) -> tuple[float | None, Unit]:
    """A tile's side by `side_um` or `side_l0`, and of which unit it is. Raises `SlideRefused` where both are told."""
    sides = [(unit, told[name]) for unit, name in (("um", "side_um"), ("px", "side_l0")) if told.get(name) is not None]
    if len(sides) > 1:
        raise refused(path, "says how large a tile is twice, as side_um and as side_l0", fix="keep one of them")
    if not sides:
        return None, "px"
    return float(str(sides[0][1])), "um" if sides[0][0] == "um" else "px"


def refused(
    path: Path, what: str, fix: str = "write it again with the tool that made it, or leave it out"
) -> SlideRefused:
    """Of the slide whose features are in this file."""
    return SlideRefused(f"its features {path.name}: the file {what}", fix=fix)


def require_matrix(path: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    """Raise `SlideRefused` where that is no (N, D) of floating point numbers."""
    if len(shape) != 2 or not all(shape) or dtype.kind != "f":
        raise refused(path, f"holds no features: {dtype}{list(shape)}, not (N, D) floating point numbers")


def require_places(path: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic], n: int) -> None:
    """Raise `SlideRefused` where that is no (N, 2) of numbers for the n rows of features."""
    if len(shape) != 2 or shape[1] != 2 or dtype.kind not in "iuf":
        raise refused(path, f"says not where its tiles lie: coords is {dtype}{list(shape)}, not (N, 2) numbers")
    if shape[0] != n:
        raise refused(path, f"has {n} rows of features, and {shape[0]} coordinates")
