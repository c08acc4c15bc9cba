"""File names as text: on Linux a name is bytes, and no table, manifest or console takes those that are not UTF-8."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path


def is_utf8(name: str) -> bool:
    """Whether a file name is text: Python keeps other bytes as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(path: Path) -> str:
    """The path with bytes that are not text written as escapes."""
    return path.as_posix().encode(errors="backslashreplace").decode()


def at_home(name: Path | str) -> Path:
    """The path with `~` as the home folder; of a user that there is not it stays as it is, as in a shell."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - pathlib raises


def spellings(name: str) -> list[str]:
    """The name as it is, then as other systems write the same letters: composed, as most do, or not, as macOS does."""
    return list(dict.fromkeys([name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]))


def found_at(folder: Path, name: str) -> Path:
    """What `name` stands for below a folder, `~` resolved, in the spelling that is there; as written where none is."""
    paths = [folder / at_home(spelling) for spelling in spellings(name)]
    return next((path for path in paths if path.exists()), paths[0])
