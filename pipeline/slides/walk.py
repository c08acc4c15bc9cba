"""The files below a folder, links followed, and what of it could not be looked at.

Links are followed as timm and torchvision follow them, under the names that the links have; a link back to a folder on
the way is not entered again. Hidden files and folders are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pipeline.base.names import is_utf8, printable

LOOKED_AT = 16
"""Files of a kind that are opened where a folder may hold a hundred thousand."""
_T = TypeVar("_T")


@dataclass
class Walked:
    """What a walk found out besides files: paths as text that any console takes, each with the reason."""

    left_out: list[tuple[str, str]] = field(default_factory=list)
    unread: list[tuple[Path, OSError]] = field(default_factory=list)
    """Those of them that the system did not let us read."""

    def add(self, path: Path, reason: str) -> None:
        self.left_out.append((printable(path), reason))

    def add_unread(self, path: Path, error: OSError) -> None:
        self.add(path, str(error.strerror).lower())
        self.unread.append((path, error))


def walk(top: Path, walked: Walked | None = None) -> Iterator[tuple[Path, list[str], list[str]]]:
    """(folder, names of its folders, names of its files) of `top` and all below it, each sorted by name.

    What cannot be read, or has a name that is not UTF-8 (no table or manifest could hold it), is told to `walked`.
    """
    walked = walked if walked is not None else Walked()
    yield from _walk(top, (), walked)


def _walk(
    folder: Path, above: tuple[tuple[int, int], ...], walked: Walked
) -> Iterator[tuple[Path, list[str], list[str]]]:
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        walked.add_unread(folder, error)
        return
    here = (status.st_dev, status.st_ino)
    if here in above:
        walked.add(folder, "a link back to a folder above it")
        return
    folders, files = list[str](), list[str]()
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if not is_utf8(entry.name):
            walked.add(folder / entry.name, "its name is not UTF-8: rename it")
            continue
        try:
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.is_file() or entry.is_symlink():
                files.append(entry.name)
            else:
                # Whoever opens a pipe waits for somebody to write into it.
                walked.add(folder / entry.name, "a pipe, socket or device")
        except OSError as error:
            walked.add_unread(folder / entry.name, error)
    yield folder, folders, files
    for name in folders:
        yield from _walk(folder / name, (*above, here), walked)


def shown(path: Path) -> str:
    """As `shown_as_it_is`, bytes that are not text written as escapes."""
    return printable(Path(shown_as_it_is(path)))


def shown_as_it_is(path: Path) -> str:
    """Relative to the working directory where below it, else absolute; links keep their own names."""
    if not path.is_absolute() and ".." not in path.parts:
        return path.as_posix()
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` follows links
    for here in (Path(os.environ.get("PWD", "/nowhere")), Path.cwd()):
        if whole.is_relative_to(here):
            return whole.relative_to(here).as_posix()
    return whole.as_posix()


def a_few(files: Sequence[_T]) -> Sequence[_T]:
    """At most `LOOKED_AT` of them, evenly spread."""
    n = len(files)
    return files if n <= LOOKED_AT else [files[i * n // LOOKED_AT] for i in range(LOOKED_AT)]
