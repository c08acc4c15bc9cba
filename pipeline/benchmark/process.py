"""The process of one contender: it loads its model into its engine, then runs what the benchmark asks for.

Images are drawn from a seed: for timing white noise, since no engine's speed depends on what it sees; for the gate
coloured gradients under noise, since a model answers all noise alike. Shapes: N images (N, 3, H, W) float32.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import HistillError
from pipeline.benchmark import machine, memory
from pipeline.benchmark.runtimes import OF_TORCH, Refused, Runtime, TorchRuntime, onnx_runtime
from pipeline.params.tokens import TokensParams

if TYPE_CHECKING:
    from torch import nn

GATE_IMAGES = 8
WARM_UP = 2
"""Passes over each new batch that do not count; one, where that one takes long."""
OPSET = 18


class Unmeasured(Exception):
    """Why a figure was not taken."""


@dataclass(frozen=True)
class Spec:
    """What to run: `model` teacher or student, in `engine`, on `device` (auto, cpu, cuda), in `precision` (or auto).

    Engines of PyTorch load the model, those of ONNX files only `onnx`, whose images have the side `input_px`.
    """

    model: str
    engine: str
    device: str
    precision: str
    student: Path
    tokens: TokensParams
    store: Path
    demo_px: int
    onnx: Path | None = None
    input_px: int = 0
    threads: int = 0
    """Of an ONNX engine on a CPU: as many as PyTorch takes, which counts real cores where a core has two threads."""
    gpu: str | None = None
    """The UUID of the GPU that PyTorch takes, for an engine that does not say its own."""
    reference: bool = False
    """Whether to give the model's facts and its fp32 answers too."""


def serve(connection: Connection, spec: Spec) -> None:
    """Say hello, then answer until the other end is closed; in a session of its own, which ends with it as a whole.

    Where a large batch fills the machine's memory, Linux ends this process and nobody else's. Where the benchmark is
    killed, no pass and no compiler goes on for minutes, on the cores that the next run measures.
    """
    os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        contest = _Contest(spec)
        connection.send(contest.hello())
        while True:
            word, *rest = connection.recv()
            connection.send(getattr(contest, word)(*rest))
    except EOFError:
        return
    except Exception as error:
        # Who has gone is told nothing.
        with contextlib.suppress(OSError):
            connection.send(_told(error))


def _told(error: Exception) -> Exception:
    """What the benchmark hears of an error: its own kind where people caused it, else why a figure is not measured."""
    if isinstance(error, HistillError):
        return error
    if isinstance(error, Refused):
        return Unmeasured(str(error))
    if isinstance(error, ImportError):
        return Unmeasured(f"not installed: {_first_line(error)}")
    return Unmeasured(f"{type(error).__name__}: {_first_line(error)}")


def _end_with_parent() -> None:
    """Wait for the parent's end, then end this session."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)


class _Contest:
    """What this process can be asked."""

    def __init__(self, spec: Spec) -> None:
        self.spec, self._model = spec, None
        load = _torch_loader(spec) if spec.engine in OF_TORCH else None
        # To ask what GPU there is starts its driver in this process, which is no model's memory either.
        self._machine = machine.describe() if spec.reference else {}
        # Libraries are in memory from here on; what comes on top is the model's.
        self._resident_mb, start = memory.resident_mb(), time.perf_counter()
        self._runtime: Runtime
        if load is None:
            assert spec.onnx is not None
            _import_engine(spec.engine)
            self._resident_mb = memory.resident_mb()
            self.input_px = spec.input_px
            self._runtime = onnx_runtime(spec.onnx, spec.engine, spec.device, spec.precision, spec.threads)
        else:
            self._model, self.facts = load()
            self.input_px = int(self.facts["input_px"])
            self._runtime = self._in_torch(spec.engine, spec.precision)
        self._ready_s = time.perf_counter() - start

    def hello(self) -> dict[str, Any]:
        """Where it runs, its answers to the gate's images and how long both took, and then one image in a pass.

        Of a reference the facts too.
        """
        images, spec, said = gate_images(self.input_px), self.spec, {}
        start = time.perf_counter()
        self._runtime.load(images)
        answer_ND = self._runtime.answer()
        ready_s = self._ready_s + time.perf_counter() - start
        (pass_s,) = self.turn(0.0)
        if spec.reference and self._model is not None:
            said = self._facts(images, answer_ND)
        where = {"device": self._runtime.device, "precision": self._runtime.precision}
        return {**said, **where, "answer": answer_ND, "ready_s": ready_s, "image_s": pass_s / GATE_IMAGES}

    def load(self, batch: int, long_s: float) -> None:
        """Take white noise and warm up, with one pass where it takes as long as `long_s`."""
        images = np.random.default_rng(0).standard_normal((batch, 3, self.input_px, self.input_px), np.float32)
        self._runtime.load(images)
        for _ in range(WARM_UP):
            if self.turn(0.0)[0] >= long_s:
                break

    def turn(self, seconds: float) -> list[float]:
        """Seconds of each pass, until `seconds` have passed."""
        taken: list[float] = []
        while not taken or sum(taken) < seconds:
            start = time.perf_counter()
            self._runtime.run()
            taken.append(time.perf_counter() - start)
        return taken

    def memory(self) -> dict[str, float | None]:
        """What the model has taken at most, here or on the GPU; what the whole process has."""
        process_mb = memory.peak_mb()
        own = self._runtime.gpu_peak_mb() if self._runtime.device == "cuda" else process_mb - self._resident_mb
        return {"memory_mb": own, "process_mb": process_mb}

    def export(self, path: Path) -> None:
        """The model as an ONNX file with a free batch; every output of the model is one of the file's."""
        import torch

        assert self._model is not None
        image_NCHW = torch.zeros(2, 3, self.input_px, self.input_px, device=self._runtime.device)
        with warnings.catch_warnings(), torch.no_grad():
            # What the tracer says concerns shapes that the input's fixed side makes constant.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                self._model,
                (image_NCHW,),
                str(path),
                dynamo=False,
                opset_version=OPSET,
                input_names=["image"],
                dynamic_axes={"image": {0: "batch"}},
            )

    def _in_torch(self, engine: str, precision: str) -> TorchRuntime:
        assert self._model is not None
        channels_last = bool(self.facts["convolutional"])
        return TorchRuntime(self._model, engine, self.spec.device, precision, channels_last=channels_last)

    def _facts(self, images: NDArray[np.float32], answer_ND: NDArray[np.float32]) -> dict[str, Any]:
        """The model's costs, its fp32 answers and the machine."""
        import torch

        from pipeline.benchmark import costs

        assert self._model is not None
        reference_ND = answer_ND
        if (self.spec.engine, self._runtime.precision) != ("eager", "fp32"):
            plain = self._in_torch("eager", "fp32")
            plain.load(images)
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                reference_ND = plain.answer()
        parameters = {"params": costs.parameters(self._model)}
        # The counter sees through no GPU's fused kernels.
        multiply_adds = costs.gmacs(self._model.cpu(), torch.from_numpy(images[:1]))
        self._model.to(self._runtime.device)
        return {
            **self.facts,
            **parameters,
            "gmacs": multiply_adds,
            "reference": reference_ND,
            "machine": self._machine,
            "gpu_uuid": machine.gpu_uuid(),
        }


def _torch_loader(spec: Spec) -> Any:
    """A function that loads the model with its facts; its libraries are imported before it is called."""
    import torch  # noqa: F401

    if spec.model == "student":
        from timm.data import resolve_model_data_config

        from pipeline.student import exported

        def student() -> tuple[nn.Module, dict[str, Any]]:
            model = exported.load_student(spec.student)
            side = resolve_model_data_config(model)["input_size"][-1]
            return model, {"name": exported.architecture(model), "input_px": side, "convolutional": True}

        return student
    from pipeline.base.store import Store
    from pipeline.teachers.loading import load_teacher

    def teacher() -> tuple[nn.Module, dict[str, Any]]:
        found = load_teacher(spec.tokens, Store(spec.store), spec.demo_px)
        keys = ("name", "input_px", "width", "convolutional")
        return found, {key: getattr(found, key) for key in keys}

    return teacher


def _import_engine(engine: str) -> None:
    """The library of an ONNX engine, before its memory is counted. Raises ImportError."""
    __import__("openvino" if engine == "openvino" else "onnxruntime")


def gate_images(side_px: int) -> NDArray[np.float32]:
    """(GATE_IMAGES, 3, side, side): gradients between two colours, under noise."""
    random = np.random.default_rng(1)
    ends = random.uniform(-2, 2, (2, GATE_IMAGES, 3, 1, 1))
    ramp = np.linspace(0, 1, side_px)[None, None, None, :]
    noise = random.normal(0, 0.3, (GATE_IMAGES, 3, side_px, side_px))
    images: NDArray[np.float32] = (ends[0] * (1 - ramp) + ends[1] * ramp + noise).astype(np.float32)
    return images


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else "no message"
