"""`histill import …`: what other tools have made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.base.errors import TableError
from pipeline.base.files import write_atomic
from pipeline.params.load import load_params
from pipeline.params.whole import WholeParams
from stages.command import Debug, errors

import_cli = typer.Typer(no_args_is_help=True, help="Take in what other tools have made.")


@import_cli.command("coords")
def import_coords(
    found: Annotated[Path, typer.Argument(help="A TRIDENT or CLAM job folder, its patches folder, or one h5 file.")],
    slides: Annotated[Path | None, typer.Option(help="Take the slides of this folder, not those of the table.")] = None,
    table: Annotated[Path | None, typer.Option(help="The slide table; by default that of params.yaml.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write here (slides.csv itself may be given), not to stdout.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Print the slide table with its `coords` column filled, so that those tiles are taken and no grid is laid.

    With --slides it starts a table, without it fills in the one that is there.

    histill import coords /data/trident_job --slides /data/slides > slides.csv
    """
    from pipeline.slides.scan import scan as scan_folder
    from pipeline.slides.table import format_table, parse_table, read_table
    from pipeline.tiles.coords.importing import with_coords

    with errors(debug):
        params = Path("params.yaml")
        path = table or Path(load_params(WholeParams, params).slides.table if params.exists() else "slides.csv")
        if slides is not None:
            path = Path("slides.csv")
            read = parse_table(scan_folder(slides), path)
        elif path.exists() and not path.stat().st_size:
            fix = "`> slides.csv` empties it before it can be read: restore it, then use --out slides.csv"
            raise TableError("the table is empty", where=str(path), fix=fix)
        else:
            read = read_table(path)
        filled, remarks = with_coords(read.rows, found, path.absolute().parent)
        for remark in [
            *(f"left out {refusal.id}: {refusal.reason}" for refusal in read.refused),
            *read.remarks,
            *remarks,
        ]:
            typer.echo(remark, err=True)
        if out is None:
            typer.echo(format_table(filled), nl=False)
        else:
            write_atomic(out, format_table(filled).encode())
