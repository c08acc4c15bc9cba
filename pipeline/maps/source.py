"""Where a map's embeddings come from: a file of features, or `histill embed`, whose files then lie below the output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.base.errors import MapError
from pipeline.embed.asked import Asked, find_slides
from pipeline.embed.slides import Wanted, embed_slides, project_params
from pipeline.maps.features import TileFeatures, read_features
from pipeline.slides.read.opening import open_slide
from pipeline.slides.read.reader import SlideReader

FOLDER = "features"
"""Below the output: what was embedded for the map; the next map of the same slide and encoder takes it from there."""


@dataclass(frozen=True)
class Embedded:
    """A slide and the embeddings of its tiles."""

    asked: Asked
    tiles: TileFeatures

    @property
    def name(self) -> str:
        return self.asked.name

    def open(self) -> AbstractContextManager[SlideReader]:
        """The slide, for its pixels, fetched for so long where it lies in a bucket. Raises `SlideRefused`."""
        return _opened(self.asked)


def embedded(slides: Sequence[Path], wanted: Wanted, features: Path | None = None) -> list[Embedded]:
    """All slides (files, folders, tables), embedded by what `wanted` names unless `features` is one slide's file.

    Raises `MapError` where one cannot be used, `EmbedError` and others as `histill embed` does.
    """
    params = project_params()
    asked, left_out = find_slides(slides, params.slides, params.scratch, wanted.coords)
    if left_out:
        raise MapError(left_out[0].reason, where=left_out[0].slide, fix=left_out[0].fix)
    if features is not None:
        if len(asked) != 1:
            raise MapError(f"{len(asked)} slides, and one file", where="--features", fix="give the one slide of it")
        return [_of_file(asked[0], features)]
    folder = wanted.out / FOLDER
    outcome = embed_slides(slides, replace(wanted, out=folder, form="parquet"))
    if outcome.left_out:
        first = outcome.left_out[0]
        raise MapError(first.reason, where=first.slide, fix=first.fix)
    return [_of_file(one, folder / f"{one.name}.parquet") for one in asked]


def _of_file(asked: Asked, file: Path) -> Embedded:
    with _opened(asked) as reader:
        mpp_xy = reader.mpp_xy
    return Embedded(asked, read_features(file, mpp_xy))


@contextmanager
def _opened(asked: Asked) -> Iterator[SlideReader]:
    source = asked.source
    with source.here() as path, open_slide(path, source.mpp, project_params().tiles.reader) as reader:
        yield reader
