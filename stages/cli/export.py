"""`histill export …`: results for other tools."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.base.items import SlidesManifest, TilesManifest
from stages.command import Debug, errors, find_store, load

export_cli = typer.Typer(no_args_is_help=True, help="Hand results to other tools.")


class CoordsFormat(StrEnum):
    """Who is to read the coordinates."""

    TRIDENT = "trident"
    CLAM = "clam"
    QUPATH = "qupath"


@export_cli.command("coords")
def export_coords(
    form: Annotated[CoordsFormat, typer.Option("--format", help="trident and clam: h5; qupath: GeoJSON.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("coords"),
    debug: Debug = False,
) -> None:
    """Write where each slide's tiles are, a file a slide, for TRIDENT, CLAM or QuPath."""
    from pipeline.tiles.coords.exporting import export_coords as write_all

    with errors(debug):
        slides, tiles, store = load(SlidesManifest), load(TilesManifest), find_store()
        store.require(tiles)
        written, left_out = write_all(slides, tiles, store, form.value, out)
        for line in left_out:
            typer.echo(f"left out: {line}", err=True)
        typer.echo(f"{len(written)} files under {out}")
