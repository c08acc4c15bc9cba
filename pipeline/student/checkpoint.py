"""A training's state on disk, so that a killed run goes on bit for bit where its last checkpoint stands.

What is kept is what a step number does not determine: weights, moving average, optimiser moments, the curve so far.
Learning rate, data order and random seeds are functions of the step, so they need no state. Beside the checkpoint lies
nothing: it is one file, replaced atomically, in the store's partial folder of the run.

The training waits for a copy of its tensors alone, 0.1 s for 300 MB; writing and syncing them, which takes seconds, is
a thread's, one checkpoint at a time.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict

import torch
from torch import Tensor

from pipeline.base.errors import TrainingError

CHECKPOINT_FILE = "checkpoint.pt"


class State(TypedDict):
    """What is kept after `step` steps; `average` is None where no moving average is kept."""

    step: int
    model: dict[str, Tensor]
    average: dict[str, Tensor] | None
    optimizer: dict[str, object]
    curve: list[dict[str, float]]


class Checkpoints:
    """Writes a training's states to its folder, each at least so many minutes after the one before.

    Leaving its block waits for what is being written, so that nothing writes to a folder that is let go.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        self._folder, self._seconds = folder, 60 * minutes
        self._began = time.monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown()
        if error is None and self._writing is not None:
            self._writing.result()

    def due(self) -> bool:
        """Whether it is time for another, and the one before is on the disk. Raises what writing that one raised."""
        if self._writing is not None and self._writing.done():
            self._writing.result()
            self._writing = None
        return self._writing is None and time.monotonic() - self._began >= self._seconds

    def save(self, state: State) -> None:
        """Have `state`, as it is at this moment, written as the folder's only checkpoint."""
        self._began = time.monotonic()
        self._writing = self._thread.submit(save_checkpoint, self._folder, _copied(state))


def save_checkpoint(folder: Path, state: State) -> None:
    """Write `state` as the folder's only checkpoint."""
    path = folder / CHECKPOINT_FILE
    # A dot-file of a killed writer goes when its folder is taken over.
    part = folder / f".{CHECKPOINT_FILE}.{os.getpid()}"
    try:
        with open(part, "wb") as file:
            # Straight to the file: in memory it would be there a third time.
            try:
                torch.save(state, file)
            except RuntimeError as error:
                # torch hides what the file raised, a full disk say, behind an error of its own.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def load_checkpoint(folder: Path) -> State | None:
    """The folder's checkpoint on the CPU, or None where training has not come to one. Raises `TrainingError`."""
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        fix = "delete it to train from the start"
        raise TrainingError(f"the checkpoint cannot be read: {error}", where=str(path), fix=fix) from error
    return state


def drop_checkpoint(folder: Path) -> None:
    """Remove it: the final weights are there."""
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)


def _copied(value: Any) -> Any:
    """The same with every tensor copied to the host, and every list and mapping that the training goes on with."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {name: _copied(inner) for name, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value
