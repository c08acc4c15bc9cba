"""Which slides are held out, where the table does not say so: whole patients, chosen by a hash of their name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pipeline.base.errors import TableError
from pipeline.base.items import TRAIN
from pipeline.slides.table import Row

TEST = "test"


def resolve_splits(rows: Sequence[Row], test_fraction: float) -> dict[str, str]:
    """The split of every row by slide id: the table's, else that of the patient's other slides, else by hash.

    A hash depends on the group alone (the patient, or the slide where none is named), so adding a slide moves no other,
    but for this: where chance would leave `train` or the held-out slides empty, the group nearest to the threshold
    changes sides. Raises `TableError` where a patient's slides are in two splits: what was learnt on one would flatter
    the figures on the other.
    """
    stated: dict[str, str] = {}
    for row in rows:
        group = row.patient or row.slide_id
        if row.split and stated.setdefault(group, row.split) != row.split:
            fix = "give all slides of a patient the same split"
            what = f"patient {group!r} is in the splits {stated[group]!r} and {row.split!r}"
            raise TableError(what, where=f"line {row.line}", fix=fix)
    position = {group: _position(group) for row in rows if (group := row.patient or row.slide_id) not in stated}
    split = {group: TEST if at < test_fraction else TRAIN for group, at in position.items()}
    taken = set(stated.values()) | set(split.values())
    if split and len(stated) + len(split) >= 2 and test_fraction > 0:
        if taken == {TRAIN}:
            split[min(position, key=lambda group: position[group])] = TEST
        elif TRAIN not in taken:
            split[max(position, key=lambda group: position[group])] = TRAIN
    of_group = {**split, **stated}
    return {row.slide_id: of_group[row.patient or row.slide_id] for row in rows}


def _position(group: str) -> float:
    """A number in [0, 1) that depends on the group's name alone."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) / 2**64
