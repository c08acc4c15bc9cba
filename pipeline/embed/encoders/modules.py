"""A teacher, or an exported student, as a torch module in one of the tokens stage's engines.

On a CPU each calling thread runs on one core, as in files.py; on a GPU one batch is answered at a time.
"""

from __future__ import annotations

import contextlib
import threading

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.base.errors import EngineError, TeacherError
from pipeline.base.store import Store
from pipeline.embed.encoders.encoder import Answers, Facts
from pipeline.params.tokens import TokensParams
from pipeline.student.exported import Encoder as ExportedEncoder
from pipeline.student.exported import ExportedStudent, load_dense, load_student
from pipeline.student.shipped import Shipped
from pipeline.teachers.engines import Engine, Setting, build_engine, make_engine
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.network import Network
from pipeline.teachers.preparation import RESIZED_BY

CPU_BATCH, GPU_BATCH = 16, 256


def device_of(name: str | None) -> torch.device:
    """The device of that name; without one the first GPU, else the CPU. Raises `EngineError`."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise EngineError("no such device", where=name, fix="--device cpu, cuda or cuda:1") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise EngineError("torch finds no GPU", where=name, fix="--device cpu, or see `histill doctor`")
    return device


class Module:
    """A network in an engine."""

    def __init__(self, facts: Facts, network: Network, engine: Engine, batch_size: int) -> None:
        self.facts, self.engine, self.batch_size = facts, engine.name, batch_size
        self._network, self._run = network, engine
        self._one_at_a_time = threading.Lock() if engine.device.type == "cuda" else contextlib.nullcontext()

    @torch.inference_mode()
    def __call__(self, image_NHWC: NDArray[np.uint8]) -> Answers:
        """The answers to at most `batch_size` images (N, H, W, 3), on the engine's device and back."""
        with self._one_at_a_time:
            raw = self._run(torch.from_numpy(image_NHWC).to(self._run.device))
            embedding_ND: NDArray[np.float32] = self._network.embedding(raw).cpu().numpy()
        return Answers(embedding_ND)


class DenseModule:
    """A student with its adapter in eager, on the device that an exported student runs on."""

    engine = "eager"

    def __init__(self, facts: Facts, encoder: ExportedEncoder) -> None:
        assert facts.patch is not None
        self.facts, self._form, self._encoder = facts, facts.patch, encoder
        on_gpu = encoder.device.type == "cuda"
        self.batch_size = GPU_BATCH // 4 if on_gpu else CPU_BATCH
        self._one_at_a_time = threading.Lock() if on_gpu else contextlib.nullcontext()

    def __call__(self, image_NHWC: NDArray[np.uint8]) -> Answers:
        """The answers to at most `batch_size` images (N, H, W, 3)."""
        with self._one_at_a_time:
            embedding_ND, patch_NTD = self._encoder.embed_dense(self._encoder.normalise(image_NHWC))
        return Answers(embedding_ND, self._form.encode(patch_NTD))


def load_module(shipped: Shipped, facts: Facts, engine: str, device: torch.device) -> Module | DenseModule:
    """An exported student in an engine of torch's, in float32; patch tokens in eager alone. Raises `EngineError`."""
    _share(device)
    if facts.patch is not None:
        if engine != "eager":
            fix = "--engine eager, onnxruntime or openvino"
            raise EngineError("patch tokens are not answered by it", where=engine, fix=fix)
        model = load_student(shipped.folder)
        return DenseModule(facts, ExportedEncoder(model, load_dense(shipped.folder, model), device))
    width = None if facts.nested is None else facts.width
    network, batch_size = ExportedStudent(shipped.folder, width), GPU_BATCH if device.type == "cuda" else CPU_BATCH
    setting = Setting(engine, "fp32", device, batch_size)
    return Module(facts, network, make_engine(network, setting, Store.find(None)), batch_size)


def load_teacher_module(params: TokensParams, engine: str, device: torch.device, demo_px: int) -> Module:
    """The teacher that the params name, in the engine that they or `engine` name. Raises `TeacherError`."""
    if engine in ("openvino", "onnxruntime"):
        what, fix = f"{engine} runs the student's file, and a teacher has none", "--engine eager, compile or tensorrt"
        raise TeacherError(what, where=f"teacher {params.teacher}", fix=fix)
    store, batch_size = Store.find(None), GPU_BATCH if device.type == "cuda" else CPU_BATCH
    teacher = load_teacher(params, store, demo_px)
    _share(device)
    told = params.model_copy(update={"engine": engine, "batch_size": batch_size})
    facts = Facts(
        name=params.teacher,
        digest=teacher.weights_digest,
        width=teacher.width,
        input_px=teacher.input_px,
        resample=teacher.preparation.interpolation or RESIZED_BY,
    )
    return Module(facts, teacher, build_engine(teacher, told, device, store), batch_size)


def _share(device: torch.device) -> None:
    """One core a calling thread, where the cores are those that also read."""
    if device.type == "cpu":
        torch.set_num_threads(1)
