"""Tiles of many slides packed into batches of one shape, and decoded ahead of the teacher.

Every forward pass has the same shape, the last one filled up with zeros, because what a row's answer is in its last
bits may depend on the batch's shape, but within one shape on neither its neighbours nor its place: so the bytes that
are stored depend on neither the other slides of a run nor on where it was interrupted. Proven on CPUs by a test (ViT
and CNN in channels-last, fp32 and bf16, one thread and two); on a GPU not measured. What may still change last bits is
`tokens.batch_size`, the number of compute threads (seen with a CNN in fp32), and another machine.

Decoding is libjpeg-turbo's in threads, as it is for the student. A GPU's own decoder (nvJPEG) is faster but is another
algorithm, whose pixels differ: the teacher would answer for images that the student never sees, so it is not offered.

Shapes: B tiles a batch, S = side_px.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor

from pipeline.base.errors import HistillError
from pipeline.base.limits import usable_cores
from pipeline.cluster.refusals import about_slide
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.pixels import FILTER

_AHEAD = 2
"""Batches that are being decoded while one waits and one is in its forward pass."""
_PIECES = 4
"""Tasks a decode thread and batch: fewer hand-overs than one a tile, and still even."""


class Place(Protocol):
    """Where a tile is."""

    @property
    def reader(self) -> TileReader: ...

    @property
    def row(self) -> int: ...


P = TypeVar("P", bound=Place)
T = TypeVar("T")


@dataclass(frozen=True)
class Batch(Generic[P]):
    """Decoded tiles: image_BSSC (B, S, S, 3) uint8, zeros after len(places) and where `errors` has the index."""

    places: Sequence[P]
    image_BSSC: Tensor
    errors: dict[int, HistillError] = field(default_factory=dict)
    decode_s: float = 0.0
    """Of all decode threads together."""


def decode_threads(device: torch.device) -> int:
    """A GPU is fed by all cores but two; on a CPU the cores are the teacher's, and two threads keep it fed."""
    return max(2, min(16, usable_cores() - 2)) if device.type == "cuda" else 2


def packed(places: Iterable[P], size: int) -> Iterator[list[P]]:
    """Lists of `size` places, the last one shorter."""
    source = iter(places)
    while batch := list(itertools.islice(source, size)):
        yield batch


def decoded(
    batches: Iterable[Sequence[P]],
    size: int,
    side_px: int,
    pool: ThreadPoolExecutor,
    *,
    pin: bool = False,
    resample: Image.Resampling = FILTER,
) -> Iterator[Batch[P]]:
    """The batches in order, each as `size` images of side_px; `pin` puts them into page-locked memory.

    A tile that does not decode is an entry of `errors`, not an exception.
    """
    source = iter(batches)
    waiting: deque[tuple[Sequence[P], Tensor, list[Future[_Piece]]]] = deque()
    while True:
        for places in itertools.islice(source, 1 + _AHEAD - len(waiting)):
            image_BSSC = torch.empty((size, side_px, side_px, 3), dtype=torch.uint8, pin_memory=pin)
            image_BSSC[len(places) :] = 0
            step = math.ceil(len(places) / (_PIECES * pool._max_workers))
            pieces = [
                pool.submit(_decode, places, range(i, min(len(places), i + step)), image_BSSC, resample)
                for i in range(0, len(places), step)
            ]
            waiting.append((places, image_BSSC, pieces))
        if not waiting:
            return
        places, image_BSSC, pieces = waiting.popleft()
        results = [piece.result() for piece in pieces]
        errors = {index: error for found, _ in results for index, error in found.items()}
        yield Batch(places, image_BSSC, errors, sum(seconds for _, seconds in results))


def ahead(source: Iterator[T], depth: int = 1) -> Generator[T, None, None]:
    """The items of `source` in order, made by a thread of its own up to `depth` ahead; what it raises is raised here.

    None must not be among them. Closing the iterator waits for the item in the making.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        waiting = deque(thread.submit(next, source, None) for _ in range(depth + 1))
        try:
            while (item := waiting.popleft().result()) is not None:
                waiting.append(thread.submit(next, source, None))
                yield item
        finally:
            for future in waiting:
                future.cancel()


_Piece = tuple[dict[int, HistillError], float]


def _decode(places: Sequence[P], indices: range, image_BSSC: Tensor, resample: Image.Resampling) -> _Piece:
    began = time.perf_counter()
    out, errors = image_BSSC.numpy(), dict[int, HistillError]()
    for i in indices:
        try:
            out[i] = places[i].reader.image(places[i].row, out.shape[1], resample)
        except Exception as error:
            out[i] = 0
            errors[i] = about_slide(error)
    return errors, time.perf_counter() - began
