"""What an engine is, where it runs and in which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

from pipeline.base.errors import TeacherError
from pipeline.base.progress import console


class Engine(Protocol):
    """Runs a network's trunk on one device: uint8 (N, H, W, 3) there in, raw as `Network.trunk` there out.

    raw is in the engine's own dtype, and good until the next call alone: CUDA graphs write each answer to the same
    memory. N is at most the batch size that the engine was built for.
    """

    name: str
    precision: str
    device: torch.device

    def __call__(self, image_NHWC: Tensor) -> Tensor: ...


def convolutions_in(precision: str) -> AbstractContextManager[None]:
    """cuDNN's convolutions in real float32 for `fp32`: its default, TensorFloat-32, rounds what they read to ten bits.

    All else stays as the process has set it; left out, `flags` would set it to defaults of its own, cuDNN off first.
    """
    kept = dict.fromkeys(("benchmark", "benchmark_limit", "deterministic", "fp32_precision"))
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=precision != "fp32", **kept)


@contextmanager
def within_memory(n: int, device: torch.device) -> Iterator[None]:
    """Around all that runs `n` tiles at once: raises `TeacherError` where the device's memory does not hold them."""
    try:
        yield
    except torch.OutOfMemoryError:
        what = f"{n} tiles a batch do not fit into the memory of {device}"
        raise TeacherError(what, where="tokens", fix="lower `tokens.batch_size`") from None


def pick_device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 itself (AVX512-BF16 or AMX); otherwise it is emulated, slower than fp32."""
    found = torch.cpu.get_capabilities()
    return any(bool(found.get(name)) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))


def resolve_precision(precision: str, device: torch.device) -> str:
    """`fp32`, `bf16` or `fp8`. The answer is part of the tokens' recipe.

    `auto` is bf16 on a GPU that has it and fp32 on every CPU: bf16 is 1.4 to 2.4 times as fast on some CPUs, but then
    the same params would give other bytes, and another recipe key, on the next one.
    """
    gpu_has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "auto":
        return "bf16" if gpu_has_bf16 else "fp32"
    if precision == "bf16" and device.type == "cuda" and not gpu_has_bf16:
        raise TeacherError("this GPU has no bf16", where=str(device), fix="set `tokens.precision: fp32`")
    if precision == "bf16" and device.type == "cpu" and not cpu_has_bf16():
        console.print(
            "tokens: this CPU has no bf16 of its own and emulates it, slower than fp32: set `tokens.precision: fp32`",
            soft_wrap=True,
        )
    if precision == "fp8" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 9)):
        fix = "set `tokens.precision: bf16`; fp8 needs an Ada, Hopper or later GPU and `tokens.engine: tensorrt`"
        raise TeacherError("fp8 does not run here", where=str(device), fix=fix)
    return precision
