"""What a contender's process does: it loads its model into its engine, then runs what the benchmark asks for.

Engines are the product's own (`teachers/engines`): uint8 images on the device in, normalised there, the embedding out.
Images are drawn from a seed: for timing noise, since no engine's speed depends on what it sees; for the gate coloured
gradients under noise, since a model answers all noise alike. Shapes: N images (N, H, W, 3) uint8, D channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.benchmark import costs, machine, memory
from pipeline.benchmark.messages import (
    OF_FILES,
    WARM_UP,
    Done,
    Export,
    Facts,
    Hello,
    HowMuch,
    Load,
    Memory,
    Reply,
    Request,
    Spec,
    Taken,
    Turn,
)
from pipeline.benchmark.results import Costs
from pipeline.benchmark.settle import settled_device, settled_precision
from pipeline.teachers.engines import Eager, Engine, Setting, make_engine, make_file_engine
from pipeline.teachers.network import Embedder, Network, Preprocess

GATE_IMAGES = 8
OF_ONE_BATCH = ("compile", "tensorrt", "openvino")
"""Engines that are made for one batch size, as they would be deployed."""


class Contest:
    """What this process can be asked."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        # To ask what GPU there is starts its driver in this process, which is no model's memory either.
        self._machine = machine.describe() if spec.reference else None
        device = settled_device(spec.engine, spec.device)
        precision = settled_precision(spec.engine, spec.precision, device)
        if spec.engine in OF_FILES:
            __import__(spec.engine)
        load = _loader(spec) if spec.onnx is None else None
        # Libraries are in memory from here on; what comes on top is the model's.
        self._resident_mb, start = memory.resident_mb(), time.perf_counter()
        self._network: Network | None = None
        self._preprocess: Preprocess
        if load is not None:
            self._preprocess = self._network = load()
        else:
            assert spec.onnx is not None
            self._preprocess = Preprocess(spec.model, spec.onnx.input_px, spec.onnx.mean, spec.onnx.std)
        self._precision, self._device = precision, device
        self._engine: Engine | None = None
        self._batch = 0
        self._ready_s = time.perf_counter() - start

    def hello(self) -> Hello:
        """With the gate the answers to its images, and of a reference its facts."""
        where = self._device.type, self._precision
        if not self.spec.gate:
            return Hello(*where, None, self._ready_s)
        image_NHWC, start = gate_images(self._preprocess.input_px), time.perf_counter()
        self._make_for(GATE_IMAGES)
        self._take(image_NHWC)
        answer_ND = self._embedding().float().cpu().numpy()
        ready_s = self._ready_s + time.perf_counter() - start
        (pass_s,) = self._turn(0.0).passes
        facts = self._facts(image_NHWC, answer_ND) if self.spec.reference else None
        return Hello(*where, answer_ND, ready_s, pass_s / GATE_IMAGES, facts)

    def answer(self, request: Request) -> Reply:
        """What is asked for."""
        match request:
            case Load(batch, long_s):
                return self._load(batch, long_s)
            case Turn(seconds):
                return self._turn(seconds)
            case HowMuch():
                return self._memory()
            case Export(path):
                from pipeline.teachers.engines.onnx_file import write_onnx

                assert self._network is not None
                write_onnx(Embedder(self._network).cpu().eval(), self._network.input_px, path)
                return Done()

    def _load(self, batch: int, long_s: float) -> Done:
        """Take noise, in an engine for it, and warm up."""
        self._make_for(batch)
        side_px = self._preprocess.input_px
        self._take(np.random.default_rng(0).integers(0, 256, (batch, side_px, side_px, 3), np.uint8))
        for _ in range(WARM_UP):
            if self._turn(0.0).passes[0] >= long_s:
                break
        return Done()

    def _make_for(self, batch: int) -> None:
        """The engine for a batch size, where what there is will not do; two are never in memory."""
        if self._engine is not None and (batch == self._batch or self.spec.engine not in OF_ONE_BATCH):
            return
        self._engine, self._batch = None, batch
        setting = Setting(self.spec.engine, self._precision, self._device, batch)
        if self.spec.onnx is not None:
            self._engine = make_file_engine(self._preprocess, setting, self.spec.onnx.path)
        else:
            assert self._network is not None
            self._engine = make_engine(self._network, setting, self.spec.store)

    def _take(self, image_NHWC: NDArray[np.uint8]) -> None:
        """The batch to where it is needed, outside the clock."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self._image_NHWC = torch.from_numpy(image_NHWC).to(self._device)

    @torch.inference_mode()
    def _embedding(self) -> Tensor:
        """One pass: the embeddings of the batch; on a GPU to its end."""
        assert self._engine is not None
        raw = self._engine(self._image_NHWC)
        embedding_ND = raw if self._network is None else self._network.embedding(raw)
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return embedding_ND

    def _turn(self, seconds: float) -> Taken:
        taken: list[float] = []
        while not taken or sum(taken) < seconds:
            start = time.perf_counter()
            self._embedding()
            taken.append(time.perf_counter() - start)
        return Taken(tuple(taken))

    def _memory(self) -> Memory:
        process_mb = memory.peak_mb()
        if self._device.type != "cuda":
            return Memory(process_mb - self._resident_mb, process_mb)
        counted = None if self.spec.onnx is not None else torch.cuda.max_memory_allocated() / 1e6
        return Memory(counted, process_mb)

    def _facts(self, image_NHWC: NDArray[np.uint8], answer_ND: NDArray[np.float32]) -> Facts:
        """The model's costs, its fp32 answers and the machine."""
        network = self._network
        assert network is not None and self._machine is not None
        reference_ND = answer_ND
        if (self.spec.engine, self._precision) != ("eager", "fp32"):
            self._engine = Eager(network, self._device, "fp32")
            self._take(image_NHWC)
            reference_ND = self._embedding().float().cpu().numpy()
            self._engine = None
        # The counter sees through no GPU's fused kernels.
        image_NCHW = network.cpu().normalise(torch.from_numpy(image_NHWC[:1]))
        model = Embedder(network)
        counted = Costs(
            name=network.name,
            params=costs.parameters(model),
            gmacs=costs.gmacs(model, image_NCHW),
            input_px=network.input_px,
            weights=self.spec.weights,
        )
        network.to(self._device)
        normalisation, width = (network.mean, network.std), answer_ND.shape[1]
        return Facts(counted, width, *normalisation, reference_ND, self._machine, machine.gpu_uuid())


def _loader(spec: Spec) -> Callable[[], Network]:
    """What loads the model that PyTorch runs; the server that processes are forked from has its libraries."""
    if spec.model == "student":
        from pipeline.student.exported import ExportedStudent

        return partial(ExportedStudent, spec.student)
    from pipeline.teachers.loading import bare_teacher, load_teacher

    if not spec.weights:
        # Random, and the same in each of its processes: the gate compares their answers.
        torch.manual_seed(0)
        return partial(bare_teacher, spec.tokens)
    return partial(load_teacher, spec.tokens, spec.store, spec.demo_px)


def gate_images(side_px: int) -> NDArray[np.uint8]:
    """(GATE_IMAGES, side, side, 3): gradients between two colours, under noise."""
    random = np.random.default_rng(1)
    ends = random.uniform(0, 255, (2, GATE_IMAGES, 1, 1, 3))
    ramp = np.linspace(0, 1, side_px)[None, None, :, None]
    noise = random.normal(0, 20, (GATE_IMAGES, side_px, side_px, 3))
    images: NDArray[np.uint8] = np.clip(ends[0] * (1 - ramp) + ends[1] * ramp + noise, 0, 255).astype(np.uint8)
    return images
