"""A mask as polygons with holes, along the edges of its pixels: what they enclose is the mask, to the pixel.

Every edge between a marked and an unmarked pixel is walked with the marked one on its right (y runs down), until the
walk closes a ring. Where two marked pixels meet at a corner alone, the walk turns right, so that a piece is what is
connected by sides. A ring that comes back to a corner is cut there: no ring touches itself, which readers refuse.

Legend: H, W height and width; E edges; the four directions are right, down, left, up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_STEP = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])


@dataclass(frozen=True)
class Outline:
    """One piece: corners (n, 2) of its ring, x and y in pixels, not closed; of each hole the same; its area, pixels."""

    ring: NDArray[np.int64]
    holes: tuple[NDArray[np.int64], ...]
    area_px: int


def outlines(mask_HW: NDArray[np.bool_]) -> list[Outline]:
    """The pieces of a mask, in raster order of their first pixels."""
    label_HW, n = ndimage.label(mask_HW)
    area_N = np.bincount(label_HW.ravel(), minlength=n + 1)
    start_E2, direction_E, piece_E = _edges(mask_HW, label_HW)
    next_E = _next(start_E2, direction_E, mask_HW.shape[1] + 1)
    outer: dict[int, NDArray[np.int64]] = {}
    holes: dict[int, list[NDArray[np.int64]]] = {piece: [] for piece in range(1, n + 1)}
    seen_E = np.zeros(len(next_E), bool)
    following = next_E.tolist()
    for first in range(len(following)):
        if seen_E[first]:
            continue
        walk, edge = [], first
        while not seen_E[edge]:
            seen_E[edge] = True
            walk.append(edge)
            edge = following[edge]
        piece = int(piece_E[first])
        for ring in _simple(start_E2[walk]):
            corners = _corners(ring)
            if _area(corners) > 0:
                outer[piece] = corners
            else:
                holes[piece].append(corners)
    return [Outline(outer[piece], tuple(holes[piece]), int(area_N[piece])) for piece in range(1, n + 1)]


def _edges(
    mask_HW: NDArray[np.bool_], label_HW: NDArray[np.signedinteger]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Where each edge starts (E, 2), its direction (E,), and the piece on its right (E,)."""
    padded = np.pad(mask_HW, 1)
    inside = padded[1:-1, 1:-1]
    starts, directions, pieces = [], [], []
    # Of a pixel (x, y): its top edge runs right, its right edge down, its bottom edge left, its left edge up.
    neighbours = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    for direction, (other_HW, corner) in enumerate(zip(neighbours, ((0, 0), (1, 0), (1, 1), (0, 1)), strict=True)):
        y, x = np.nonzero(inside & ~other_HW)
        starts.append(np.stack([x + corner[0], y + corner[1]], axis=1))
        directions.append(np.full(len(x), direction))
        pieces.append(label_HW[y, x])
    return np.concatenate(starts), np.concatenate(directions), np.concatenate(pieces).astype(np.int64)


def _next(start_E2: NDArray[np.int64], direction_E: NDArray[np.int64], stride: int) -> NDArray[np.int64]:
    """Of each edge the one that goes on from its end: to the right where there is one, else straight, else left."""
    key_E = (start_E2[:, 1] * stride + start_E2[:, 0]) * 4 + direction_E
    order_E = np.argsort(key_E)
    sorted_E = key_E[order_E]
    end_E2 = start_E2 + _STEP[direction_E]
    at_E = (end_E2[:, 1] * stride + end_E2[:, 0]) * 4
    next_E = np.full(len(key_E), -1)
    for turn in (3, 0, 1):
        wanted_E = at_E + (direction_E + turn) % 4
        place_E = np.minimum(np.searchsorted(sorted_E, wanted_E), len(sorted_E) - 1)
        found_E = sorted_E[place_E] == wanted_E if len(sorted_E) else np.zeros(0, bool)
        next_E = np.where(found_E, order_E[place_E], next_E)
    return next_E


def _simple(ring_V2: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The ring, cut where it comes back to a corner."""
    rings, path, place = [], list[tuple[int, int]](), dict[tuple[int, int], int]()
    for x, y in ring_V2.tolist():
        corner = (x, y)
        if corner in place:
            first = place[corner]
            rings.append(np.array(path[first:], np.int64))
            for gone in path[first + 1 :]:
                del place[gone]
            del path[first + 1 :]
        else:
            place[corner] = len(path)
            path.append(corner)
    return [*rings, np.array(path, np.int64)]


def _corners(ring_V2: NDArray[np.int64]) -> NDArray[np.int64]:
    """Without what lies on a straight line."""
    before, after = ring_V2 - np.roll(ring_V2, 1, axis=0), np.roll(ring_V2, -1, axis=0) - ring_V2
    corners: NDArray[np.int64] = ring_V2[(before != after).any(axis=1)]
    return corners


def _area(ring_V2: NDArray[np.int64]) -> float:
    """Positive where what is enclosed lies on the right."""
    after = np.roll(ring_V2, -1, axis=0)
    return float((ring_V2[:, 0] * after[:, 1] - after[:, 0] * ring_V2[:, 1]).sum()) / 2
