"""Built engines that this user made. Loading one runs code: its loader unpickles.

A store may be shared, and a file in it be anyone's to replace. So each user keeps a list of the engines that they have
built, by checksum, in a folder that is theirs alone: `$XDG_STATE_HOME/histill`, else `~/.local/state/histill`. Another
one is loaded only where `store.trust` says so.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from pipeline.base.partials import file_sha256
from pipeline.base.store import Ref, Store

KIND = "engines"


def find(store: Store, recipe: str, file: str) -> Path | None:
    """The file of a built engine of that recipe which may be loaded; None where there is none, or another user's."""
    own = _own()
    for folder in store.recipes(KIND):
        for item in sorted(folder.glob("[!.]*")) if folder.name == recipe else ():
            path = store.path(Ref(KIND, recipe, item.name)) / file
            if path.is_file() and (store.trust or file_sha256(path) in own):
                return path
    return None


def place(recipe: str) -> Ref:
    """Where to keep one that is built, beside what others have built by the same recipe."""
    return Ref(KIND, recipe, f"trunk-{uuid.uuid4().hex[:8]}")


def remember(path: Path) -> None:
    """This user has built the engine in a file."""
    ledger = _ledger()
    ledger.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(handle, "a") as out:
        out.write(f"{file_sha256(path)}\n")


def _own() -> set[str]:
    try:
        return set(_ledger().read_text().split())
    except FileNotFoundError:
        return set()


def _ledger() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "histill" / "engines"
