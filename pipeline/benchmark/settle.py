"""Where `auto` runs, and what a device cannot do: an engine's device and precision, settled before anything is made."""

from __future__ import annotations

import torch

from pipeline.base.errors import EngineError
from pipeline.teachers.engines import pick_device
from pipeline.teachers.engines.base import cpu_has_bf16


def settled_device(engine: str, device: str) -> torch.device:
    """The device; `auto` is the GPU where there is one that the engine can use. Raises `EngineError`."""
    if device == "cpu" or (device == "auto" and engine == "openvino"):
        return torch.device("cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise EngineError("there is no GPU", where="benchmark.devices", fix="leave out cuda")
    if device == "auto" and engine == "onnxruntime":
        from pipeline.teachers.engines.onnxruntime import runs_on_gpu

        return pick_device() if runs_on_gpu() else torch.device("cpu")
    return pick_device()


def settled_precision(engine: str, precision: str, device: torch.device) -> str:
    """`fp32` or `bf16`; `auto` is bf16 on a GPU, fp32 on a CPU and in a file's own engine.

    Raises `EngineError` for bf16 that would be emulated: slower than fp32, and nobody's choice.
    """
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and engine != "onnxruntime" else "fp32"
    if precision == "bf16" and device.type == "cpu" and not cpu_has_bf16():
        raise EngineError("this CPU has no bf16 of its own", where="benchmark.precisions", fix="leave out bf16")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise EngineError("this GPU has no bf16 of its own", where="benchmark.precisions", fix="leave out bf16")
    return precision
