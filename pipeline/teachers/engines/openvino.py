"""`openvino`: the ONNX file of a network in OpenVINO on the CPU, compiled for the shape of one batch, fp32 or bf16."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.base.errors import EngineError
from pipeline.teachers.network import Preprocess


class OpenVino:
    """The file with as many threads as torch has. Raises `EngineError` where it does not run here."""

    name = "openvino"

    def __init__(self, network: Preprocess, device: torch.device, precision: str, batch_size: int, file: Path) -> None:
        try:
            import openvino
        except ImportError as error:
            raise EngineError(f"not installed: {error}", where="openvino", fix="pip install openvino") from None
        if device.type != "cpu":
            raise EngineError("it runs on CPUs, not on this GPU", where=network.where, fix="device cpu")
        core = openvino.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise EngineError("this CPU has no bf16 of its own", where=network.where, fix="precision fp32")
        self.device, self.precision, self.batch_size, self._network = device, precision, batch_size, network.to(device)
        model = core.read_model(file)
        model.reshape([batch_size, 3, network.input_px, network.input_px])
        # It takes bf16 unasked where the CPU has it.
        kind = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}[precision]
        settings = {"INFERENCE_PRECISION_HINT": kind, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()

    @torch.inference_mode()
    def __call__(self, image_NHWC: Tensor) -> Tensor:
        """The file's answer for at most `batch_size` uint8 images (N, H, W, 3); good until the next call."""
        n = len(image_NHWC)
        if n < self.batch_size:
            image_NHWC = F.pad(image_NHWC, (0, 0) * 3 + (0, self.batch_size - n))
        image_NCHW = self._network.normalise(image_NHWC).contiguous()
        # Shared: the input is not copied.
        self._request.infer({0: image_NCHW.numpy()}, share_inputs=True)
        return torch.from_numpy(self._request.get_output_tensor(0).data)[:n]
