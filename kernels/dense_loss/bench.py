"""Time and memory of the dense loss, forward and backward: `python -m kernels.dense_loss.bench [--tiles N]`.

The gate comes first: no time is printed for an arm whose loss or gradient is not the reference's. Arms are interleaved
within a repeat and the median is stated. `floor` is the time that the bytes which must move take at the device's own
copy speed, measured beside: 5 bytes an element (bf16 prediction and gradient, int8 token).

Without a GPU the kernel cannot be timed: eager alone runs, and the table says "not measured".
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from kernels.dense_loss import reference

Arm = Callable[[Tensor, Tensor, Tensor], Tensor]
T, D = 196, 1024
TOLERANCE = 2e-2
"""Of the gradient, relative to its largest entry: bf16 has 8 bits."""


def main() -> None:
    """Print the table and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gpu = torch.cuda.is_available()
    parser.add_argument("--tiles", type=int, default=256 if gpu else 4)
    parser.add_argument("--repeats", type=int, default=30 if gpu else 5)
    options = parser.parse_args()
    device = torch.device("cuda" if gpu else "cpu")
    name = torch.cuda.get_device_name() if gpu else "CPU"
    generator = torch.Generator().manual_seed(0)
    shape = (options.tiles, T, D)
    prediction_NTD = torch.randn(shape, generator=generator).to(device, torch.bfloat16 if gpu else torch.float32)
    stored_NTD = torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator).to(device)
    scale_NT = (torch.rand(shape[:2], generator=generator) * 0.02 + 0.01).half().to(device)

    arms: dict[str, Arm] = {"eager": reference.dense_loss}
    if gpu:
        from kernels.dense_loss import kernel

        arms |= {"compile": torch.compile(reference.dense_loss, dynamic=False), "kernel": kernel.dense_loss}
    expected = _answer(reference.dense_loss, prediction_NTD, stored_NTD, scale_NT)
    for label, arm in arms.items():
        got = _answer(arm, prediction_NTD, stored_NTD, scale_NT)
        for mine, right in zip(got, expected, strict=True):
            error = float((mine.float() - right.float()).abs().max() / right.float().abs().max())
            if not error <= TOLERANCE:
                raise SystemExit(f"{label} differs from the reference by {error:.1e}: no time is stated")

    times: dict[str, list[float]] = {label: [] for label in arms}
    peaks: dict[str, float] = {}
    for _ in range(options.repeats):
        for label, arm in arms.items():
            begun = _start(gpu)
            _answer(arm, prediction_NTD, stored_NTD, scale_NT)
            if gpu:
                torch.cuda.synchronize()
                peaks[label] = (torch.cuda.max_memory_allocated() - begun[1]) / 2**20
            times[label].append(time.perf_counter() - begun[0])

    result: dict[str, object] = {"device": name, "tiles": options.tiles, "tokens": T, "width": D}
    print(f"{name}: {options.tiles} x {T} x {D}, {prediction_NTD.dtype}, median of {options.repeats}, interleaved")
    print(f"{'arm':10} {'ms':>10} {'peak MB beyond the inputs':>26}")
    for label in ("eager", "compile", "kernel"):
        if label not in arms:
            print(f"{label:10} {'not measured (no GPU)':>37}")
            continue
        result[f"{label}_ms"] = round(1000 * median(times[label]), 3)
        result[f"{label}_peak_mb"] = round(peaks[label], 1) if gpu else None
        print(f"{label:10} {result[f'{label}_ms']:>10} {result[f'{label}_peak_mb'] or 'not measured':>26}")
    if gpu:
        result["floor_ms"] = round(1000 * 5 * prediction_NTD.numel() / _copy_speed(stored_NTD), 3)
        result["ratio"] = round(median(times["eager"]) / median(times["kernel"]), 2)
        print(f"floor      {result['floor_ms']:>10}   eager / kernel = {result['ratio']}")
    print(json.dumps(result))


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
