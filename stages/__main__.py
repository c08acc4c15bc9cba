"""`histill`: every stage by name, `scan`, `export` and `import`, `doctor`, and the store's housekeeping."""

from __future__ import annotations

import importlib
from collections import defaultdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline import housekeeping
from pipeline.errors import CorruptItem, StoreError, TableError
from pipeline.manifest import write_atomic
from pipeline.params import STAGES, load_params
from pipeline.progress import track
from pipeline.store import Store, dvc_root
from stages.command import Debug, errors, load

cli = typer.Typer(no_args_is_help=True, add_completion=False, help="Distil a pathology encoder from a feature cache.")
store_cli = typer.Typer(no_args_is_help=True, help="What the store holds, and who still names it.")
cli.add_typer(store_cli, name="store")
export_cli = typer.Typer(no_args_is_help=True, help="Hand results to other tools.")
cli.add_typer(export_cli, name="export")
import_cli = typer.Typer(no_args_is_help=True, help="Take in what other tools have made.")
cli.add_typer(import_cli, name="import")

Checkouts = Annotated[
    list[Path] | None, typer.Option("--checkout", help="Another checkout that shares the store (repeat for more).")
]


def _register(stage: str) -> None:
    """Add a stage's command; its module is imported when the command runs, so that the others start at once."""

    @cli.command(stage, help=f"Run the stage `{stage}` here, without DVC.")
    def command(debug: Debug = False) -> None:
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
    from pipeline.evaluation.compare import compare_experiments

    with errors(debug):
        out = Path("reports/compare.html")
        names = compare_experiments(dvc_root(), experiments or [], out)
        typer.echo(f"{out}: {', '.join(names)}")


@cli.command()
def scan(folder: Path, debug: Debug = False) -> None:
    """Print a slide table of all slides under FOLDER: histill scan DIR > slides.csv."""
    from pipeline.slides.scan import scan as scan_folder

    with errors(debug):
        typer.echo(scan_folder(folder), nl=False)


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
    from pipeline.tiles.coords_export import export_coords as write_all

    with errors(debug):
        slides, tiles, store = load("slides"), load("tiles"), _store()
        store.require(tiles)
        written = write_all(slides, tiles, store, form.value, out)
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
    from pipeline.tiles.coords_import import with_coords

    with errors(debug):
        params = Path("params.yaml")
        path = table or Path(load_params(params).slides.table if params.exists() else "slides.csv")
        if slides is not None:
            path = Path("slides.csv")
            rows, refused = parse_table(scan_folder(slides), path)
        elif path.exists() and not path.stat().st_size:
            fix = "`> slides.csv` empties it before it can be read: restore it, then use --out slides.csv"
            raise TableError("the table is empty", where=str(path), fix=fix)
        else:
            rows, refused = read_table(path)
        filled, remarks = with_coords(rows, found, path.absolute().parent)
        for remark in [*(f"left out {refusal.id}: {refusal.reason}" for refusal in refused), *remarks]:
            typer.echo(remark, err=True)
        if out is None:
            typer.echo(format_table(filled), nl=False)
        else:
            write_atomic(out, format_table(filled).encode())


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

    store = _store()
    space = housekeeping.human(housekeeping.free_bytes(store))
    table = Table("what", "found", show_header=True)
    for package in ("torch", "torchvision", "timm", "zarr", "openslide", "dvc"):
        table.add_row(package, getattr(importlib.import_module(package), "__version__", "?"))
    table.add_row("GPU", torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none: everything runs on CPU")
    table.add_row("compute threads", str(torch.get_num_threads()))
    table.add_row("store", f"{store.root} ({space} free)")
    Console().print(table)


@store_cli.command("ls")
def store_ls(kind: Annotated[str | None, typer.Argument(help="tiles, tokens, …")] = None) -> None:
    """List the items: kind/recipe/item, size, and who names them."""
    store, named = _store(), housekeeping.named_items([dvc_root()])
    for ref in store.refs():
        if kind in (None, ref.kind):
            places = ", ".join(named.by.get(str(ref), ["nobody"]))
            typer.echo(f"{ref}\t{housekeeping.human(store.nbytes(ref))}\t{places}")


@store_cli.command("du")
def store_du() -> None:
    """Items and bytes of each recipe."""
    store = _store()
    totals: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for ref in store.refs():
        total = totals[ref.kind, ref.recipe]
        total[0] += 1
        total[1] += store.nbytes(ref)
    table = Table("kind", "recipe", "items", "size")
    for (kind, recipe), (n, size) in sorted(totals.items()):
        table.add_row(kind, recipe, str(n), housekeeping.human(size))
    table.add_row(
        "all", "", str(sum(t[0] for t in totals.values())), housekeeping.human(sum(t[1] for t in totals.values()))
    )
    Console().print(table)


@store_cli.command("verify")
def store_verify(key: Annotated[str, typer.Argument(help="Only keys that begin so.")] = "") -> None:
    """Compare every file with its checksum; exit code 1 if one differs."""
    store = _store()
    refs = housekeeping.find(store, key)
    corrupt = []
    with track("verify", len(refs), "items") as advance:
        for ref in refs:
            try:
                store.verify(ref)
            except CorruptItem as error:
                corrupt.append(error)
            advance()
    for found in corrupt:
        typer.echo(f"corrupt: {found}")
    typer.echo(f"{len(refs)} items checked, {len(corrupt)} corrupt")
    raise typer.Exit(1 if corrupt else 0)


@store_cli.command("prune")
def store_prune(
    checkout: Checkouts = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    ignore_missing: Annotated[bool, typer.Option(help="Go on though some manifests are unknown.")] = False,
    debug: Debug = False,
) -> None:
    """Delete what no workspace, git ref or experiment names, after showing it."""
    with errors(debug):
        store = _store()
        named = housekeeping.named_items([dvc_root(), *(checkout or [])])
        if ignore_missing:
            named.unknown.clear()
        refs = housekeeping.prunable(store, named)
        for ref in refs:
            typer.echo(f"would delete {ref}\t{housekeeping.human(store.nbytes(ref))}")
        total = housekeeping.human(sum(store.nbytes(ref) for ref in refs))
        typer.echo(f"{len(refs)} items, {total}; {len(named.by)} named items stay")
        if refs and (yes or typer.confirm("Delete them?")):
            for ref in refs:
                store.delete(ref)
            typer.echo(f"deleted {len(refs)} items")
        typer.echo(f"swept {store.sweep()} abandoned partial items")


@store_cli.command("why")
def store_why(key: str, debug: Debug = False) -> None:
    """Say what a recipe or item key stands for, and who names it."""
    with errors(debug):
        store = _store()
        refs = housekeeping.find(store, key)
        if not refs:
            raise StoreError(f"no item's key begins with {key!r}", where=str(store.root), fix="see `histill store ls`")
        named = housekeeping.named_items([dvc_root()])
        for recipe in sorted({(ref.kind, ref.recipe) for ref in refs}):
            items = [ref for ref in refs if (ref.kind, ref.recipe) == recipe]
            typer.echo(f"{'/'.join(recipe)}: made by stage `{housekeeping.KIND_STAGE.get(recipe[0], '?')}` from")
            for name, value in sorted(store.recipe(items[0]).items()):
                typer.echo(f"  {name}: {value}")
            for ref in items:
                typer.echo(f"  item {ref.item}: named by {', '.join(named.by.get(str(ref), ['nobody']))}")


def _store() -> Store:
    params = Path("params.yaml")
    return Store.find(load_params(params).store.root if params.exists() else None)


if __name__ == "__main__":
    cli()
