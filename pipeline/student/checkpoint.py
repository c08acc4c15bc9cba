"""A training's state on disk, so that a killed run goes on bit for bit where its last checkpoint stands.

What is kept is what a step number does not determine: weights, moving average, optimiser moments, the curve so far.
Learning rate, data order and random seeds are functions of the step, so they need no state. Beside the checkpoint lies
nothing: it is one file, replaced atomically, in the store's partial folder of the run.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from pipeline.base.errors import TrainingError
from pipeline.base.files import write_atomic

CHECKPOINT_FILE = "checkpoint.pt"


class State(TypedDict):
    """What is kept after `step` steps; `average` is None where no moving average is kept."""

    step: int
    model: dict[str, Tensor]
    average: dict[str, Tensor] | None
    optimizer: dict[str, object]
    curve: list[dict[str, float]]


def save_checkpoint(folder: Path, state: State) -> None:
    """Write `state` as the folder's only checkpoint."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(folder / CHECKPOINT_FILE, buffer.getvalue())


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
