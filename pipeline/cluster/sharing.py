"""Two runs on one store share the work: what another is making is passed over, and looked at again at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from pipeline.base.progress import console
from pipeline.base.store import Ref, Store

_POLL_S = 1.0
T = TypeVar("T")


def left_over(passed: Sequence[T], ref_of: Callable[[T], Ref], store: Store, label: str) -> list[T]:
    """Of what was passed over, what is still to be done, once there is something to do.

    A process that ends without its item, however it ends, lets go of it. Empty where the store has them all.
    """
    left = [one for one in passed if not store.has(ref_of(one))]
    if left:
        console.print(f"{label}: {len(left)} are being made by another run: waiting for them", soft_wrap=True)
    while left and all(store.being_written(ref_of(one)) for one in left):
        time.sleep(_POLL_S)
        left = [one for one in left if not store.has(ref_of(one))]
    # One that was committed since is not being written either.
    return [one for one in left if not store.has(ref_of(one))]
