"""`histill store push | pull | status`: the bucket behind the store (docs/sharing.md)."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.base.errors import ParamsError, StoreError
from pipeline.base.files import dvc_root, human
from pipeline.base.store import Ref, Store
from pipeline.remote.bucket import Bucket
from pipeline.remote.choice import Choice
from pipeline.remote.moves import Moved, pull, push
from pipeline.upkeep.checkout import WORKSPACE
from pipeline.upkeep.named import Named, named_items
from stages.command import Debug, Exit, errors, find_store

FEW = 5
"""Failures that are shown."""
Kind = Annotated[str, typer.Option(help="Only this kind: tiles, tokens, figures, …")]
Recipe = Annotated[str, typer.Option(help="Only recipes whose key begins so.")]
Slide = Annotated[str, typer.Option(help="Only this slide's tiles and tokens, by its id.")]
Experiment = Annotated[
    str | None, typer.Option("--experiment", help="What this branch, tag or experiment names, not the workspace.")
]
Everything = Annotated[bool, typer.Option("--all", help="Whatever is there, named or not.")]


def add_to(store_cli: typer.Typer) -> None:
    """Put the three commands under `histill store`."""
    for name, command in (("push", store_push), ("pull", store_pull), ("status", store_status)):
        store_cli.command(name)(command)


def store_push(
    kind: Kind = "",
    recipe: Recipe = "",
    slide: Slide = "",
    experiment: Experiment = None,
    everything: Everything = False,
    again: Annotated[bool, typer.Option(help="Compare what the bucket has too, and mend it.")] = False,
    debug: Debug = False,
) -> None:
    """Send what the workspace names, and the bucket lacks, to the bucket (store.remote).

    histill store push --kind tokens
    """
    with errors(debug):
        store, bucket = _both()
        choice = _choice(kind, recipe, slide, experiment, everything)
        refs = choice.of(_named(), store.refs() if everything else ())
        _tell("sent", push(store, bucket, refs, again=again), bucket)


def store_pull(
    kind: Kind = "",
    recipe: Recipe = "",
    slide: Slide = "",
    experiment: Experiment = None,
    everything: Everything = False,
    debug: Debug = False,
) -> None:
    """Fetch what the workspace names, and the store lacks, from the bucket (store.remote).

    histill store pull --slide S1
    """
    with errors(debug):
        store, bucket = _both()
        choice = _choice(kind, recipe, slide, experiment, everything)
        refs = choice.of(_named(), bucket.refs() if everything else ())
        _tell("fetched", pull(store, bucket, refs), bucket)


def store_status(
    kind: Kind = "",
    recipe: Recipe = "",
    slide: Slide = "",
    experiment: Experiment = None,
    everything: Everything = False,
    debug: Debug = False,
) -> None:
    """Say which items are here, in the bucket, in both and in neither.

    histill store status --all
    """
    with errors(debug):
        store, bucket = _both()
        choice = _choice(kind, recipe, slide, experiment, everything)
        refs = choice.of(_named(), {*store.refs(), *bucket.refs()} if everything else ())
        counts = Counter((ref.kind, ref.recipe, store.is_here(ref), bucket.has(ref)) for ref in refs)
        table = Table("kind", "recipe", "here and there", "here alone", "there alone", "nowhere", title=bucket.url)
        for of in sorted({key[:2] for key in counts}):
            places = ((True, True), (True, False), (False, True), (False, False))
            table.add_row(*of, *(str(counts[(*of, *place)] or "") for place in places))
        Console().print(table)


def _both() -> tuple[Store, Bucket]:
    store = find_store()
    if not isinstance(store.remote, Bucket):
        fix = "name one in params.yaml (`remote: s3://bucket/prefix`), or in HISTILL_STORE_REMOTE"
        raise ParamsError("there is no bucket behind this store", where="store.remote", fix=fix)
    return store, store.remote


def _choice(kind: str, recipe: str, slide: str, experiment: str | None, everything: bool) -> Choice:
    if everything and experiment is not None:
        raise StoreError("--all and --experiment name two choices", fix="leave one out")
    return Choice(None if everything else experiment or WORKSPACE, kind, recipe, slide)


def _named() -> Named:
    """What this checkout names; says what could not be asked."""
    named = named_items([dvc_root()])
    for error in named.failures:
        typer.echo(f"names may be missing: {error}", err=True)
    return named


def _tell(done: str, moved: Moved, bucket: Bucket) -> None:
    typer.echo(f"{bucket.url}: {done} {moved.items} items, {human(moved.nbytes)}; {moved.already} were there already")
    for ref in moved.absent[:FEW]:
        typer.echo(f"nowhere: {ref}", err=True)
    if moved.absent:
        typer.echo(f"{len(moved.absent)} items are neither here nor in the bucket: make them (`dvc repro`)", err=True)
    for ref, error in list(moved.failed.items())[:FEW]:
        typer.echo(f"failed: {_where(ref, error.where)}{error}", err=True)
    if moved.failed:
        typer.echo(f"{moved.left} items are left: the same command goes on", err=True)
    if moved.failed or moved.absent:
        raise typer.Exit(Exit.PARTLY)


def _where(ref: Ref, told: str) -> str:
    return "" if str(ref) in told else f"{ref}: "
