"""A network as one ONNX file: the same weights give the same bytes, and any runtime the same answers.

    input   `image`      (batch, 3, H, W) float32, normalised with the network's own mean and deviation; batch is free
    output  `embedding`  (batch, D) float32, in the teacher's own space
    output  `patch`      (batch, T, D) float32, of a student with its adapter alone: patch tokens in the same space
    output  `nested`     (batch, K) float32, of a student with nested sizes alone: its first k numbers are one of size k

Batch norm is folded into the convolutions before it, so that answers differ from PyTorch's by rounding alone: measured
for EfficientViT-B0 at 224 px in ONNX Runtime 1.32, 6e-7 of the embedding's length.

Why torch's tracing exporter, which torch calls the older one: an encoder's forward has no branch that depends on data,
and tracing EfficientViT-B0 takes 1 s where `dynamo=True` takes 8 to 13 (one core, 2.14.1), ten times the demo's export,
for the same operators; its file also names the machine's paths in every node.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import nn

from pipeline.base.errors import EngineError

OPSET = 18
IMAGE, EMBEDDING, PATCH, NESTED, BATCH = "image", "embedding", "patch", "nested", "batch"


def write_onnx(model: nn.Module, input_px: int, path: Path, outputs: Sequence[str] = (EMBEDDING,)) -> None:
    """Write a module on the CPU in evaluation mode that takes (batch, 3, input_px, input_px) to its `outputs`.

    Above 2 GB its weights are files beside it. Raises `EngineError` where it holds an operator that opset 18 lacks.
    """
    # Two images: traced with one, a model may take the batch for a constant 1.
    image_NCHW = torch.zeros(2, 3, input_px, input_px)
    with warnings.catch_warnings(), torch.no_grad():
        # What they say concerns the tracer itself, or shapes that the input's fixed side makes constant.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                model,
                (image_NCHW,),
                str(path),
                dynamo=False,
                opset_version=OPSET,
                input_names=[IMAGE],
                output_names=list(outputs),
                dynamic_axes={name: {0: BATCH} for name in (IMAGE, *outputs)},
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise EngineError(f"it cannot be written as ONNX: {error}") from error
    onnx.checker.check_model(str(path))
