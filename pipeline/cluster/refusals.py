"""Whatever a slide makes somebody raise, as an error about that slide: what stays so, and what may pass.

A cause that lies in the file is a result: it is kept, and only another file changes it. A cause that may be gone the
next time (`HistillError.passing`) is none: the stage does all else, then fails, so that its next run looks again. Which
of the two an `OSError` is, its number says: the operating system gives one, and a library that cannot make sense of a
file's content gives none.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pipeline.base.errors import HistillError, SlideRefused, SlideUnavailable

READABLE = "is the disk it lies on mounted, and may you read it?"
T = TypeVar("T")
FOLDER = Path("reports/errors")
"""Where tracebacks are, below the project."""


def unread(error: OSError, what: str, where: str = "") -> SlideUnavailable:
    """`what` could not be read, and the operating system says why. Raises nothing; see `from_content` for the rest."""
    return SlideUnavailable(f"{what}: {error.strerror or error}", where=where, fix=READABLE)


def from_content(error: BaseException) -> bool:
    """Whether the cause lies in what was read, and not in whether it could be read."""
    return not isinstance(error, MemoryError) and not (isinstance(error, OSError) and error.errno is not None)


def about_slide(error: Exception, where: str = "") -> HistillError:
    """What was raised while one slide was looked at, as an error of the family; our own stay as they are.

    A library's exception, or a bug of ours that only some slides meet, is that slide's refusal with the traceback.
    """
    if isinstance(error, HistillError):
        return error
    if isinstance(error, MemoryError):
        fix = "run again with fewer workers at a time (cluster.workers), or where there is more memory"
        return SlideUnavailable("it takes more memory than there was", where=where, fix=fix)
    if isinstance(error, OSError) and not from_content(error):
        name = Path(str(error.filename)).name if error.filename else "it"
        return unread(error, f"{name} cannot be read", where)
    first = (str(error).splitlines() or [""])[0]
    what = f"{type(error).__name__}: {first}" if first else type(error).__name__
    refused = SlideRefused(what, where=where, fix="is the file whole? open it in a viewer, or leave it out")
    refused.trace = "".join(traceback.format_exception(error))
    return refused


def of_slide(items: Iterator[T]) -> Iterator[T]:
    """The items; whatever the making of one raises is raised as the slide's own error."""
    try:
        yield from items
    except Exception as error:
        raise about_slide(error) from error


@contextmanager
def of_others(path: Path, what: str, refused: Callable[[str], SlideRefused]) -> Iterator[None]:
    """Around the reading of a file that somebody else's tool has written, by libraries that stumble in many ways.

    `what` the file is to its slide (`its coordinates`); `refused` makes the refusal of what the file is or does. Our
    own errors pass, and so does a lack of memory; a file that the system does not let us read may pass.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, HistillError | MemoryError):
            raise
        if isinstance(error, OSError) and not from_content(error):
            raise unread(error, f"{what} {path.name} cannot be read") from None
        raise refused(f"cannot be read: {error}") from None


class Tracebacks:
    """The tracebacks of a stage's refusals, in one file that a run without any removes."""

    def __init__(self, stage: str) -> None:
        self.path = FOLDER / f"{stage}.txt"
        self.path.unlink(missing_ok=True)

    def keep(self, slide_id: str, error: SlideRefused) -> SlideRefused:
        """Write the error's traceback, where it has one; the error with where that is."""
        return with_traceback(self.path, slide_id, error)


def with_traceback(path: Path, slide_id: str, error: SlideRefused) -> SlideRefused:
    """The error; where it has a traceback that goes to the end of the file, and the error says so."""
    if not error.trace:
        return error
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"slide {slide_id}\n{error.trace}\n")
    return type(error)(error.what, where=error.where, fix=f"{error.fix} (traceback: {path})")
