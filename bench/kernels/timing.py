"""Times a kernel against its reference on a GPU, and says so plainly where there is none."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from bench.printing import NOT_MEASURED, finish, show

_REPEATS, _WARM_UP = 200, 25


def prepare() -> str:
    """`cuda`, or `cpu` with Triton set to its interpreter; call it before a kernel is imported."""
    if torch.cuda.is_available():
        return "cuda"
    os.environ["TRITON_INTERPRET"] = "1"
    return "cpu"


def where(device: str) -> str:
    """The GPU's name, or what stands in for it."""
    return torch.cuda.get_device_name() if device == "cuda" else "Triton's interpreter on the CPU"


def row(
    case: str, kernel: Callable[..., object], reference: Callable[..., object], arguments: Sequence[Any], device: str
) -> dict[str, Any]:
    """A row of the report: the kernel, its reference as it is, and its reference compiled for this shape alone."""
    if device != "cuda":
        return {"case": case, "kernel": None, "eager": None, "torch.compile": None}
    # Cases share one code object: without this the second shape would be compiled for any shape, and be slower.
    torch.compiler.reset()
    compiled = torch.compile(reference, dynamic=False)
    contenders = {"kernel": kernel, "eager": reference, "torch.compile": compiled}
    return {"case": case, **{name: quantiles_us(call, arguments) for name, call in contenders.items()}}


def quantiles_us(call: Callable[..., object], arguments: Sequence[Any]) -> list[float]:
    """[p20, p50, p80] microseconds of `call(*arguments)` on the GPU, each timed alone.

    The L2 cache is overwritten between calls, since the tokens come from a forward pass that left other data there.
    """
    flush = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    for _ in range(_WARM_UP):
        call(*arguments)
    events = [[_event(), _event()] for _ in range(_REPEATS)]
    for begin, end in events:
        flush.zero_()
        begin.record()
        call(*arguments)
        end.record()
    torch.cuda.synchronize()
    times = [begin.elapsed_time(end) * 1e3 for begin, end in events]
    tenths = statistics.quantiles(times, n=10)
    return [tenths[1], tenths[4], tenths[7]]


def report(kernel: str, device: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the table and, last, one JSON object. A row is `case` and [p20, p50, p80] of each contender."""
    contenders = [name for name in rows[0] if name != "case"]
    told = [
        (row["case"], *(" / ".join(f"{us:.0f}" for us in row[name]) if row[name] else None for name in contenders))
        for row in rows
    ]
    title = f"{kernel}: agrees with its reference on {where(device)}; microseconds p20 / p50 / p80"
    show(title, ("case", *contenders), told)
    measured = device == "cuda"
    gpu = where(device) if measured else NOT_MEASURED
    finish({"kernel": kernel, "gpu": gpu, "gate": "passed", "measured": measured, "rows": list(rows)})


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
