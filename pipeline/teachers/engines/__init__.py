"""Engines: what runs a network's trunk, the expensive part of a teacher's or student's forward pass.

An engine takes uint8 images as they were decoded, so that a quarter of float32's bytes cross to the device, normalises
there, and answers what `Network.trunk` answers, in its own dtype. A teacher's final LayerNorm, the split into CLS and
patch tokens and all that follows is `Teacher.finish`, outside every engine.

| engine | what it is | where |
| --- | --- | --- |
| eager | plain PyTorch; in fp32 the reference | everywhere |
| compile | torch.compile, CUDA graphs on a GPU | a GPU; a CPU where it is asked for by name (17 to 41 s to compile) |
| tensorrt | one TensorRT engine, kept in the store | an NVIDIA GPU with the extra `tensorrt` |
| onnxruntime | an ONNX file, in its own float32 | a CPU; a GPU with onnxruntime-gpu |
| openvino | an ONNX file, compiled for one batch | a CPU |

On a GPU `auto` is the one that answers the tiles that are left soonest, its build included (worth.py).

The cache of tokens is made by the first three (`tokens.engine`); the benchmark times all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline.base.errors import TeacherError
from pipeline.base.progress import console
from pipeline.base.store import Store
from pipeline.params.tokens import TokensParams
from pipeline.teachers.engines.base import Engine, pick_device, resolve_precision
from pipeline.teachers.engines.eager import Eager
from pipeline.teachers.engines.worth import seconds_a_tile, soonest
from pipeline.teachers.network import Network, Preprocess

if TYPE_CHECKING:
    from pipeline.teachers.teacher import Teacher

__all__ = [
    "Eager",
    "Engine",
    "Setting",
    "build_engine",
    "choose",
    "make_engine",
    "make_file_engine",
    "pick_device",
    "resolve_precision",
]


@dataclass(frozen=True)
class Setting:
    """Which engine, how exact, where, and for how many images at most; `auto` is settled."""

    engine: str
    precision: str
    device: torch.device
    batch_size: int


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
    teacher: Teacher,
    params: TokensParams,
    device: torch.device,
    store: Store,
    golden_NHWC: Tensor | None = None,
    tiles: int | None = None,
) -> Engine:
    """The engine that the params name, with the teacher on `device`; says which one `auto` took, and why.

    `golden_NHWC` (uint8) is what fp8 is calibrated on; nothing else looks at it. A built engine is kept in the store.
    Where it is known how many `tiles` there are to answer, `auto` takes what answers them soonest (worth.py).
    """
    precision = resolve_precision(params.precision, device)
    chosen, why = choose(params.engine, precision, device)
    if params.engine == "auto":
        if chosen != "eager" and precision != "fp8" and tiles is not None:
            chosen, why = _soonest(teacher, Setting(chosen, precision, device, params.batch_size), store, tiles)
        console.print(f"tokens: engine auto -> {chosen}, {precision} on {device.type} ({why})", soft_wrap=True)
    return make_engine(teacher, Setting(chosen, precision, device, params.batch_size), store, golden_NHWC)


def _soonest(teacher: Teacher, best: Setting, store: Store, tiles: int) -> tuple[str, str]:
    """(engine, why) of so many tiles on a GPU."""
    built = False
    if best.engine == "tensorrt":
        from pipeline.teachers.engines.tensorrt import is_built

        built = is_built(teacher, best.device, best.precision, best.batch_size, store)
    eager_s = seconds_a_tile(Eager(teacher, best.device, best.precision), best.batch_size, teacher.input_px)
    found = soonest(best.engine, tiles, eager_s, built)
    return found.engine, found.why(tiles)


def make_engine(network: Network, setting: Setting, store: Store, golden_NHWC: Tensor | None = None) -> Engine:
    """The engine of that setting, the network moved to its device.

    Its library is imported here. Raises `EngineError` where it lacks, or the engine does not run here.
    """
    engine, precision, device = setting.engine, setting.precision, setting.device
    if engine == "tensorrt":
        from pipeline.teachers.engines.tensorrt import TensorRT

        return TensorRT(network, device, precision, setting.batch_size, store, golden_NHWC)
    if engine == "compile":
        from pipeline.teachers.engines.compiled import Compiled

        return Compiled(network, device, precision, setting.batch_size)
    return Eager(network, device, precision)


def make_file_engine(preprocess: Preprocess, setting: Setting, file: Path) -> Engine:
    """An engine of an ONNX file, whose answer is its own; no module is needed. Raises `EngineError`."""
    if setting.engine == "openvino":
        from pipeline.teachers.engines.openvino import OpenVino

        return OpenVino(preprocess, setting.device, setting.precision, setting.batch_size, file)
    from pipeline.teachers.engines.onnxruntime import OnnxRuntime

    return OnnxRuntime(preprocess, setting.device, setting.precision, file)
