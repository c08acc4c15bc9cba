"""Whose licence rules a student of several teachers: the strictest one's, and none is left out that is not known.

A student is made of each teacher's answers, so that every one of their licences holds for it at once: what any forbids
is forbidden. Ranked is how much a licence of the registry forbids; one that is not in the table is ranked by nobody.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.teachers.registry import entry_of

STRICTNESS = (
    "mit",
    "apache-2.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "owkin non-commercial",
    "cc-by-nc-nd-4.0",
)
"""The more is forbidden, the later: use for money, derivatives."""
OURS = "demo"
"""A teacher that is made here, and forbids nothing."""


def licence_of(teacher: str) -> str | None:
    """Of a teacher, in lower case, as `STRICTNESS` has it; None where it is not known here."""
    entry = entry_of(teacher)
    known = entry.licence.lower() if entry else ""
    return known if known in STRICTNESS else None


def unknown_licences(teachers: Sequence[str]) -> list[str]:
    """Those whose licence has to be read."""
    return [name for name in teachers if name != OURS and licence_of(name) is None]


def strictest(teachers: Sequence[str]) -> str | None:
    """The teacher whose licence, of those that are known, forbids most; terms of its own count. None without any."""

    def forbids(teacher: str) -> tuple[int, bool]:
        entry = entry_of(teacher)
        return STRICTNESS.index(licence_of(teacher) or ""), bool(entry and entry.licence_note)

    known = [name for name in teachers if licence_of(name) is not None]
    return max(known, key=forbids) if known else None
