"""An exported student by its ONNX file, in OpenVINO or ONNX Runtime on a CPU, without torch.

Each calling thread answers its own batch on one core, so that whoever reads tiles also answers them, and no core waits
for another: a pass over all cores at once would leave them idle wherever one has more to do.

Shapes: N images of at most `batch_size`, H = W the input side, T patch tokens, D the teacher's width.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import EngineError
from pipeline.embed.encoders.encoder import Answers, Encoder, Facts
from pipeline.student.shipped import Shipped

BATCH = 16
"""Images a pass: of 8, 16, 32 and 64 the fastest on one core for EfficientViT-B0 at 112 px."""
PACKAGES = {"openvino": "openvino", "onnxruntime": "onnxruntime"}


def installed() -> list[str]:
    """The engines of files that are installed here."""
    return [engine for engine, package in PACKAGES.items() if importlib.util.find_spec(package) is not None]


def require_installed(engine: str) -> None:
    """Raises `EngineError` where an engine of files is not installed."""
    if engine not in installed():
        fix = f"pip install {PACKAGES[engine]}, or --engine eager"
        raise EngineError("not installed", where=engine, fix=fix)


class OpenVino:
    """The file compiled for batches of `BATCH` on so many streams, a thread each; it takes uint8 and normalises."""

    engine, batch_size = "openvino", BATCH

    def __init__(self, shipped: Shipped, facts: Facts, file: Path, threads: int) -> None:
        require_installed(self.engine)
        import openvino

        self.facts = facts
        core = openvino.Core()
        model = core.read_model(file)
        model.reshape([BATCH, 3, facts.input_px, facts.input_px])
        with_input = openvino.preprocess.PrePostProcessor(model)
        given = with_input.input()
        given.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        given.model().set_layout(openvino.Layout("NCHW"))
        steps = given.preprocess().convert_element_type(openvino.Type.f32)
        steps.mean([255 * value for value in shipped.mean]).scale([255 * value for value in shipped.std])
        settings = {
            # It takes bf16 unasked where the CPU has it.
            "INFERENCE_PRECISION_HINT": openvino.Type.f32,
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            # Those who read the slides are on the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = core.compile_model(with_input.build(), "CPU", settings)
        self._outputs = [self._compiled.output(name) for name in _outputs(facts)]
        self._own = threading.local()

    def __call__(self, image_NHWC: NDArray[np.uint8]) -> Answers:
        """The answers to at most `batch_size` images (N, H, W, 3)."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        n = len(image_NHWC)
        if n < BATCH:
            image_NHWC = np.concatenate([image_NHWC, np.zeros((BATCH - n, *image_NHWC.shape[1:]), np.uint8)])
        self._own.request.infer({0: np.ascontiguousarray(image_NHWC)}, share_inputs=True)
        return _answers([self._own.request.get_tensor(output).data[:n] for output in self._outputs], self.facts)


class OnnxRuntime:
    """The file in a session whose passes take the calling thread alone."""

    engine, batch_size = "onnxruntime", BATCH

    def __init__(self, shipped: Shipped, facts: Facts, file: Path, threads: int) -> None:
        require_installed(self.engine)
        library = importlib.import_module("onnxruntime")
        self.facts = facts
        options = library.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = library.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        std_C = np.array(shipped.std, np.float32)
        self._scale_C = 1 / (255 * std_C)
        self._shift_C = -np.array(shipped.mean, np.float32) / std_C

    def __call__(self, image_NHWC: NDArray[np.uint8]) -> Answers:
        """The answers to at most `batch_size` images (N, H, W, 3)."""
        image_NCHW = np.empty((len(image_NHWC), 3, *image_NHWC.shape[1:3]), np.float32)
        for channel in range(3):
            np.multiply(image_NHWC[..., channel], self._scale_C[channel], out=image_NCHW[:, channel])
            image_NCHW[:, channel] += self._shift_C[channel]
        return _answers(self._session.run(_outputs(self.facts), {self._input: image_NCHW}), self.facts)


def _outputs(facts: Facts) -> list[str]:
    """Of the file's outputs those that are asked for."""
    if facts.nested is not None:
        return ["nested"]
    return ["embedding"] if facts.patch is None else ["embedding", "patch"]


def _answers(outputs: Sequence[NDArray[np.float32]], facts: Facts) -> Answers:
    """Copies of what an engine answered, in the order of `_outputs`."""
    embedding_ND = np.array(outputs[0][:, : facts.width])
    return Answers(embedding_ND, () if facts.patch is None else facts.patch.encode(outputs[1]))


FILE_ENGINES: dict[str, Callable[[Shipped, Facts, Path, int], Encoder]] = {
    "openvino": OpenVino,
    "onnxruntime": OnnxRuntime,
}
