"""The errors a person sees: what happened, where (slide, file, key), and what to do about it.

Every error Histill raises on purpose is a `HistillError`. The command line prints it without a traceback
(`--debug` shows it). Anything else that escapes is a bug.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class HistillError(Exception):
    """Base of the family. `what` happened, `where` (slide id, file, key), `fix`: what the reader can do."""

    passing: ClassVar[bool] = False
    """Whether the cause may be gone the next time (a disk that was not mounted): then it is not kept as a result."""

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what, where, fix)
        self.what = what
        self.where = where
        self.fix = fix
        self.trace = ""
        """The traceback, where the cause is not understood: for a file, not for the screen."""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  -> {self.fix}" if self.fix else text

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.fix), {"trace": self.trace}


def _rebuild(cls: type[HistillError], what: str, where: str, fix: str) -> HistillError:
    """Errors cross process boundaries (Dask workers), so keyword-only arguments must survive pickling."""
    return cls(what, where=where, fix=fix)


class ParamsError(HistillError):
    """params.yaml does not say what its models allow."""


class TableError(HistillError):
    """The slide table as a whole cannot be used (a single bad row is a `SlideRefused`)."""


class SlideRefused(HistillError):
    """One slide cannot be used for what it is. Stops that slide; the run lists it (`on_error: fail` raises)."""


class SlideUnavailable(SlideRefused):
    """One slide could not be looked at this time: missing, unreadable, busy, or changed since."""

    passing = True


class WorkerLost(SlideUnavailable):
    """The process that looked at a slide was lost, and a second one too."""


class Unfinished(HistillError):
    """A stage has done all that it could, and some slides have yet to be looked at."""


class ClusterError(HistillError):
    """The Dask cluster is not there, or is no cluster for this work."""


class ManifestError(HistillError):
    """A manifest is absent, of another stage or of another version."""


class StoreError(HistillError):
    """The store cannot do what was asked."""


class BeingWritten(StoreError):
    """Another process is writing the item, and was the first."""


class MissingItem(StoreError):
    """A manifest names bytes that the store does not hold."""


class CorruptItem(StoreError):
    """Stored bytes are not what was committed; whatever stage made them can make them again."""

    passing = True


class UnknownNames(StoreError):
    """Nobody can tell what is still named: git, DVC or a checkout does not answer."""


class StoreFull(StoreError):
    """No space left (or a quota, or a file-size limit) while writing."""


class StoreReadOnly(StoreError):
    """The store may be read but not written."""


class RemoteError(StoreError):
    """The bucket behind the store does not answer, refuses, or holds other bytes than it says."""

    passing = True


class TeacherError(HistillError):
    """The teacher cannot be built, loaded or trusted."""


class EngineError(HistillError):
    """An engine is not there, does not run here, or cannot take the network that it is given."""


class TrainingError(HistillError):
    """Training cannot start or go on."""


class StudentError(HistillError):
    """An exported student is not there, or is not what is asked of it."""


class EvaluationError(HistillError):
    """A comparison that would be meaningless or unfair."""


class StudyError(HistillError):
    """A study's plan cannot be read, or one of its experiments failed."""


class EmbedError(HistillError):
    """Images cannot be embedded as asked."""


class ExportError(HistillError):
    """What is to be handed to another tool cannot be written as asked."""


class MapError(HistillError):
    """A map of embeddings, or the tiles most alike to one, cannot be had as asked."""


class PlanError(HistillError):
    """There is no plan to hold a run against."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says; the name of its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def some(names: Sequence[str], most: int, between: str = ", ") -> str:
    """`a, b and 3 more`: the first `most` of them, and how many are left."""
    left = len(names) - most
    return between.join(names[:most]) + (f" and {left} more" if left > 0 else "")


def some_lines(found: Sequence[str], most: int, rest: str = "more") -> list[str]:
    """The first `most` of them; where there are others, a last one: `and 3 more`, with `rest` in place of `more`."""
    left = len(found) - most
    return [*found[:most], *([f"and {left} {rest}"] if left > 0 else [])]
