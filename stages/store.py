"""`histill store …`: what the store holds, who still names it, whether it is whole."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.base.errors import StoreError
from pipeline.base.files import human
from pipeline.base.progress import track
from pipeline.base.store import dvc_root
from pipeline.upkeep.keys import KIND_STAGE, items_of_key
from pipeline.upkeep.named import named_items
from pipeline.upkeep.prune import prunable
from pipeline.upkeep.verify import corrupt
from stages.command import Debug, errors, find_store

store_cli = typer.Typer(no_args_is_help=True, help="What the store holds, and who still names it.")

Checkouts = Annotated[
    list[Path] | None, typer.Option("--checkout", help="Another checkout that shares the store (repeat for more).")
]


@store_cli.command("ls")
def store_ls(kind: Annotated[str | None, typer.Argument(help="tiles, tokens, …")] = None) -> None:
    """List the items: kind/recipe/item, size, who names them, and the slide that they are of."""
    store, named = find_store(), named_items([dvc_root()])
    for ref in store.refs():
        if kind in (None, ref.kind):
            places = ", ".join(named.by.get(str(ref), ["nobody"]))
            slide = named.slides.get(str(ref), "")
            typer.echo(f"{ref}\t{human(store.nbytes(ref))}\t{places}\t{slide}".rstrip())


@store_cli.command("du")
def store_du() -> None:
    """Items and bytes of each recipe."""
    store = find_store()
    totals: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for ref in store.refs():
        total = totals[ref.kind, ref.recipe]
        total[0] += 1
        total[1] += store.nbytes(ref)
    table = Table("kind", "recipe", "items", "size", title=str(store.root))
    for (kind, recipe), (n, size) in sorted(totals.items()):
        table.add_row(kind, recipe, str(n), human(size))
    table.add_row("all", "", str(sum(t[0] for t in totals.values())), human(sum(t[1] for t in totals.values())))
    Console().print(table)


@store_cli.command("verify")
def store_verify(key: Annotated[str, typer.Argument(help="Only keys that begin so.")] = "") -> None:
    """Compare every file with its checksum, name the slides and rows of what differs; exit code 1 if one does."""
    store, named = find_store(), named_items([dvc_root()])
    refs = items_of_key(store, key)
    wrong = []
    with track("verify", len(refs), "items") as advance:
        for ref in refs:
            found = corrupt(store, ref, named)
            wrong += [found] if found is not None else []
            advance()
    for error in wrong:
        typer.echo(f"corrupt: {error}")
    typer.echo(f"{len(refs)} items checked, {len(wrong)} corrupt")
    raise typer.Exit(1 if wrong else 0)


@store_cli.command("prune")
def store_prune(
    checkout: Checkouts = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    ignore_missing: Annotated[bool, typer.Option(help="Go on though some manifests are unknown.")] = False,
    debug: Debug = False,
) -> None:
    """Delete what no workspace, git ref or experiment names, after showing it: of this checkout and those given."""
    with errors(debug):
        store = find_store()
        named = named_items([dvc_root(), *(checkout or [])])
        if ignore_missing:
            named.unknown.clear()
        refs = prunable(store, named)
        for ref in refs:
            typer.echo(f"would delete {ref}\t{human(store.nbytes(ref))}")
        total = human(sum(store.nbytes(ref) for ref in refs))
        typer.echo(f"to delete: {len(refs)}, {total}; to stay: {len(named.by)} named items")
        asked = "Delete them? A checkout that shares this store and is not given by --checkout loses its own"
        if refs and (yes or typer.confirm(asked)):
            for ref in refs:
                store.delete(ref)
            typer.echo(f"deleted {len(refs)} items")
        typer.echo(f"swept {store.sweep()} abandoned partial items")


@store_cli.command("why")
def store_why(key: str, debug: Debug = False) -> None:
    """Say what a recipe or item key stands for, and who names it."""
    with errors(debug):
        store = find_store()
        refs = items_of_key(store, key)
        if not refs:
            raise StoreError(f"no item's key begins with {key!r}", where=str(store.root), fix="see `histill store ls`")
        named = named_items([dvc_root()])
        for recipe in sorted({(ref.kind, ref.recipe) for ref in refs}):
            items = [ref for ref in refs if (ref.kind, ref.recipe) == recipe]
            typer.echo(f"{'/'.join(recipe)}: made by stage `{KIND_STAGE.get(recipe[0], '?')}` from")
            for name, value in sorted(store.recipe(items[0]).items()):
                typer.echo(f"  {name}: {value}")
            for ref in items:
                typer.echo(f"  item {ref.item}: named by {', '.join(named.by.get(str(ref), ['nobody']))}")
