"""One slide's features, read once and kept as the CLS tokens of its tiles.

Rows follow the tiles: those that were not kept (damaged, beyond `max_tiles_per_slide`) leave their features behind.

Shapes: N tiles that are kept, G rows of the file, D channels.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from pipeline.base.errors import HistillError, SlideRefused, SlideUnavailable
from pipeline.base.items import TilesItem, TilesManifest
from pipeline.base.partials import file_sha256
from pipeline.base.store import Ref, Store
from pipeline.base.types import Json, Recipe
from pipeline.cluster.refusals import from_content, unread
from pipeline.imports.encoders import channels, require_teacher
from pipeline.imports.formats.feature_file import FeatureFile, Seen
from pipeline.imports.formats.opening import open_features
from pipeline.imports.placing import placed
from pipeline.imports.room import Room
from pipeline.slides.looked import mark
from pipeline.tiles.item.meta import SlideMeta
from pipeline.tiles.item.reader import TileReader
from pipeline.tokens.item.attributes import IMPORTED, place_arrays, told
from pipeline.tokens.item.writer import TokensForm, TokenWriter

FP16_MAX = 65504.0
_INF, _NEGATIVE_INF = 0x7C00, 0xFC00
"""The bits of float16; those of NaN of either sign are larger."""
SAME_PLACE_PX = 1.0
"""Level-0 pixels by which a corner may differ: centres and micrometres are rounded."""
SAME_SIDE = 0.01
_AHEAD_NBYTES = 256 << 20
"""Of a file at most, whatever its size: memory's cache has them before they are asked for."""
_FEW = 3
"""Tiles that may all be of plain glass."""


@dataclass(frozen=True)
class Origin:
    """What made features, and in which form they were kept: slides of one run share it.

    `of_width` is how many channels the file has, of which the teacher's CLS are the first.
    """

    tool: str
    encoder: str | None
    dtype: str
    of_width: int

    @classmethod
    def of(cls, features: FeatureFile) -> Origin:
        """Of a file."""
        return cls(features.tool, features.encoder, features.dtype, features.width)

    def __str__(self) -> str:
        return f"{self.tool}, {self.encoder or 'encoder not named'}, {self.of_width} channels, {self.dtype}"

    @property
    def recipe(self) -> dict[str, Json]:
        """As a recipe of tokens says it."""
        return {"tool": self.tool, "encoder": self.encoder, "dtype": self.dtype, "of_width": self.of_width}


@dataclass(frozen=True)
class Taking:
    """What all slides of a run are kept by: `width` and `grid` (h, w) are the teacher's."""

    tiles: TilesManifest
    recipe: Recipe
    key: str
    teacher: str
    width: int
    grid: tuple[int, int]
    origin: Origin

    @property
    def without_items(self) -> Taking:
        """The same, to be sent with some of the slides: all of them are megabytes."""
        return dataclasses.replace(self, tiles=self.tiles.model_copy(update={"items": (), "refused": ()}))

    def ref(self, item: TilesItem) -> Ref:
        """Where a slide's features are, or will be: by its tiles and the content of the file of features."""
        return Ref("tokens", self.key, f"{item.key}-features{(item.features or '')[:12]}")


@dataclass(frozen=True)
class Given:
    """A slide's tiles and its file of features, and that file's mark (slides/looked.py) as its digest was taken."""

    item: TilesItem
    path: Path
    mark: str | None = None

    @property
    def is_as_looked_at(self) -> bool:
        """Whether it is known, without reading it, that the file has the item's digest."""
        with contextlib.suppress(OSError):
            return self.mark is not None and mark(str(self.path)) == self.mark
        return False


def keep(given: Given, taking: Taking, store: Store, room: Room) -> None:
    """Read one slide's features and commit them. Raises `SlideRefused` that says why they cannot be taken."""
    item = given.item
    reader, ref = TileReader(store.path(Ref.of(taking.tiles, item))), taking.ref(item)
    embedding_ND = rows_of_tiles(given, taking, reader, room)
    form = TokensForm(len(reader), 1, taking.grid, taking.width, "none")
    attributes = told(taking.recipe, reader) | {IMPORTED: {**taking.origin.recipe, "file_sha256": item.features}}
    with store.write(ref, taking.recipe) as folder:
        writer = TokenWriter(folder, form, None, place_arrays(reader), attributes, resumable=False)
        for chunk, rows in writer.missing():
            writer.write(chunk, embedding_ND[rows.start : rows.stop, None], None, None)
        writer.close(embedding_ND[:, None])


def rows_of_tiles(given: Given, taking: Taking, reader: TileReader, room: Room) -> NDArray[np.float16]:
    """The features of a slide's tiles, (N, D), in their order, in that room. Raises `SlideRefused`.

    Its checksum is taken while it is read, unless the file is as it was when the stage `slides` took it, before and
    after it is read.
    """
    item, path, digest = given.item, given.path, None if given.is_as_looked_at else hashlib.sha256()
    _read_ahead(path)
    try:
        with contextlib.ExitStack() as held:
            features = open_features(path, item.id, held)
            half_GD, row_N = _given(item, features, taking, reader, room, digest.update if digest else None)
    except SlideRefused:
        # What was not read to its end, or is no longer what was looked at, is not to be judged by what it says.
        if file_sha256(path)[:32] != item.features:
            raise _changed(path) from None
        raise
    if not (given.is_as_looked_at if digest is None else digest.hexdigest()[:32] == item.features):
        raise _changed(path)
    return half_GD if np.array_equal(row_N, np.arange(len(half_GD))) else half_GD[row_N]


def _read_ahead(path: Path) -> None:
    """Let the disk begin with all of a file: its index lies in a hundred places, each of which would be waited for."""
    with contextlib.suppress(OSError), open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, _AHEAD_NBYTES, os.POSIX_FADV_WILLNEED)


def _given(
    item: TilesItem, features: FeatureFile, taking: Taking, reader: TileReader, room: Room, seen: Seen | None
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """The file's rows, (G, D), and which of them each tile is, (N,)."""
    # The table may have been filled for another teacher than the params name.
    require_teacher(features.encoder, taking.teacher)
    if Origin.of(features) != taking.origin:
        what = f"its features are of another making than the run's: {Origin.of(features)}, not {taking.origin}"
        raise SlideRefused(what, fix="put its row into a slide table of its own, or import the same features for all")
    width = channels(features.width, taking.teacher, taking.width)
    row_N = _given_rows(item, reader)
    given = item.n + sum(item.dropped.values())
    if features.n != given:
        what = f"its features {features.path.name} have {features.n} rows, and its tiling has {given}"
        raise SlideRefused(what, fix="import them again: histill import features")
    _require_places(features, reader, row_N)
    half_GD = room.half(features.n, width)
    _read(features, half_GD, seen)
    return half_GD, row_N


def _changed(path: Path) -> SlideUnavailable:
    what = f"its features {path.name} have changed since the slides stage looked at them"
    return SlideUnavailable(what, fix="dvc repro -f -s slides looks at them again")


def _given_rows(item: TilesItem, reader: TileReader) -> NDArray[np.int64]:
    """The row of the tiling that each tile is, (N,)."""
    reader.hold("x_l0", "y_l0", "mpp", "source")
    source = reader.sources
    if not isinstance(reader.meta, SlideMeta) or source.null_count or not len(source):
        what = "it has features, and no coords: of which tiles they are is not known"
        raise SlideRefused(what, where=item.id, fix="histill import features fills both columns of the slide table")
    return np.asarray(source.cast(pa.int64()))


def _require_places(features: FeatureFile, reader: TileReader, row_N: NDArray[np.int64]) -> None:
    """Raise `SlideRefused` where the file's own coordinates, if it has any, are not those of the tiles."""
    meta = reader.meta
    if features.places is None or not isinstance(meta, SlideMeta):
        return
    side = meta.size_l0_px[0]
    found = placed(features.places, side, meta.mpp)
    if abs(found.side / side - 1) > SAME_SIDE + 1 / side:
        what = f"its features are of tiles {found.side:g} px wide, and its tiles are {side:g} px wide"
        raise SlideRefused(what, fix="give it the tiling that they were extracted at: histill import features")
    apart_N2 = np.abs(found.corner_N2[row_N] - reader.places)
    if apart_N2.max(initial=0.0) > SAME_PLACE_PX:
        row = int(row_N[int(apart_N2.max(1).argmax())])
        what = f"its features do not lie where its tiles do: row {row} is {apart_N2.max():g} px away"
        raise SlideRefused(what, fix="give it the tiling that they were extracted at: histill import features")


def _read(features: FeatureFile, half_GD: NDArray[np.float16], seen: Seen | None) -> None:
    """Its features, in float16, of which as many channels are taken as there is room for. Raises `SlideRefused`."""
    try:
        bad = _fill(features, half_GD, seen)
    except Exception as error:
        # Somebody else's file, and four libraries' ways to stumble over it.
        if isinstance(error, HistillError | MemoryError):
            raise
        if isinstance(error, OSError) and not from_content(error):
            raise unread(error, f"its features {features.path.name} cannot be read") from None
        what = f"its features {features.path.name} cannot be read: {error}"
        raise SlideRefused(what, fix="copy the file again, or extract the features again") from None
    if bad:
        row, worst = min(bad.items())
        kind = f"is {worst:g}, beyond float16 ({FP16_MAX:g})" if np.isfinite(worst) else f"is {worst}"
        what = f"{len(bad)} rows of its features {features.path.name} cannot be kept: a value of row {row} {kind}"
        raise SlideRefused(what, fix="extract them again in float32; in float16 a sum may have run over")
    _require_answers(half_GD, features.path)


def _require_answers(half_GD: NDArray[np.float16], path: Path) -> None:
    """Raise `SlideRefused` for rows that no encoder answers with: those that were never written, or all the same."""
    zero = np.flatnonzero(half_GD[:, 0] == 0)
    zero = zero[~half_GD[zero].any(1)]
    if len(zero):
        what = f"{len(zero)} rows of its features {path.name} are zeros in float16, the first of them row {zero[0]}"
        raise SlideRefused(what, fix="extract them again: a row of zeros was never written, or is of another scale")
    if len(half_GD) > _FEW and (half_GD[1:, 0] == half_GD[0, 0]).all() and (half_GD[1:] == half_GD[0]).all():
        what = f"all {len(half_GD)} rows of its features {path.name} are the same"
        raise SlideRefused(what, fix="extract them again: the encoder's input, or its answers, were one tile's")


def _fill(features: FeatureFile, half_GD: NDArray[np.float16], seen: Seen | None) -> dict[int, float]:
    """The rows that are no numbers in float16, each with a value that is none. Raises `ValueError` for missing ones."""
    bad, done, width = dict[int, float](), 0, half_GD.shape[1]
    for first, piece in features.pieces(seen):
        values = np.asarray(piece[:, :width], piece.dtype.newbyteorder("="))
        own = half_GD[first : first + len(values)]
        # By torch, which takes a fraction of numpy's time.
        torch.from_numpy(own).copy_(torch.from_numpy(values))
        if not _finite(own):
            for row in np.flatnonzero(~np.isfinite(own).all(1)).tolist():
                bad[first + row] = float(values[row][~np.isfinite(own[row])][0])
        done += len(values)
    if done != len(half_GD):
        raise ValueError(f"{done} of {len(half_GD)} rows are there")
    return bad


def _finite(half_MD: NDArray[np.float16]) -> bool:
    """Whether all are numbers: by their bits, of which the largest is found several at a time."""
    return bool(half_MD.view(np.int16).max() < _INF and half_MD.view(np.uint16).max() < _NEGATIVE_INF)
