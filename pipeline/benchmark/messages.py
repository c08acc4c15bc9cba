"""What the benchmark and a contender's process say to one another over their pipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.store import Store
from pipeline.benchmark.results import Costs, Machine, Role
from pipeline.params.tokens import TokensParams

OF_FILES = ("onnxruntime", "openvino")
"""Engines of an ONNX file; the others run the module."""
WARM_UP = 2
"""Passes over each new batch that do not count; one, where that one takes long."""


class Unmeasured(Exception):
    """Why a figure was not taken."""


@dataclass(frozen=True)
class Facts:
    """What a reference says of its model besides: `costs`, `width` D, fp32 answers to the gate's images, the machine.

    `mean` and `std` are its normalisation, for engines of ONNX files; `gpu_uuid` is of the GPU that PyTorch takes.
    """

    costs: Costs
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reference_ND: NDArray[np.float32]
    machine: Machine
    gpu_uuid: str | None


@dataclass(frozen=True)
class OnnxFile:
    """A network as an ONNX file, and how it wants its images."""

    path: Path
    input_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Spec:
    """What to run: `model` in `engine`, on `device` (auto, cpu, cuda), in `precision` (auto, fp32, bf16).

    Engines of PyTorch load the model that `student` (a folder) or `tokens` (the teacher) names, those of ONNX files
    `onnx`. `gpu` is the UUID of the GPU that PyTorch takes, for an engine that does not say its own; with `gate` it
    answers the gate's images when it says hello, and a `reference` gives its facts and fp32 answers too. A teacher is
    made with random weights where `weights` is false: it costs as much.
    """

    model: Role
    engine: str
    device: str
    precision: str
    student: Path
    tokens: TokensParams
    store: Store
    demo_px: int
    onnx: OnnxFile | None = None
    gpu: str | None = None
    gate: bool = True
    reference: bool = False
    weights: bool = True


@dataclass(frozen=True)
class Hello:
    """Where it runs, its answers to the gate's images, how long both took, and then one image in a pass.

    Without the gate no answers, and the time that loading took.
    """

    device: str
    precision: str
    answer_ND: NDArray[np.float32] | None
    ready_s: float
    image_s: float = 0.0
    facts: Facts | None = None


@dataclass(frozen=True)
class Load:
    """Take a batch of so many images and warm up, with one pass where it takes as long as `long_s`."""

    batch: int
    long_s: float


@dataclass(frozen=True)
class Turn:
    """Run passes for so long, at least one."""

    seconds: float


@dataclass(frozen=True)
class Taken:
    """Seconds of each pass of a turn."""

    passes: tuple[float, ...]


@dataclass(frozen=True)
class HowMuch:
    """Say what memory was taken."""


@dataclass(frozen=True)
class Memory:
    """`own_mb` what the model has taken at most, here or on the GPU, None where nobody counts; `process_mb` all."""

    own_mb: float | None
    process_mb: float


@dataclass(frozen=True)
class Export:
    """Write the model as an ONNX file there."""

    path: Path


@dataclass(frozen=True)
class Done:
    """It is done, and there is nothing to say of it."""


Request = Load | Turn | HowMuch | Export
Reply = Hello | Taken | Memory | Done
