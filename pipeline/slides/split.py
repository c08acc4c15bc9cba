"""Which slides are held out, where the table does not say so: whole patients, chosen by a hash of their name."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Collection, Sequence

from pipeline.base.errors import TableError
from pipeline.base.items import TRAIN
from pipeline.slides.table import Row

TEST = "test"
_NEAR = re.compile(r"(train|learn|fit|develop|deriv|discover).*|trn?([ _-]?(set|data|split|\d+))?")
_LIKE = 0.75
"""How alike two words are (difflib) where one may be the other mistyped."""


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
    if split and TRAIN not in taken:
        split[max(position, key=lambda group: position[group])] = TRAIN
    elif split and taken == {TRAIN} and len(stated) + len(split) >= 2 and test_fraction > 0:
        split[min(position, key=lambda group: position[group])] = TEST
    of_group = {**split, **stated}
    return {row.slide_id: of_group[row.patient or row.slide_id] for row in rows}


def require_train(splits: Collection[str], where: str) -> None:
    """Raise `TableError` where nothing is to be learnt from: that is known before a teacher has run for hours."""
    if TRAIN not in splits:
        names = ", ".join(sorted(set(splits)))
        near = near_train(splits)
        fix = f"give some slides the split {TRAIN!r}, or leave the cells empty"
        fix = f"call {near[0]!r} {TRAIN!r}" if near else fix
        raise TableError(f"no slide is of the split {TRAIN!r}; the splits are {names}", where=where, fix=fix)


def near_train(splits: Collection[str]) -> list[str]:
    """Splits that are held out though their name is nearly `train`, or says the same; the nearest first."""
    likeness = {split: _likeness(split) for split in set(splits) - {TRAIN}}
    near = (split for split, like in likeness.items() if like >= _LIKE or _NEAR.fullmatch(split))
    return sorted(near, key=lambda split: (-likeness[split], split))


def _likeness(split: str) -> float:
    return max(difflib.SequenceMatcher(None, split, word).ratio() for word in (TRAIN, "training"))


def _position(group: str) -> float:
    """A number in [0, 1) that depends on the group's name alone."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) / 2**64
