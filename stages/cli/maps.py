"""`histill heatmap` and `histill similar`: what an encoder says of a slide, for eyes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.base.types import Json
from pipeline.remote.address import is_url
from stages.cli.options import Embedding, grouped
from stages.command import AsJson, Debug, errors, tell

Features = Annotated[Path | None, typer.Option(help="Embeddings that are there: a .parquet or .h5 file of the slide.")]


def add_to(cli: typer.Typer) -> None:
    """Add these commands."""
    cli.command()(grouped(heatmap))
    cli.command()(grouped(similar))


class By(StrEnum):
    """What the colours are of."""

    PCA = "pca"
    SIMILARITY = "similarity"
    HEAD = "head"


def heatmap(
    encoder: Embedding,
    slide: Annotated[Path, typer.Argument(help="A slide, or its URL; of a folder or a slide table, each.")],
    of: Annotated[str | None, typer.Argument(help="Of --by similarity: X,Y in level-0 pixels; of head: FILE.")] = None,
    by: Annotated[By, typer.Option(help="pca: three components; similarity X,Y; head FILE.")] = By.PCA,
    out: Annotated[Path, typer.Option(help="Folder of the TIFF, the GeoJSON and the PNG.")] = Path("maps"),
    klass: Annotated[
        str | None, typer.Option("--class", help="Of a head: the class to draw; by default the last.")
    ] = None,
    features: Features = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Draw what an encoder sees on a slide: a TIFF and a GeoJSON for QuPath, a PNG for people.

    histill heatmap slide.svs 5000,6000 --by similarity
    """
    with errors(debug):
        from pipeline.embed.slides import Wanted
        from pipeline.maps.colours import by_head, by_pca, by_similarity
        from pipeline.maps.heads import read_head
        from pipeline.maps.heatmap import write_map
        from pipeline.maps.source import embedded

        if (of is None) != (by is By.PCA):
            raise typer.BadParameter("--by similarity wants X,Y after the slide, --by head a FILE, --by pca neither")
        at_l0 = place(of) if of is not None and by is By.SIMILARITY else None
        wanted, written = Wanted(out, **vars(encoder)), list[Path]()
        for one in embedded([slide], wanted, features):
            if at_l0 is not None:
                coloured = by_similarity(one.tiles, at_l0)
            elif of is not None:
                coloured = by_head(one.tiles, read_head(Path(of), one.tiles.embedding_ND.shape[1]), klass)
            else:
                coloured = by_pca(one.tiles)
            written += write_map(one, coloured, out, by.value)
        tell(json, {"by": by.value, "written": [str(path) for path in written]}, written)


def similar(
    encoder: Embedding,
    slide: Annotated[Path, typer.Argument(help="The slide of the tile.")],
    at: Annotated[str, typer.Argument(metavar="X,Y", help="A place in the tile, level-0 pixels.")],
    more: Annotated[
        list[str] | None, typer.Argument(help="More slides to search, folders of them, or SLIDE=FEATURES.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of similar.png and similar.csv.")] = Path("maps"),
    n: Annotated[int, typer.Option("-n", min=1, max=500, help="How many tiles.")] = 23,
    features: Features = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show the tiles most alike to the one at X,Y, as one picture and a table.

    histill similar slide.svs 5000,6000 /data/more_slides
    """
    with errors(debug):
        from pipeline.embed.slides import Wanted
        from pipeline.maps.similar import most_alike, write_similar
        from pipeline.maps.source import embedded

        wanted = Wanted(out, **vars(encoder))
        at_l0 = place(at)
        pairs, rest = with_features(more or [])
        if features is None:
            slides = embedded([slide, *rest], wanted)
        else:
            slides = embedded([slide], wanted, features) + (embedded(rest, wanted) if rest else [])
        for other, file in pairs:
            slides += embedded([other], wanted, file)
        hits = most_alike(slides, at_l0, n)
        written = write_similar(hits, out)
        found: list[Json] = [
            {"rank": rank, "slide": hit.of.name, "x": hit.at_l0[0], "y": hit.at_l0[1], "cosine": hit.cosine}
            for rank, hit in enumerate(hits)
        ]
        tell(json, {"tiles": found, "written": [str(path) for path in written]}, written)


def place(told: str) -> tuple[float, float]:
    """X,Y as numbers."""
    try:
        x, y = (float(part) for part in told.split(","))
    except ValueError:
        raise typer.BadParameter(f"{told!r} is not X,Y: two numbers and a comma, level-0 pixels") from None
    return x, y


def with_features(told: list[str]) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Those of the form SLIDE=FEATURES, where SLIDE is a file or a URL, and the others; names may hold a `=` too."""
    pairs, alone = [], []
    for one in told:
        ends = [i for i, character in enumerate(one) if character == "=" and _parts(one[:i], one[i + 1 :])]
        if ends and not Path(one).exists():
            pairs.append((Path(one[: ends[0]]), Path(one[ends[0] + 1 :])))
        else:
            alone.append(Path(one))
    return pairs, alone


def _parts(slide: str, features: str) -> bool:
    return Path(slide).is_file() or (is_url(slide) and Path(features).is_file())
