"""`onnxruntime`: the ONNX file of a network in ONNX Runtime, in the file's own float32, on a CPU or an NVIDIA GPU.

On a GPU it reads torch's memory and writes to it, so that nothing crosses to the host; that needs onnxruntime-gpu, and
has not run yet: there was no GPU.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from pipeline.base.errors import EngineError
from pipeline.teachers.engines.onnx_file import IMAGE
from pipeline.teachers.network import Preprocess

_CUDA = "CUDAExecutionProvider"


def runs_on_gpu() -> bool:
    """Whether the ONNX Runtime that is installed has a CUDA provider. Raises `EngineError` where none is installed."""
    return _CUDA in _library().get_available_providers()


class OnnxRuntime:
    """The file with as many threads as torch has. Raises `EngineError` where it does not run here."""

    name = "onnxruntime"

    def __init__(self, network: Preprocess, device: torch.device, precision: str, file: Path) -> None:
        if precision != "fp32":
            raise EngineError("it runs the file's own float32", where=network.where, fix="precision fp32")
        self.device, self.precision, self._network = device, precision, network.to(device)
        library = _library()
        if device.type == "cuda" and not runs_on_gpu():
            fix = "pip install onnxruntime-gpu"
            raise EngineError("this ONNX Runtime has no CUDA provider", where=network.where, fix=fix)
        options = library.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Its threads go on spinning after a pass, for a second on some machines, on cores that others need.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        wanted = _CUDA if device.type == "cuda" else "CPUExecutionProvider"
        # As every engine's fp32: its default on a GPU, TensorFloat-32, rounds what it reads to ten bits.
        settings = {"use_tf32": "0"} if device.type == "cuda" else {}
        self._session = library.InferenceSession(file, options, providers=[(wanted, settings)])
        used = self._session.get_providers()[0]
        if used != wanted:
            raise EngineError(f"it fell back to {used}", where=network.where, fix="see ONNX Runtime's own message")
        self._output = self._session.get_outputs()[0].name
        self._shape: tuple[int, ...] = ()

    @torch.inference_mode()
    def __call__(self, image_NHWC: Tensor) -> Tensor:
        """The file's answer for uint8 images (N, H, W, 3) on the engine's device."""
        image_NCHW = self._network.normalise(image_NHWC).contiguous()
        if self.device.type == "cpu":
            (raw,) = self._session.run([self._output], {IMAGE: image_NCHW.numpy()})
            return torch.from_numpy(raw)
        return self._on_gpu(image_NCHW)

    def _on_gpu(self, image_NCHW: Tensor) -> Tensor:
        n, where = len(image_NCHW), {"device_type": "cuda", "device_id": self.device.index or 0}
        if not self._shape:
            # Of one image, by way of the host: how large an image's answer is.
            (first,) = self._session.run([self._output], {IMAGE: image_NCHW[:1].cpu().numpy()})
            self._shape = first.shape[1:]
        raw = torch.empty((n, *self._shape), dtype=torch.float32, device=self.device)
        binding = self._session.io_binding()
        for bind, name, tensor in (
            (binding.bind_input, IMAGE, image_NCHW),
            (binding.bind_output, self._output, raw),
        ):
            bind(name, **where, element_type=np.float32, shape=tuple(tensor.shape), buffer_ptr=tensor.data_ptr())
        # Its stream is not torch's.
        torch.cuda.synchronize(self.device)
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return raw


def _library() -> ModuleType:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise EngineError(f"not installed: {error}", where="onnxruntime", fix="pip install onnxruntime") from None
