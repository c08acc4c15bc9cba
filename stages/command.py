"""What every stage's command does around its `run`: params in, manifest and metrics out, errors for people."""

from __future__ import annotations

import faulthandler
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from enum import IntEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError
from rich.table import Table

from pipeline.base.errors import HistillError, ParamsError, Unfinished, some
from pipeline.base.files import as_json, dvc_root, human, write_json
from pipeline.base.living.runs import announced, held_here
from pipeline.base.manifest import Item, Manifest, Outline, Refusal
from pipeline.base.names import is_utf8, printable
from pipeline.base.progress import console
from pipeline.base.store import Ref, Store
from pipeline.base.types import Json
from pipeline.params import STAGES
from pipeline.params.load import load_params
from pipeline.params.site import SiteParams
from pipeline.remote.background import Going, sending
from pipeline.remote.bucket import Bucket
from pipeline.remote.moves import Moved, push

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Wait = Annotated[
    bool | None,
    typer.Option(
        "--wait/--no-wait",
        help="End when all is in the bucket, with exit code 3 if it could not be; or sooner. Else as store.push_wait.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="For a program to read, on stdout.")]
ARTIFACTS = Path("artifacts")
FEW = 8
"""Slides that an error names."""
FILE_FIX = "is there such a place, is its disk mounted, and may you read and write there? --debug shows what was done"
Kind = TypeVar("Kind", bound=Manifest[Item, object])
P = TypeVar("P", bound=SiteParams)


class Exit(IntEnum):
    """What a command ends with: docs/commands.md has the table."""

    OK = 0
    ERROR = 1
    USAGE = 2
    """Typer's own: the command line is not one."""
    PARTLY = 3
    """All is done but for what is named: left out, unfinished, corrupt."""
    INTERRUPTED = 130
    """Typer's own: Ctrl-C."""


def tell(json: bool, value: Json, lines: Iterable[object]) -> None:
    """What a command found, on stdout: as one JSON value for a program, else in lines for people."""
    text = as_json(value) if json else "\n".join(map(str, lines))
    if text:
        typer.echo(text)


@contextmanager
def errors(debug: bool) -> Iterator[None]:
    """Print a `HistillError` without its traceback and exit with `Exit.ERROR`, or `PARTLY` where all else is done.

    What the system says of a file (no permission, no such folder, a disk that fails) is told in the same way.
    Where a library ends the process by a signal, what it was doing is printed: no run ends without a word.
    """
    if sys.__stderr__ is not None and not faulthandler.is_enabled():
        faulthandler.enable(sys.__stderr__)
    try:
        yield
    except HistillError as error:
        if debug:
            raise
        console.print(f"error: {error}", style="bold red", soft_wrap=True)
        raise typer.Exit(Exit.PARTLY if isinstance(error, Unfinished) else Exit.ERROR) from None
    except OSError as error:
        if debug or error.errno is None or error.filename is None:
            raise
        said = HistillError(str(error.strerror), where=printable(Path(os.fsdecode(error.filename))), fix=FILE_FIX)
        console.print(f"error: {said}", style="bold red", soft_wrap=True)
        raise typer.Exit(Exit.ERROR) from None


def execute(
    stage: str,
    wanted: type[P],
    run: Callable[[P, Store], Manifest[Item, object]],
    debug: bool,
    wait: bool | None = None,
) -> None:
    """Load its sections of params.yaml, run the stage, write `artifacts/<stage>.json`, then `metrics/<stage>.json`.

    With `wait` it ends by `Exit.PARTLY` where the bucket has not all at the end. Under `accelerate launch` or
    `torchrun` every process runs the stage and rank 0 alone writes.
    """
    with errors(debug):
        if not is_utf8(str(Path.cwd())):
            fix = "rename the folder that is not"
            raise ParamsError("the project's path is not UTF-8", where=printable(Path.cwd()), fix=fix)
        params = load_params(wanted)
        start = time.monotonic()
        store = store_of(params)
        bucket = store.remote if isinstance(store.remote, Bucket) and (params.store.push or wait) else None
        if wait and bucket is None:
            fix = "name one in params.yaml (`remote: s3://bucket/prefix`), or leave out --wait"
            raise ParamsError("there is no bucket behind this store", where="store.remote", fix=fix)
        with announced(store.root, stage, dvc_root().absolute()):
            with _sent_meanwhile(store, bucket) as going:
                manifest = run(params, store)
            if os.environ.get("RANK", "0") != "0":
                return
            manifest.save(ARTIFACTS / f"{stage}.json")
        seconds = round(time.monotonic() - start, 2)
        measured = {**manifest.timings, "seconds": seconds, "refused": len(manifest.refused)}
        write_json(f"metrics/{stage}.json", {**manifest.numbers(), **measured})
        told = _told_already(stage)
        show_refusals(manifest, told)
        made = f"{len(manifest.items)} items" if manifest.items else "done"
        console.print(f"{stage}: {made} in {seconds:.1f} s", style="bold")
        waits = params.store.push_wait if wait is None else wait
        sent = bucket is None or push_made(store, bucket, manifest, going, wait=waits)
        require_finished(manifest, told)
        if wait and not sent:
            raise typer.Exit(Exit.PARTLY)


def _sent_meanwhile(store: Store, bucket: Bucket | None) -> AbstractContextManager[Going]:
    """Where there is a bucket, what the stage commits is sent while it goes on, by one of its processes."""
    if bucket is None or os.environ.get("RANK", "0") != "0":
        return nullcontext(Going())
    return sending(store, bucket, lambda: held_here(store.root))


def push_made(store: Store, bucket: Bucket, manifest: Outline, going: Going, *, wait: bool = True) -> bool:
    """Send what a manifest names to the bucket; with `wait` false only say what is not there. `going` was sent before.

    Whether all is there. What cannot be sent is said, and fails nothing: it is made and here.
    """
    refs, why = [Ref.parse(name) for name in sorted(manifest.refs())], ""
    try:
        if wait:
            moved = push(store, bucket, refs)
        else:
            moved = Moved(0, 0, 0, (), {}, sum(not bucket.has(ref) for ref in refs if store.is_here(ref)))
    except HistillError as error:
        moved, why = Moved(0, 0, 0, (), {}, 0), f"the bucket was not asked: {error}"
    items, nbytes = going.items + moved.items, going.nbytes + moved.nbytes
    if items:
        console.print(f"{manifest.stage}: sent {items} items, {human(nbytes)}, to {bucket.url}", soft_wrap=True)
    if moved.left:
        first = next((f": {error.what}" for error in moved.failed.values()), "")
        why = f"{moved.left} items are not in the bucket yet{first}"
    if why:
        console.print(f"{manifest.stage}: {why}\n  -> `histill store push` goes on", style="yellow", soft_wrap=True)
    return not why


def load(kind: type[Kind]) -> Kind:
    """The manifest of an upstream stage: load(TilesManifest). Raises `ManifestError`."""
    return kind.load(ARTIFACTS / f"{kind.made_by()}.json")


def find_store() -> Store:
    """The store of the project at hand, or where there is none, of the environment."""
    params = Path("params.yaml")
    return store_of(load_params(SiteParams, params) if params.exists() else SiteParams())


def store_of(params: SiteParams) -> Store:
    """The store that the section `store` names, with its bases and the bucket behind it."""
    found = Store.find(params.store.root, params.store.base, trust=params.store.trust)
    return Store(found.root, found.bases, trust=found.trust, remote=bucket_of(params))


def bucket_of(params: SiteParams) -> Bucket | None:
    """The bucket that `$HISTILL_STORE_REMOTE`, else the section `store`, names; None where neither does.

    Raises `ParamsError` for a URL that holds a secret or that no library here can open.
    """
    url = os.environ.get("HISTILL_STORE_REMOTE") or params.store.remote
    if url in (None, "", "none"):
        return None
    streams = params.store.remote_read == "stream"
    return Bucket.at(url, int(params.store.stream_cache_gb * 1e9) if streams else None)


def show_refusals(manifest: Outline, told: Collection[Refusal] = ()) -> None:
    """The refused slides as a table: id, reason, what to do; those that an earlier stage has told are counted."""
    new = [refusal for refusal in manifest.refused if refusal not in told]
    if new:
        table = Table("refused", "reason", "what to do", title=f"{manifest.stage}: {len(new)} refused")
        for refusal in new:
            table.add_row(refusal.id, refusal.reason, refusal.fix)
        console.print(table)
    if len(new) < len(manifest.refused):
        console.print(f"{manifest.stage}: without the {len(manifest.refused) - len(new)} refused by an earlier stage")


def require_finished(manifest: Outline, told: Collection[Refusal]) -> None:
    """Raises `Unfinished` where slides may be usable the next time: a result for ever they must not become."""
    left = [refusal.id for refusal in manifest.refused if refusal.passing and refusal not in told]
    if left:
        what = f"{len(left)} could not be looked at this time: {some(left, FEW)}; all else is done and kept"
        fix = (
            f"mend what the table says, then: dvc repro {manifest.stage}; "
            "to go on without them, take their rows out of the slide table"
        )
        raise Unfinished(what, where=manifest.stage, fix=fix)


def _told_already(stage: str) -> set[Refusal]:
    """What the manifests of earlier stages list as refused, and their commands have shown."""
    told: set[Refusal] = set()
    for earlier in STAGES[: STAGES.index(stage)]:
        with suppress(OSError, ValidationError):
            told.update(Outline.model_validate_json((ARTIFACTS / f"{earlier}.json").read_bytes()).refused)
    return told
