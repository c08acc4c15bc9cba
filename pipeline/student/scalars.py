"""A curve's rows for those who watch a training in TensorBoard, beside the curve that every run leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pipeline.base.errors import TrainingError

Write = Callable[[int, Mapping[str, float]], None]


@contextmanager
def scalar_log(kind: Literal["none", "tensorboard"], folder: Path | None, first: int) -> Iterator[Write]:
    """Yields `write(step, row)`, which does nothing for `none` or without a folder.

    A run that goes on at step `first` takes back what an interrupted one logged beyond it. Raises `TrainingError` where
    TensorBoard is not installed.
    """
    if kind == "none" or folder is None:
        yield lambda step, row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        fix = "pip install 'histill[tensorboard]', or set student.log to none"
        raise TrainingError("TensorBoard is not installed", where="student.log", fix=fix) from error
    writer = SummaryWriter(str(folder), purge_step=first + 1)

    def write(step: int, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            if name != "step":
                writer.add_scalar(name, value, step)

    try:
        yield write
    finally:
        writer.close()
