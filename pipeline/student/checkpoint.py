"""A training's state on disk, so that a killed run goes on bit for bit where its last checkpoint stands.

What is kept is what a step number does not determine: weights, moving average, optimiser moments, the curve so far.
Learning rate, data order and random seeds are functions of the step, so they need no state. Beside the checkpoint lies
nothing: it is one file, replaced atomically, in the store's partial folder of the run.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from pipeline.base.errors import TrainingError
from pipeline.base.files import write_atomic

CHECKPOINT_FILE = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, lists and dicts of them) as the folder's only checkpoint."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(folder / CHECKPOINT_FILE, buffer.getvalue())


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The folder's checkpoint on the CPU, or None where training has not come to one. Raises `TrainingError`."""
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        fix = "delete it to train from the start"
        raise TrainingError(f"the checkpoint cannot be read: {error}", where=str(path), fix=fix) from error
    return state


def drop_checkpoint(folder: Path) -> None:
    """Remove it: the final weights are there."""
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
