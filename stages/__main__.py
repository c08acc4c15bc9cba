"""`histill`: every stage by name, `scan`, `export` and `import`, `doctor`, and `store` (store.py)."""

from __future__ import annotations

import importlib
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.base.errors import TableError
from pipeline.base.files import free_bytes, human, write_atomic
from pipeline.base.items import SlidesManifest, TilesManifest
from pipeline.base.store import dvc_root
from pipeline.params import STAGES
from pipeline.params.load import load_params
from pipeline.params.site import SiteParams
from pipeline.params.whole import WholeParams
from pipeline.slides.picture_folders import Grouping
from pipeline.upkeep.locks import locks
from stages.command import Debug, errors, find_store, load
from stages.embed import embed
from stages.store import store_cli

cli = typer.Typer(no_args_is_help=True, add_completion=False, help="Distil a pathology encoder from a feature cache.")
cli.add_typer(store_cli, name="store")
export_cli = typer.Typer(no_args_is_help=True, help="Hand results to other tools.")
cli.add_typer(export_cli, name="export")
import_cli = typer.Typer(no_args_is_help=True, help="Take in what other tools have made.")
cli.add_typer(import_cli, name="import")


def _register(stage: str) -> None:
    """Add a stage's command; its module is imported when the command runs, so that the others start at once.

    So does a mistake in params.yaml, which is looked for before torch is imported.
    """

    @cli.command(stage, help=f"Run the stage `{stage}` here, without DVC.")
    def command(debug: Debug = False) -> None:
        with errors(debug):
            load_params(SiteParams)
        importlib.import_module(f"stages.{stage}").main(debug)


for _stage in STAGES:
    if _stage != "report":
        _register(_stage)


@cli.command(help="Run the stage `report` here, without DVC; with --compare, put experiments side by side.")
def report(
    experiments: Annotated[
        list[str] | None, typer.Argument(help="With --compare: branches, experiments, `workspace`; by default all.")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Write reports/compare.html instead.")] = False,
    debug: Debug = False,
) -> None:
    """The report, or experiments side by side."""
    if not compare:
        if experiments:
            raise typer.BadParameter("experiments are named with --compare: histill report --compare EXP ...")
        importlib.import_module("stages.report").main(debug)
        return
    from pipeline.report.across.compare import compare_experiments

    with errors(debug):
        out = Path("reports/compare.html")
        names = compare_experiments(dvc_root(), experiments or [], out)
        typer.echo(f"{out}: {', '.join(names)}")


@cli.command()
def scan(
    folder: Path,
    folders: Annotated[
        Grouping, typer.Option(help="What folders of tiles side by side are: classes of one slide, or a slide each.")
    ] = Grouping.AUTO,
    debug: Debug = False,
) -> None:
    """Print a slide table of all slides under FOLDER: histill scan DIR > slides.csv."""
    from pipeline.slides.scan import scan as scan_folder

    with errors(debug):
        typer.echo(scan_folder(folder, folders), nl=False)


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

    histill import coords JOB --slides SLIDES > slides.csv starts a table; histill import coords JOB --out slides.csv
    fills in the one that is there.
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


@cli.command()
def teachers() -> None:
    """List the teachers that `tokens.teacher` knows by a short name, and what they want and give."""
    from pipeline.teachers.listing import list_teachers

    list_teachers()


cli.command()(embed)


@cli.command()
def study(
    plan: Annotated[Path, typer.Argument(help="The arms, as in docs/study.yaml.")],
    data: Annotated[Path, typer.Option(help="The folder that {data} stands for in the plan.")],
    out: Annotated[Path, typer.Option(help="Folder of the clone and the results; what is there is not run again.")] = (
        Path("study")
    ),
    split: Annotated[list[str] | None, typer.Option(help="Held-out splits to tabulate (repeat for more).")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Experiments at a time; each gets its share of the cores.")] = 1,
    debug: Debug = False,
) -> None:
    """Run every arm of a plan over its seeds as DVC experiments, and print their table: goes on where it was."""
    from pipeline.study.run import read_plan, run_study
    from pipeline.study.table import markdown, results_of

    with errors(debug):
        told = read_plan(plan, data).at(dvc_root())
        results = run_study(told, dvc_root(), out, find_store().root, jobs)
        for name in split or ["test", "test_shift"]:
            typer.echo(markdown(results_of(told, results, name), name) + "\n")


@cli.command()
def summary() -> None:
    """Say where the report, the student and the figures are."""
    for what, path in (
        ("the report", Path("reports/report.html")),
        ("the student", Path("models/student")),
        ("the figures", Path("metrics")),
    ):
        typer.echo(f"{what + ':':<13}{path}{'' if path.exists() else '  (not made yet: dvc repro)'}")
    typer.echo("             dvc metrics show; dvc plots show")


@cli.command()
def doctor() -> None:
    """Say what this machine has and what Histill will use."""
    import torch

    store = find_store()
    space = human(free_bytes(store.root))
    table = Table("what", "found", show_header=True)
    for package in ("torch", "torchvision", "timm", "zarr", "openslide", "dvc"):
        table.add_row(package, getattr(importlib.import_module(package), "__version__", "?"))
    table.add_row("GPU", torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none: everything runs on CPU")
    table.add_row("compute threads", str(torch.get_num_threads()))
    table.add_row("store", f"{store.root} ({space} free)")
    if store.root.is_dir() and os.access(store.root, os.W_OK):
        table.add_row("store's locks", str(locks(store.root)))
    Console().print(table)


if __name__ == "__main__":
    cli()
