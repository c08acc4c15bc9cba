"""Engines: what runs the teacher's trunk, the expensive part of its forward pass.

An engine takes uint8 images as they were decoded, so that a quarter of float32's bytes cross to the device, normalises
there, and answers what `Teacher.trunk` answers, in its own dtype. The final LayerNorm, the split into CLS and patch
tokens and all that follows is `Teacher.finish`, outside every engine.

| engine | what it is | where |
| --- | --- | --- |
| eager | plain PyTorch; in fp32 the reference | everywhere |
| compile | torch.compile, CUDA graphs on a GPU | a GPU; a CPU where it is asked for by name (17 to 41 s to compile) |
| tensorrt | one TensorRT engine, kept in the store | an NVIDIA GPU with the extra `tensorrt` |
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.base.errors import TeacherError
from pipeline.base.progress import console
from pipeline.base.store import Store
from pipeline.params.tokens import TokensParams
from pipeline.teachers.engines.base import Engine, pick_device, resolve_precision
from pipeline.teachers.engines.eager import Eager
from pipeline.teachers.teacher import Teacher

__all__ = ["Eager", "Engine", "build_engine", "choose", "pick_device", "resolve_precision"]


def choose(engine: str, precision: str, device: torch.device) -> tuple[str, str]:
    """(engine, why): the one that the params name, or for `auto` the best that is there.

    Raises `TeacherError` for fp8 without TensorRT.
    """
    if engine != "auto":
        chosen, why = engine, "as tokens.engine says"
    elif device.type != "cuda":
        chosen, why = "eager", "no GPU, and compiling takes longer on a CPU than most runs"
    else:
        from pipeline.teachers.engines.tensorrt import why_missing

        missing = why_missing()
        chosen, why = "tensorrt", "a GPU, and torch_tensorrt is installed"
        if missing is not None:
            fix = "pip install -e '.[tensorrt]'"
            chosen, why = "compile", f"a GPU, but torch_tensorrt cannot be imported: {missing}; {fix}"
    if precision == "fp8" and chosen != "tensorrt":
        raise TeacherError(
            "fp8 needs TensorRT", where=f"tokens.engine: {chosen} ({why})", fix="set `tokens.engine: tensorrt`"
        )
    return chosen, why


def build_engine(
    teacher: Teacher, params: TokensParams, device: torch.device, store: Store, golden_NHWC: Tensor | None = None
) -> Engine:
    """The engine that the params name, with the teacher on `device`; says which one `auto` took, and why.

    `golden_NHWC` (uint8) is what fp8 is calibrated on; nothing else looks at it. A built engine is kept in the store.
    """
    precision = resolve_precision(params.precision, device)
    chosen, why = choose(params.engine, precision, device)
    if params.engine == "auto":
        console.print(f"tokens: engine auto -> {chosen}, {precision} on {device.type} ({why})", soft_wrap=True)
    if chosen == "tensorrt":
        from pipeline.teachers.engines.tensorrt import TensorRT

        return TensorRT(teacher, device, precision, params.batch_size, store, golden_NHWC)
    if chosen == "compile":
        from pipeline.teachers.engines.compiled import Compiled

        return Compiled(teacher, device, precision, params.batch_size)
    return Eager(teacher, device, precision)
