"""What is timed: benchmark."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params.base import Positive, Section


class BenchmarkParams(Section):
    """What is timed."""

    batch_sizes: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 8, 32)
    """Batch sizes of the latency table."""
    seconds: Annotated[float, Field(gt=0)] = 1.0
    """Time spent on each cell of the table, at least 8 repeats; the 99th percentile needs 100."""
    engines: tuple[Literal["eager", "compile", "onnxruntime", "openvino", "tensorrt"], ...] = ("eager",)
    """What runs the models. eager, the reference, is always among them; on a CPU compile needs a minute a batch."""
    limit_s: Annotated[float, Field(gt=0)] = 300.0
    """Seconds that an engine may take to load or compile a model, or for a pass; else it is left out, and that said."""
    precisions: Annotated[tuple[Literal["auto", "fp32", "bf16"], ...], Field(min_length=1)] = ("auto",)
    """Of each engine; auto = bf16 on a GPU, fp32 on a CPU. The first is that of the leading figures."""
    devices: Annotated[tuple[Literal["auto", "cpu", "cuda"], ...], Field(min_length=1)] = ("auto",)
    """auto = the GPU where there is one, else the CPU. The first is that of the leading figures."""
    slide_tiles: Positive = 10000
    """Tiles of the slide for which slides an hour are stated."""
