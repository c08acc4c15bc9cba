"""The student as one ONNX file: the same weights give the same bytes, and any runtime the same answers.

    input   `image`      (batch, 3, H, W) float32, normalised with the mean and std of config.json; batch is free
    output  `embedding`  (batch, D) float32, in the teacher's own space

Batch norm is folded into the convolutions before it, so that answers differ from PyTorch's by rounding alone: measured
for EfficientViT-B0 at 224 px in ONNX Runtime 1.32, 6e-7 of the embedding's length.

Why torch's tracing exporter, which torch calls the older one: a student's forward has no branch that depends on data,
and tracing EfficientViT-B0 takes 1 s where `dynamo=True` takes 8 to 13 (one core, 2.14.1), ten times the demo's export,
for the same operators; its file also names the machine's paths in every node.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from torch import nn

from pipeline.base.errors import TrainingError

OPSET = 18
IMAGE, EMBEDDING, BATCH = "image", "embedding", "batch"


def onnx_bytes(backbone: nn.Module, input_px: int) -> bytes:
    """The ONNX file of a timm model on the CPU in evaluation mode, which takes (batch, 3, input_px, input_px).

    Raises `TrainingError` where the model holds an operator that opset 18 lacks.
    """
    # Two images: traced with one, a model may take the batch for a constant 1.
    image_NCHW = torch.zeros(2, 3, input_px, input_px)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        file = Path(folder) / "model.onnx"
        # What they say concerns the tracer itself, or shapes that the input's fixed side makes constant.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                backbone,
                (image_NCHW,),
                file,
                dynamo=False,
                opset_version=OPSET,
                input_names=[IMAGE],
                output_names=[EMBEDDING],
                dynamic_axes={IMAGE: {0: BATCH}, EMBEDDING: {0: BATCH}},
            )
        except torch.onnx.errors.OnnxExporterError as error:
            fix = "choose another student.model (efficientvit_b0 …)"
            raise TrainingError(f"it cannot be written as ONNX: {error}", where="student.model", fix=fix) from error
        data = file.read_bytes()
    onnx.checker.check_model(data)
    return data
