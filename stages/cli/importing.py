"""`histill import …`: what other tools have made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.base.errors import TableError
from pipeline.base.files import write_atomic
from pipeline.base.types import Json
from pipeline.params.load import load_params
from pipeline.params.whole import WholeParams
from stages.command import AsJson, Debug, errors, find_store, tell

if TYPE_CHECKING:
    from pipeline.slides.table import Row, Table

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
    from pipeline.slides.table import format_table
    from pipeline.tiles.coords.importing import with_coords

    with errors(debug):
        read, path = _to_fill(slides, table)
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


@import_cli.command("features")
def import_features(
    job: Annotated[Path, typer.Argument(help="A job folder of TRIDENT, CLAM, STAMP, slide2vec, slideflow; or files.")],
    teacher: Annotated[str, typer.Option(help="Whose features they are: `histill teachers`, or timm's name.")],
    out: Annotated[Path, typer.Option(help="The slide table to write; it may be the one that is there.")],
    slides: Annotated[Path | None, typer.Option(help="Take the slides of this folder, not those of the table.")] = None,
    table: Annotated[Path | None, typer.Option(help="The slide table; by default that of params.yaml.")] = None,
    coords: Annotated[Path | None, typer.Option(help="CLAM: the folder of its coordinates (patches).")] = None,
    tile_l0: Annotated[float | None, typer.Option(help="Side of a tile, level-0 pixels, where no file says.")] = None,
    tile_um: Annotated[float | None, typer.Option(help="Side of a tile, micrometres, where no file says.")] = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write the slide table with its columns `coords` and `features` filled: then no teacher is run for those tiles.

    Features stay where they are. Tilings, in one small form, are written to the folder `tilings` beside the table.

    histill import features /data/trident_job --teacher uni --slides /data/slides --out slides.csv
    """
    from pipeline.imports.filling import Asked, said, with_features
    from pipeline.slides.table import format_table

    with errors(debug):
        read, path = _to_fill(slides, table)
        base = out.absolute().parent
        if path.absolute().parent != base:
            fix = f"write it to {path.absolute().parent}"
            raise TableError("paths are relative to their table, which is in another folder", where=str(out), fix=fix)
        asked = Asked(teacher, base / "tilings", base, tile_l0, tile_um, coords)
        filled = with_features(read.rows, job, asked, _Scales(path))
        refused = [(refusal.id, refusal.reason) for refusal in read.refused]
        refused += [(slide_id, f"{error.what}; {error.fix}") for slide_id, error in filled.refused]
        for line in [*(f"left out {slide_id}: {why}" for slide_id, why in refused), *read.remarks, *filled.remarks]:
            typer.echo(line, err=True)
        for line in said(filled, asked):
            typer.echo(line, err=True)
        write_atomic(out, format_table(filled.rows).encode())
        left_out: list[Json] = [{"slide": slide_id, "reason": why} for slide_id, why in refused]
        remarks = [*read.remarks, *filled.remarks]
        tell(json, {"table": str(out), "slides": len(filled.rows), "left_out": left_out, "remarks": remarks}, ())


class _Scales:
    """um per level-0 pixel of a row's slide, which is opened for it."""

    def __init__(self, table: Path) -> None:
        self._table = table

    def __call__(self, row: Row) -> tuple[float, float]:
        from pipeline.params.slides import SlidesParams
        from pipeline.slides.read.reader import SlideReader
        from pipeline.slides.sources import locate

        params = Path("params.yaml")
        asked = load_params(WholeParams, params).slides if params.exists() else SlidesParams()
        source = locate(row, self._table.absolute(), find_store(), asked)
        with source.here() as path, SlideReader(path, source.mpp) as slide:
            return slide.mpp_xy


def _to_fill(slides: Path | None, table: Path | None) -> tuple[Table, Path]:
    """The rows of the slides below `slides`, else of the `table`, else of params.yaml's; and the table's path."""
    from pipeline.slides.scan import scan
    from pipeline.slides.table import parse_table, read_table

    params = Path("params.yaml")
    path = table or Path(load_params(WholeParams, params).slides.table if params.exists() else "slides.csv")
    if slides is not None:
        path = Path("slides.csv")
        return parse_table(scan(slides), path), path
    if path.exists() and not path.stat().st_size:
        fix = "`> slides.csv` empties it before it can be read: restore it, then use --out slides.csv"
        raise TableError("the table is empty", where=str(path), fix=fix)
    return read_table(path), path
