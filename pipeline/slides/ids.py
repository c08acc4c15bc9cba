"""What slides are called where nobody says: by their file's name, each by another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

DEMO = re.compile(r"demo:([1-9][0-9]{0,3})")
LONGEST = 128
_DOUBLE = re.compile(r"\.ome\.(tiff?|zarr)$", re.IGNORECASE)


def stem_of(path: str) -> str:
    """The file's name without its suffix, of which `.ome.tif`, `.ome.tiff` and `.ome.zarr` are one, as in TRIDENT."""
    name = PurePosixPath(path).name
    return _DOUBLE.sub("", name) if _DOUBLE.search(name) else PurePosixPath(name).stem


def default_id(path: str) -> str:
    """The stem (or the folder's name) with every character that the store does not take replaced by `_`."""
    demo = DEMO.fullmatch(path)
    stem = f"demo-{demo[1]}" if demo else stem_of(path)
    return re.sub(r"[^A-Za-z0-9._-]", "_", stem).lstrip(".")[:LONGEST]


def unique_ids(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """An id for each path, and a line on each that had to be numbered.

    The stem; where several share one, with the names of the folders above it; and where those are the same too once
    what the store does not take is replaced (names in other scripts, `a b` beside `a_b`), numbered in order.
    """
    ids = [default_id(path) for path in paths]
    for depth in range(2, 6):
        shared = {slide_id for slide_id, count in Counter(ids).items() if count > 1}
        if not shared:
            break
        for i, path in enumerate(paths):
            if ids[i] in shared:
                parts = [*Path(path).parts[:-1], default_id(path)][-depth:]
                ids[i] = re.sub(r"[^A-Za-z0-9._-]", "_", "_".join(parts)).lstrip("._")[-LONGEST:] or ids[i]
    return numbered(ids, paths)


def numbered(ids: Sequence[str], paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """The ids with `-2`, `-3` … after those that an earlier path has, and a line on each."""
    own, said, used = list[str](), list[str](), set[str]()
    # A number that another path's own name has is not taken from it.
    names = Names(ids)
    for slide_id, path in zip(ids, paths, strict=True):
        name = slide_id if slide_id not in used else names.free(slide_id)
        own.append(name)
        used.add(name)
        if name != slide_id:
            said.append(f"{path!r} is called {name}: another slide is called {slide_id}")
    return own, said


class Names:
    """Names that are taken, and free ones like them."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._tried: dict[str, int] = {}

    def free(self, slide_id: str) -> str:
        """The id, or with the lowest number from 2 on that nobody has; it is taken from then on.

        No number is tried twice: ten thousand paths may share one name.
        """
        name, n = slide_id, self._tried.get(slide_id, 1)
        while name in self._taken:
            n += 1
            name = f"{slide_id[: LONGEST - len(str(n)) - 1]}-{n}"
        self._taken.add(name)
        self._tried[slide_id] = n
        return name
