"""`histill store push | pull | status`: the bucket behind the store (docs/sharing.md)."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.base.errors import ParamsError, StoreError
from pipeline.base.files import as_json, dvc_root, human
from pipeline.base.store import Ref, Store
from pipeline.base.types import Json
from pipeline.remote.bucket import Bucket
from pipeline.remote.choice import Choice
from pipeline.remote.moves import Moved, pull, push
from pipeline.upkeep.checkout import WORKSPACE
from pipeline.upkeep.named import Named, named_items
from stages.cli.options import Items, grouped
from stages.command import AsJson, Debug, Exit, errors, find_store

FEW = 5
"""Failures that are shown."""
PLACES = {"both": (True, True), "here": (True, False), "bucket": (False, True), "nowhere": (False, False)}
"""Whether an item is in the store, and whether in the bucket."""


def add_to(store_cli: typer.Typer) -> None:
    """Put the three commands under `histill store`."""
    for name, command in (("push", store_push), ("pull", store_pull), ("status", store_status)):
        store_cli.command(name)(grouped(command))


def store_push(
    items: Items,
    again: Annotated[bool, typer.Option(help="Compare what the bucket has too, and mend it.")] = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Send what the workspace names, and the bucket lacks, to the bucket (store.remote).

    histill store push --kind tokens
    """
    with errors(debug):
        store, bucket = _both()
        refs = _choice(items).of(_named(), store.refs() if items.everything else ())
        _tell("sent", push(store, bucket, refs, again=again), bucket, json)


def store_pull(items: Items, json: AsJson = False, debug: Debug = False) -> None:
    """Fetch what the workspace names, and the store lacks, from the bucket (store.remote).

    histill store pull --slide S1
    """
    with errors(debug):
        store, bucket = _both()
        refs = _choice(items).of(_named(), bucket.refs() if items.everything else ())
        _tell("fetched", pull(store, bucket, refs), bucket, json)


def store_status(items: Items, json: AsJson = False, debug: Debug = False) -> None:
    """Say which items are here, in the bucket, in both and in neither.

    histill store status --all
    """
    with errors(debug):
        store, bucket = _both()
        refs = _choice(items).of(_named(), {*store.refs(), *bucket.refs()} if items.everything else ())
        counts = Counter((ref.kind, ref.recipe, store.is_here(ref), bucket.has(ref)) for ref in refs)
        if json:
            typer.echo(as_json({"bucket": bucket.url, "recipes": _counted(counts)}))
            return
        table = Table("kind", "recipe", "here and there", "here alone", "there alone", "nowhere", title=bucket.url)
        for of in sorted({key[:2] for key in counts}):
            table.add_row(*of, *(str(counts[(*of, *place)] or "") for place in PLACES.values()))
        Console().print(table)


def _both() -> tuple[Store, Bucket]:
    store = find_store()
    if not isinstance(store.remote, Bucket):
        fix = "name one in params.yaml (`remote: s3://bucket/prefix`), or in HISTILL_STORE_REMOTE"
        raise ParamsError("there is no bucket behind this store", where="store.remote", fix=fix)
    return store, store.remote


def _choice(items: Items) -> Choice:
    if items.everything and items.experiment is not None:
        raise StoreError("--all and --experiment name two choices", fix="leave one out")
    who = None if items.everything else items.experiment or WORKSPACE
    return Choice(who, items.kind, items.recipe, items.slide)


def _counted(counts: Counter[tuple[str, str, bool, bool]]) -> list[Json]:
    """How many items of each recipe are where, for a program."""
    told: list[Json] = []
    for kind, recipe in sorted({key[:2] for key in counts}):
        of = {name: counts[kind, recipe, *place] for name, place in PLACES.items()}
        told.append({"kind": kind, "recipe": recipe, **of})
    return told


def _named() -> Named:
    """What this checkout names; says what could not be asked."""
    named = named_items([dvc_root()])
    for error in named.failures:
        typer.echo(f"names may be missing: {error}", err=True)
    return named


def _tell(done: str, moved: Moved, bucket: Bucket, json: bool) -> None:
    if json:
        told: dict[str, Json] = {
            "bucket": bucket.url,
            "items": moved.items,
            "nbytes": moved.nbytes,
            "already": moved.already,
            "absent": [str(ref) for ref in moved.absent],
            "failed": {str(ref): error.what for ref, error in moved.failed.items()},
            "left": moved.left,
        }
        typer.echo(as_json(told))
    else:
        _tell_people(done, moved, bucket)
    if moved.failed or moved.absent:
        raise typer.Exit(Exit.PARTLY)


def _tell_people(done: str, moved: Moved, bucket: Bucket) -> None:
    typer.echo(f"{bucket.url}: {done} {moved.items} items, {human(moved.nbytes)}; {moved.already} were there already")
    for ref in moved.absent[:FEW]:
        typer.echo(f"nowhere: {ref}", err=True)
    if moved.absent:
        typer.echo(f"{len(moved.absent)} items are neither here nor in the bucket: make them (`dvc repro`)", err=True)
    for ref, error in list(moved.failed.items())[:FEW]:
        typer.echo(f"failed: {_where(ref, error.where)}{error}", err=True)
    if moved.failed:
        typer.echo(f"{moved.left} items are left: the same command goes on", err=True)


def _where(ref: Ref, told: str) -> str:
    return "" if str(ref) in told else f"{ref}: "
