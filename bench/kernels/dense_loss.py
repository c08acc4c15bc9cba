"""Time and memory of the dense loss, forward and backward: `python -m bench.kernels.dense_loss [--tiles N]`.

The gate comes first: no time is printed for an arm whose loss or gradient is not the reference's. Arms are interleaved
within a repeat and the median is stated. `floor` is the time that the bytes which must move take at the device's own
copy speed, measured beside: 5 bytes an element (bf16 prediction and gradient, int8 token).

Without a GPU the kernel cannot be timed: eager alone is, and the table says "not measured". Memory is the peak of what
torch allocates beyond the inputs, the gradient among it, in bytes an element of a bf16 prediction. On a GPU its
allocator tells; on a CPU the profiler's every allocation is counted, at `COUNTED` tokens, with the kernel in Triton's
interpreter. That is fair to both: eager is the same operators and saved tensors on either device, and what the kernel
allocates is the wrapper's, since a program's own values are registers. It is not the GPU allocator's figure, which
rounds up, and `torch.compile` is not counted: what Inductor fuses on a CPU is not what it fuses on a GPU.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from statistics import median

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from bench.kernels import timing
from bench.printing import finish, show
from kernels.dense_loss import reference

Arm = Callable[[Tensor, Tensor, Tensor], Tensor]
T, D = 196, 1024
TOLERANCE = 2e-2
"""Of the gradient, relative to its largest entry: bf16 has 8 bits."""
COUNTED = (1, 16)
"""Tiles and tokens at which a CPU counts memory: the interpreter takes a tenth of a second a token."""


def main() -> None:
    """Print the table and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gpu = torch.cuda.is_available()
    parser.add_argument("--tiles", type=int, default=256 if gpu else 4)
    parser.add_argument("--repeats", type=int, default=30 if gpu else 5)
    options = parser.parse_args()
    device = timing.prepare()
    name = torch.cuda.get_device_name() if gpu else "CPU"
    from kernels.dense_loss import kernel

    inputs = _inputs((options.tiles, T), torch.bfloat16 if gpu else torch.float32, device)
    prediction_NTD, stored_NTD, _ = inputs
    arms: dict[str, Arm] = {"eager": reference.dense_loss}
    if gpu:
        arms |= {"compile": torch.compile(reference.dense_loss, dynamic=False), "kernel": kernel.dense_loss}
    _gate(arms, inputs)
    peaks = {} if gpu else _counted({"eager": reference.dense_loss, "kernel": kernel.dense_loss})

    times: dict[str, list[float]] = {label: [] for label in arms}
    for _ in range(options.repeats):
        for label, arm in arms.items():
            begun = _start(gpu)
            _answer(arm, *inputs)
            if gpu:
                torch.cuda.synchronize()
                peaks[label] = (torch.cuda.max_memory_allocated() - begun[1]) / prediction_NTD.numel()
            times[label].append(time.perf_counter() - begun[0])

    result: dict[str, object] = {"device": name, "tiles": options.tiles, "tokens": T, "width": D}
    where = name if gpu else f"counted on a CPU, {COUNTED[0]} x {COUNTED[1]} x {D}"
    result["memory"], rows = where, list[tuple[object, ...]]()
    for label in ("eager", "compile", "kernel"):
        result[f"{label}_ms"] = round(1000 * median(times[label]), 3) if label in times else None
        result[f"{label}_peak_bytes"] = round(peaks[label], 2) if label in peaks else None
        rows.append((label, result[f"{label}_ms"], result[f"{label}_peak_bytes"]))
    if gpu:
        result["floor_ms"] = round(1000 * 5 * prediction_NTD.numel() / _copy_speed(stored_NTD), 3)
        result["ratio"] = round(median(times["eager"]) / median(times["kernel"]), 2)
        rows.append(("floor", result["floor_ms"], ""))
    shape = f"{options.tiles} x {T} x {D}, {prediction_NTD.dtype}"
    title = f"Dense loss on {name}: {shape}, median of {options.repeats}, interleaved; memory: {where}"
    show(title, ("arm", "ms", "peak bytes an element, bf16"), rows)
    finish(result)


def _inputs(tokens: tuple[int, int], dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """(prediction_NTD, stored_NTD, scale_NT) of so many tiles and tokens."""
    generator, shape = torch.Generator().manual_seed(0), (*tokens, D)
    prediction_NTD = torch.randn(shape, generator=generator).to(device, dtype)
    stored_NTD = torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator).to(device)
    return prediction_NTD, stored_NTD, (torch.rand(tokens, generator=generator) * 0.02 + 0.01).half().to(device)


def _gate(arms: dict[str, Arm], inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    """Exits where an arm's loss or gradient is not the reference's."""
    expected = _answer(reference.dense_loss, *inputs)
    for label, arm in arms.items():
        for mine, right in zip(_answer(arm, *inputs), expected, strict=True):
            error = float((mine.float() - right.float()).abs().max() / right.float().abs().max())
            if not error <= TOLERANCE:
                raise SystemExit(f"{label} differs from the reference by {error:.1e}: nothing is stated of it")


def _counted(arms: dict[str, Arm]) -> dict[str, float]:
    """Peak bytes an element of each arm on the CPU, after its gate."""
    inputs = _inputs(COUNTED, torch.bfloat16, "cpu")
    _gate(arms, inputs)
    return {label: peak_bytes(partial(_answer, arm, *inputs)) / inputs[0].numel() for label, arm in arms.items()}


def peak_bytes(call: Callable[[], object]) -> int:
    """Most bytes that the CPU's allocator had given out at once during `call`, beyond what was there before."""
    # Its own lines about a missing GPU.
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiled:
        kept = call()
    del kept
    events = profiled.profiler.kineto_results.events()
    sizes: list[int] = [
        event.nbytes() for event in sorted(events, key=lambda e: e.start_ns()) if event.name() == "[memory]"
    ]
    return max(accumulate(sizes, initial=0))


def _answer(arm: Arm, prediction_NTD: Tensor, stored_NTD: Tensor, scale_NT: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, gradient)."""
    leaf = prediction_NTD.detach().requires_grad_()
    loss = arm(leaf, stored_NTD, scale_NT)
    loss.backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def _start(gpu: bool) -> tuple[float, int]:
    """(seconds, bytes allocated), once all that ran before is done."""
    if not gpu:
        return time.perf_counter(), 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return time.perf_counter(), torch.cuda.memory_allocated()


def _copy_speed(source: Tensor) -> float:
    """Bytes a second, read and written, of a plain copy on the GPU: the best of ten."""
    target, best = torch.empty_like(source), float("inf")
    for _ in range(10):
        begun, _ = _start(gpu=True)
        target.copy_(source)
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begun)
    return 2 * source.numel() * source.element_size() / best


if __name__ == "__main__":
    main()
