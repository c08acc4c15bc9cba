"""Engines: what runs a model for the benchmark. Each takes a batch, runs it again and again, and says what it answers.

| engine | runs | where |
| --- | --- | --- |
| eager | plain PyTorch; in fp32 the reference | everywhere |
| compile | torch.compile's Inductor; on a CPU it is the C++ compiler that takes its time | everywhere |
| onnxruntime | the ONNX file, in its own float32 | the CPU; a GPU with onnxruntime-gpu |
| openvino | the ONNX file, compiled for each batch size | the CPU |
| tensorrt | the ONNX file, through ONNX Runtime's TensorRT provider | an NVIDIA GPU with onnxruntime-gpu |

A library is imported when its engine is made, so that the engines of ONNX files run in processes without torch. No GPU
path has run yet: there was none. Shapes: N images (N, 3, H, W) float32 in, embeddings (N, D) float32 out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

OF_TORCH = ("eager", "compile")
"""Engines of a PyTorch model; the others run an ONNX file."""


class Refused(Exception):
    """Why an engine does not run here: a figure that was not measured, not an error."""


class Runtime(Protocol):
    """One model in one engine. `device` is cpu or cuda, `precision` fp32 or bf16."""

    device: str
    precision: str

    def load(self, image_NCHW: NDArray[np.float32]) -> None:
        """Take a batch to where it is needed, outside the clock."""

    def run(self) -> None:
        """One pass over the batch, to its end."""

    def answer(self) -> NDArray[np.float32]:
        """The embeddings of the batch."""

    def gpu_peak_mb(self) -> float | None:
        """The most GPU memory that was in use since the batch was taken; None where nobody counts it."""


class TorchRuntime:
    """A PyTorch model, eager or compiled; bf16 by autocast, convolutional nets channels-last: twice as fast on CPUs."""

    def __init__(self, model: nn.Module, engine: str, device: str, precision: str, *, channels_last: bool) -> None:
        import torch

        has_gpu = torch.cuda.is_available()
        if device == "cuda" and not has_gpu:
            raise Refused("there is no GPU")
        self.device = "cuda" if has_gpu and device != "cpu" else "cpu"
        self.precision = {"auto": "bf16" if self.device == "cuda" else "fp32"}.get(precision, precision)
        if self.precision == "bf16" and not _has_bf16(self.device):
            raise Refused(f"this {'GPU' if self.device == 'cuda' else 'CPU'} has no bf16 of its own")
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        placed = model.to(self.device, memory_format=self._format)  # type: ignore[call-overload]
        self._compiles = engine == "compile"
        self._model = torch.compile(placed) if self._compiles else placed
        self._torch = torch

    def load(self, image_NCHW: NDArray[np.float32]) -> None:
        """The batch on the device, in the model's memory format; a graph that its size needs is compiled here."""
        if self.device == "cuda":
            self._torch.cuda.reset_peak_memory_stats()
        self._image_NCHW = self._torch.from_numpy(image_NCHW).to(self.device, memory_format=self._format)
        if self._compiles:
            # One graph for all sizes but 1, where the model lets it be; for 1 torch always makes one of its own. Each
            # takes a minute on a busy CPU, and left to itself torch compiles the first size for that size alone.
            self._torch._dynamo.maybe_mark_dynamic(self._image_NCHW, 0)
            self.run()

    def run(self) -> None:
        """A pass, and on a GPU the wait for it."""
        self._forward()
        if self.device == "cuda":
            self._torch.cuda.synchronize()

    def answer(self) -> NDArray[np.float32]:
        """The embeddings: what the model answers, or the first thing."""
        found = self._forward()
        embedding_ND: NDArray[np.float32] = (found[0] if isinstance(found, tuple) else found).float().cpu().numpy()
        return embedding_ND

    def gpu_peak_mb(self) -> float | None:
        return self._torch.cuda.max_memory_allocated() / 1e6 if self.device == "cuda" else None

    def _forward(self) -> Any:
        bf16 = self.precision == "bf16"
        with self._torch.inference_mode(), self._torch.autocast(self.device, self._torch.bfloat16, enabled=bf16):
            return self._model(self._image_NCHW)


class OnnxRuntime:
    """An ONNX file in ONNX Runtime: its CPU or CUDA provider in float32, or TensorRT's in fp32 or bf16."""

    def __init__(self, onnx: Path, engine: str, device: str, precision: str, threads: int) -> None:
        import onnxruntime

        providers = onnxruntime.get_available_providers()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Its threads go on spinning after a pass, for a second on some machines, on cores that the next model needs.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if engine == "tensorrt":
            if "TensorrtExecutionProvider" not in providers or device == "cpu":
                raise Refused("it needs an NVIDIA GPU and onnxruntime-gpu with TensorRT")
            self.device, self.precision = "cuda", "bf16" if precision == "auto" else precision
            flags = {"trt_bf16_enable": str(self.precision == "bf16")}
            wanted: list[Any] = [("TensorrtExecutionProvider", flags), "CUDAExecutionProvider"]
        else:
            on_gpu = "CUDAExecutionProvider" in providers and device != "cpu"
            if device == "cuda" and not on_gpu:
                raise Refused("this ONNX Runtime has no CUDA provider (onnxruntime-gpu has)")
            if precision == "bf16":
                raise Refused("it runs the file's own float32")
            self.device, self.precision = "cuda" if on_gpu else "cpu", "fp32"
            wanted = ["CUDAExecutionProvider"] if on_gpu else ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(onnx, options, providers=wanted)
        used = self._session.get_providers()[0]
        if used != (wanted[0] if isinstance(wanted[0], str) else wanted[0][0]):
            raise Refused(f"it fell back to {used}")
        self._binding = self._session.io_binding()
        self._input = self._session.get_inputs()[0].name
        self._library = onnxruntime

    def load(self, image_NCHW: NDArray[np.float32]) -> None:
        """The batch, and room for the answers, on the device."""
        self._image = self._library.OrtValue.ortvalue_from_numpy(image_NCHW, self.device, 0)
        self._binding.bind_ortvalue_input(self._input, self._image)
        for output in self._session.get_outputs():
            self._binding.bind_output(output.name, self.device)

    def run(self) -> None:
        """A pass, to its end."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def answer(self) -> NDArray[np.float32]:
        """The first output of a pass."""
        self.run()
        embedding_ND: NDArray[np.float32] = self._binding.copy_outputs_to_cpu()[0]
        return embedding_ND

    def gpu_peak_mb(self) -> float | None:
        return None


class OpenVino:
    """An ONNX file in OpenVINO on the CPU, compiled for the shape of each batch."""

    device = "cpu"

    def __init__(self, onnx: Path, device: str, precision: str, threads: int) -> None:
        import openvino

        if device == "cuda":
            raise Refused("OpenVINO runs on Intel's and on CPUs, not on this GPU")
        self.precision = "fp32" if precision == "auto" else precision
        self._core = openvino.Core()
        if self.precision == "bf16" and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise Refused("this CPU has no bf16 of its own")
        self._model = self._core.read_model(onnx)
        # It takes bf16 unasked where the CPU has it.
        kind = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}[self.precision]
        self._settings = {"INFERENCE_PRECISION_HINT": kind, "INFERENCE_NUM_THREADS": threads}

    def load(self, image_NCHW: NDArray[np.float32]) -> None:
        """A model compiled for this batch size, and the batch."""
        self._model.reshape(list(image_NCHW.shape))
        self._request = self._core.compile_model(self._model, "CPU", self._settings).create_infer_request()
        self._image_NCHW = image_NCHW

    def run(self) -> None:
        """A pass, to its end; the input is not copied."""
        self._request.infer({0: self._image_NCHW}, share_inputs=True)

    def answer(self) -> NDArray[np.float32]:
        """The first output of a pass."""
        self.run()
        embedding_ND: NDArray[np.float32] = self._request.get_output_tensor(0).data.copy()
        return embedding_ND

    def gpu_peak_mb(self) -> float | None:
        return None


def onnx_runtime(onnx: Path, engine: str, device: str, precision: str, threads: int) -> Runtime:
    """The engine of an ONNX file, with so many threads on a CPU; 0 leaves them to its library.

    Raises `Refused` where it cannot run here, ImportError where it lacks.
    """
    if engine == "openvino":
        return OpenVino(onnx, device, precision, threads)
    return OnnxRuntime(onnx, engine, device, precision, threads)


def _has_bf16(device: str) -> bool:
    """Whether bf16 is the device's own; where it is emulated it is slower than fp32."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    from pipeline.teachers.engines.base import cpu_has_bf16

    return cpu_has_bf16()
