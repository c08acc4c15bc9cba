"""What a reader must know before trusting a figure of a comparison: warnings, each a sentence of its own."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

from pipeline.base.figures import Figure
from pipeline.base.intervals import Resampler, why_too_few
from pipeline.base.items import TRAIN
from pipeline.evaluate import selection
from pipeline.evaluate.selection import Sample
from pipeline.measures.probes.mil import FEW_SLIDES
from pipeline.tokens.item.reader import TokenReader

HANDFUL = 10
"""Held-out tiles of a class below which one tile moves its recall by more than a tenth."""
FLOORS = {"majority": "the majority class", "untrained": "an untrained network"}


def of_few_units(held: Mapping[str, Sequence[Sample]]) -> list[str]:
    """For each split of so few or so unequal patients, slides or groups that its figures have no intervals."""
    found = []
    for split, chosen in held.items():
        units = selection.units_of_tiles(chosen)
        n, freedom = Resampler(units, 1, 0).counted
        why = why_too_few(n, freedom, units.unit)
        if why is not None:
            found.append(f"figures of {split}: {why}; how far they would move with others is not known")
    return found


def of_classes(what: str, train: Sequence[str], held: Sequence[str]) -> list[str]:
    """Of `what` (as "probes of test"): classes that one side lacks, and names that are probably one class."""
    found, learnt, asked = [], set(train), Counter(held)
    strange = {name: n for name, n in sorted(asked.items()) if name not in learnt}
    if strange:
        n = sum(strange.values())
        found.append(f"{what}: {n} of {len(held)} were left out, since train has no such class ({', '.join(strange)})")
    few = {name: n for name, n in sorted(asked.items()) if name in learnt and n < HANDFUL}
    if few:
        counts = ", ".join(f"{name} {n}" for name, n in few.items())
        weight = "weighs as much as any other in balanced accuracy"
        found.append(f"{what}: a class of which fewer than {HANDFUL} are held out ({counts}) {weight}")
    missing = sorted(learnt.difference(asked))
    if missing:
        rest = f"balanced accuracy is of the other {len(learnt & set(asked))}"
        found.append(f"{what}: none is of the class {', '.join(missing)}; {rest}")
    names = sorted(learnt | set(asked))
    for first, second in alike(names, names, _loose_class):
        # In ASCII, since the same letter in two encodings (NFC and NFD) looks the same.
        pair = f"{first!a} and {second!a} differ in case, spacing or encoding alone"
        found.append(f"{what}: the classes {pair}, and count as two")
    return found


def of_groups(what: str, train: Iterable[str | None], held: Iterable[str | None]) -> list[str]:
    """Of held-out patients or slides (`what`) that are probably one of train's under another spelling."""
    of_train, of_held = ({name for name in part if name is not None} for part in (train, held))
    pairs = alike(of_held, of_train, _loose_group)
    if not pairs:
        return []
    first = f"{pairs[0][0]!r} is perhaps train's {pairs[0][1]!r}"
    return [f"{what}: {first}, written otherwise ({len(pairs)} such names); if so its images are in both splits"]


def alike(first: Iterable[str], second: Iterable[str], loose: Callable[[str], Hashable]) -> list[tuple[str, str]]:
    """Pairs of different names, one of each side, that are equal once they are read loosely; each pair once."""
    by_loose: dict[Hashable, list[str]] = {}
    for name in sorted(set(second)):
        by_loose.setdefault(loose(name), []).append(name)
    both = {(a, b) for a in first for b in by_loose.get(loose(a), ()) if a != b}
    return sorted(pair for pair in both if pair[::-1] not in both or pair[0] < pair[1])


def _loose_class(name: str) -> str:
    """Signs count: HER2+ is not HER2-."""
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFKC", name).casefold())


def _loose_group(name: str) -> tuple[str, ...]:
    """Letters and numbers alone: P-07 is p7, and 1-23 is not 12-3."""
    parts = re.findall(r"[^\W\d_]+|\d+", unicodedata.normalize("NFKC", name).casefold())
    return tuple(part.lstrip("0") for part in parts)


def of_weak_teacher(what: str, teacher: Figure) -> list[str]:
    """Of retention: where the teacher itself does no better than one of its figure's floors, keeping it is nothing."""
    span = teacher.span
    low = span.low if span else teacher.value
    beaten = [f"{FLOORS[name]} ({teacher.floors[name]:.2f})" for name in FLOORS if low <= teacher.floors[name]]
    if not beaten:
        return []
    score = f"the teacher's {teacher.value:.2f}" + (f" ({span.low:.2f} to {span.high:.2f})" if span else "")
    return [f"{what}: {score} is not surely above {' and '.join(beaten)}; what a student keeps of it says little"]


def of_tiles(split: str, train: Sequence[Sample], chosen: Sequence[Sample], fitted: int, knn_k: int) -> list[str]:
    """Of the probes: how few tiles they learnt from, and which slides they know nothing of."""
    found = []
    if fitted <= knn_k:
        what = f"with {knn_k} neighbours and {fitted} train tiles every tile votes"
        found.append(f"kNN of {split}: {what}; it answers with the majority class")
    for part, samples in ((TRAIN, train), (split, chosen)):
        without = sum(not selection.labelled([sample]) for sample in samples)
        if without:
            found.append(f"probes of {split}: {without} of {len(samples)} {part} slides have no tile labels")
    return found


def of_slides(split: str, train: Sequence[Sample], chosen: Sequence[Sample], n: int) -> list[str]:
    """Of slide labels: how few slides `n` they were tested on, and which have no label."""
    found = []
    if n < FEW_SLIDES:
        found.append(f"slide labels of {split}: only {n} held-out slides; the figure and its interval say little")
    for part, samples in ((TRAIN, train), (split, chosen)):
        without = sum(sample.slide_label is None for sample in samples)
        if without:
            what = f"{without} of {len(samples)} {part} slides have no label and were left out"
            found.append(f"slide labels of {split}: {what}")
    return found


def of_thin_bags(parts: Mapping[str, Sequence[Sample]]) -> list[str]:
    """Of slide labels: where slides were seen through some of their tiles alone."""
    found = []
    for part, samples in parts.items():
        every, n = sum(len(TokenReader(sample.tokens)) for sample in samples), selection.count(samples)
        if n < every:
            what = f"the {part} slides were seen through {n} of their {every} tiles (evaluate.max_probe_tiles)"
            found.append(f"slide labels: {what}")
    return found
