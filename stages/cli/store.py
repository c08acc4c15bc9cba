"""`histill store …`: what the store holds, who still names it, whether it is whole."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.base.errors import StoreError
from pipeline.base.files import as_json, dvc_root, human
from pipeline.base.living.runs import forget as forget_checkout
from pipeline.base.progress import track
from pipeline.base.store import Ref, Store
from pipeline.base.types import Json
from pipeline.upkeep.group import advice, share
from pipeline.upkeep.keys import KIND_STAGE, items_of_key
from pipeline.upkeep.named import Named, named_items
from pipeline.upkeep.prune import DAYS, Plan, all_named, prunable, prune
from pipeline.upkeep.verify import corrupt
from stages.command import AsJson, Debug, Exit, errors, find_store, tell

_ASKED = "Delete them? A checkout that shares this store and has not run since it does loses its own"

store_cli = typer.Typer(no_args_is_help=True, help="What the store holds, and who still names it.")

Checkouts = Annotated[
    list[Path] | None, typer.Option("--checkout", help="Another checkout that shares the store (repeat for more).")
]


@store_cli.command("init")
def store_init(
    group: Annotated[str, typer.Option("--group", help="The group of those who are to share it.")],
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make the store a group's, with all that is in it already: docs/sharing.md.

    histill store init --group pathology
    """
    with errors(debug):
        store = find_store()
        left = share(store.root, group)
        lines = [f"{store.root}: group {group} reads and writes it"]
        if left:
            lines.append(f"{left} files are other users': have them say `histill store init --group {group}` too")
        said = advice()
        told: Json = {"store": str(store.root), "group": group, "files_of_others": left, "advice": said or None}
        tell(json, told, [*lines, said] if said else lines)


@store_cli.command("ls")
def store_ls(
    kind: Annotated[str | None, typer.Argument(help="tiles, tokens, …")] = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the items: kind/recipe/item, size, who names them, and the slide that they are of.

    histill store ls tokens
    """
    with errors(debug):
        store, named = find_store(), _names()
        refs = [ref for ref in store.refs() if kind in (None, ref.kind)]
        if json:
            typer.echo(as_json([_told(store, ref, named) for ref in refs]))
            return
        lines = []
        for ref in refs:
            text = str(ref)
            places, slide = ", ".join(named.by.get(text, ["nobody"])), named.slides.get(text, "")
            lines.append(f"{text}\t{human(store.nbytes(ref))}\t{places}\t{slide}\t{_base(store, ref)}".rstrip())
        if lines:
            typer.echo("\n".join(lines))


@store_cli.command("du")
def store_du(json: AsJson = False, debug: Debug = False) -> None:
    """Items and bytes of each recipe.

    histill store du --json
    """
    with errors(debug):
        store = find_store()
    totals: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for ref in store.refs():
        total = totals[_base(store, ref), ref.kind, ref.recipe]
        total[0] += 1
        total[1] += store.nbytes(ref)
    if json:
        recipes = [
            {"kind": kind, "recipe": recipe, "items": n, "nbytes": nbytes, "base": base or None}
            for (base, kind, recipe), (n, nbytes) in sorted(totals.items())
        ]
        typer.echo(as_json({"store": str(store.root), "recipes": recipes}))
        return
    table = Table("kind", "recipe", "items", "size", "base", title=str(store.root))
    for (base, kind, recipe), (n, size) in sorted(totals.items()):
        table.add_row(kind, recipe, str(n), human(size), base)
    table.add_row("all", "", str(sum(t[0] for t in totals.values())), human(sum(t[1] for t in totals.values())))
    Console().print(table)


@store_cli.command("verify")
def store_verify(
    key: Annotated[str, typer.Argument(help="Only keys that begin so.")] = "",
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare every file with its checksum, name the slides and rows of what differs; exit code 3 if one does.

    histill store verify
    """
    with errors(debug):
        store, named = find_store(), _names()
        refs = items_of_key(store, key)
        wrong = []
        with track("verify", len(refs), "items") as advance:
            for ref in refs:
                found = corrupt(store, ref, named)
                wrong += [(ref, found)] if found is not None else []
                advance()
    if json:
        told = [
            {"item": str(ref), "slide": named.slides.get(str(ref)), "what": error.what, "fix": error.fix}
            for ref, error in wrong
        ]
        typer.echo(as_json({"checked": len(refs), "corrupt": told}))
    else:
        for _, error in wrong:
            typer.echo(f"corrupt: {error}")
        typer.echo(f"{len(refs)} items checked, {len(wrong)} corrupt")
    if wrong:
        raise typer.Exit(Exit.PARTLY)


@store_cli.command("prune")
def store_prune(
    checkout: Checkouts = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    days: Annotated[float, typer.Option("--older-than", min=0, help="Days for which unfinished work is left.")] = DAYS,
    ignore_missing: Annotated[bool, typer.Option(help="Go on though some manifests are unknown.")] = False,
    forget: Annotated[
        list[Path] | None, typer.Option("--forget", help="A checkout that is gone for good (repeat for more).")
    ] = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Delete what nobody names, after showing it: no workspace, git ref or experiment of the checkouts that use it.

    What running stages hold is left, and what was left unfinished in the last days. With --json nothing is asked, and
    without --yes nothing deleted.

    histill store prune --checkout ../other
    """
    with errors(debug):
        store = find_store()
        for folder in forget or []:
            forget_checkout(store.root, folder)
        found = _planned(store, checkout or [], days, ignore_missing)
        told = _told_plan(store, found)
        if not json:
            _show(store, found)
        if not yes and not json and (found.items or found.partials) and typer.confirm(_ASKED):
            # Somebody may have named some while the question stood.
            again = _planned(store, checkout or [], days, ignore_missing)
            found, yes = Plan([ref for ref in found.items if ref in set(again.items)], found.partials), True
        go = yes and bool(found.items or found.partials)
        deleted, swept = (prune(store, found, days), len(found.partials)) if go else (0, 0)
        done = [f"deleted {deleted} items, swept {swept} unfinished ones"] if go else []
        tell(json, {**told, "deleted": deleted, "swept": swept}, done)


def _told_plan(store: Store, found: Plan) -> dict[str, Json]:
    """What would be deleted, and what is left, for a program."""
    return {
        "items": [{"item": str(ref), "nbytes": store.nbytes(ref)} for ref in found.items],
        "unfinished": [{"name": partial.name, "nbytes": partial.nbytes} for partial in found.partials],
        "left": found.left,
    }


def _show(store: Store, found: Plan) -> None:
    """The same for people."""
    for ref in found.items:
        typer.echo(f"would delete {ref}\t{human(store.nbytes(ref))}")
    for partial in found.partials:
        typer.echo(f"would sweep {partial.name}\t{human(partial.nbytes)} unfinished")
    for words in found.left:
        typer.echo(f"left: {words}")
    total = sum(store.nbytes(ref) for ref in found.items) + sum(partial.nbytes for partial in found.partials)
    typer.echo(f"to delete: {len(found.items)} items, {len(found.partials)} unfinished ones, {human(total)}")


def _base(store: Store, ref: Ref) -> str:
    """The base that an item is in; empty where it is in the store itself."""
    holder = store.holder(ref) if store.bases else store.root
    return "" if holder == store.root else str(holder)


def _told(store: Store, ref: Ref, named: Named) -> dict[str, Json]:
    """An item, for a program."""
    return {
        "item": str(ref),
        "nbytes": store.nbytes(ref),
        "named_by": named.by.get(str(ref), []),
        "slide": named.slides.get(str(ref)),
        "base": _base(store, ref) or None,
    }


def _names() -> Named:
    """What this checkout names; says what could not be asked."""
    named = named_items([dvc_root()])
    for error in named.failures:
        typer.echo(f"names may be missing: {error}", err=True)
    return named


def _planned(store: Store, given: list[Path], days: float, ignore_missing: bool) -> Plan:
    named = all_named(store, [dvc_root(), *given])
    if ignore_missing:
        named.unknown.clear()
    return prunable(store, named, days)


@store_cli.command("why")
def store_why(
    key: Annotated[str, typer.Argument(help="The beginning of a recipe's or an item's key.")],
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what a recipe or item key stands for, and who names it.

    histill store why 3f2a
    """
    with errors(debug):
        store = find_store()
        refs = items_of_key(store, key)
        if not refs:
            raise StoreError(f"no item's key begins with {key!r}", where=str(store.root), fix="see `histill store ls`")
        named = _names()
        if json:
            told = [
                {**_told(store, ref, named), "stage": KIND_STAGE.get(ref.kind), "made_from": store.recipe(ref)}
                for ref in refs
            ]
            typer.echo(as_json(told))
            return
        for recipe in sorted({(ref.kind, ref.recipe) for ref in refs}):
            items = [ref for ref in refs if (ref.kind, ref.recipe) == recipe]
            typer.echo(f"{'/'.join(recipe)}: made by stage `{KIND_STAGE.get(recipe[0], '?')}` from")
            for name, value in sorted(store.recipe(items[0]).items()):
                typer.echo(f"  {name}: {value}")
            for ref in items:
                base = f" in {_base(store, ref)}" if _base(store, ref) else ""
                typer.echo(f"  item {ref.item}{base}: named by {', '.join(named.by.get(str(ref), ['nobody']))}")
