"""What teacher and student see in the same held-out tiles: their patch tokens as colours.

The first three principal components of the teacher's standardised tokens over the chosen tiles become red, green and
blue; the student's tokens, as they come out of its exported adapter, go through the very same projection and the same
colour scale, so that a difference in colour is a difference in the tokens. The pictures are made where both models are
at hand and are a few kB; the report only shows them. Shapes: n tiles, T = h * w tokens, D channels.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter

from pipeline.base.files import write_atomic
from pipeline.base.kept import Basis
from pipeline.evaluate import selection
from pipeline.evaluate.answers import features
from pipeline.evaluate.run import Run
from pipeline.evaluate.selection import Sample
from pipeline.evaluate.summary import Maps, MapTile
from pipeline.measures.fidelity.embedding import cosine
from pipeline.measures.pca import Projection
from pipeline.student.exported import Dense
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.pixels import encode_jpeg, fit_square
from pipeline.tokens.item.reader import TokenReader

MAPS = TypeAdapter(Maps)
MOST_TILES = 6
SIDE_PX = 192
"""Of a picture, about: tokens are drawn as whole squares."""


def write_maps(run: Run, held: Sequence[Sample], folder: Path) -> Maps | None:
    """Write the pictures of a handful of tiles, evenly spread; other pictures go.

    None and an empty folder without a student that has an adapter, or without tiles.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in sorted(folder.glob("*-*.*g")):
        stale.unlink()
    if "student" not in run.models.dense or not held:
        return None
    chosen = selection.spread(held, MOST_TILES)
    basis: Basis = {"student": run.models.dense_told("student"), "held": run.tiles(chosen)}
    slot = run.slot("maps", MAPS, (), basis)
    maps = slot.find() or slot.keep(*draw_maps(run.models.dense["student"], chosen, run.params.batch_size))
    for name in pictures(len(maps.tiles)):
        write_atomic(folder / name, (slot.folder / name).read_bytes())
    return maps


def pictures(n: int) -> list[str]:
    """Names of the files of n tiles."""
    return [name for i in range(n) for name in (f"{i}-tile.jpg", f"{i}-teacher.png", f"{i}-student.png")]


def draw_maps(student: Dense, chosen: Sequence[Sample], batch_size: int) -> tuple[Maps, dict[str, bytes]]:
    """What is said of the pictures of n tiles, and the pictures by `pictures(n)`."""
    batches = list(features.dense_features({"student": student}, chosen, batch_size, lambda n=1, note="": None))
    tokens = {name: np.concatenate([batch[name] for batch in batches]) for name in ("teacher", "student")}
    n, T, D = tokens["teacher"].shape
    project, (h, w) = Projection.of(tokens["teacher"].reshape(n * T, D)), TokenReader(chosen[0].tokens).grid
    likeness_n = cosine(tokens["teacher"], tokens["student"]).mean(axis=1)
    tiles = [(sample, row) for sample in chosen for row in sample.rows.tolist()]
    drawn = []
    for i, (sample, row) in enumerate(tiles):
        image_HWC = fit_square(TileReader(sample.tiles).image(row), SIDE_PX)
        colours = [_png(project(tokens[name][i]).reshape(h, w, 3)) for name in ("teacher", "student")]
        drawn += [encode_jpeg(image_HWC, 85), *colours]
    said = Maps(
        explained=project.explained,
        grid=(h, w),
        tiles=tuple(
            MapTile(slide=sample.slide, row=row, cosine=float(likeness_n[i])) for i, (sample, row) in enumerate(tiles)
        ),
    )
    return said, dict(zip(pictures(n), drawn, strict=True))


def _png(colour_HWC: NDArray[np.uint8]) -> bytes:
    """A PNG of about `SIDE_PX`, each token a square."""
    times = max(1, SIDE_PX // max(colour_HWC.shape[:2]))
    out = io.BytesIO()
    Image.fromarray(colour_HWC.repeat(times, axis=0).repeat(times, axis=1)).save(out, "PNG", optimize=True)
    return out.getvalue()
