"""Builds a real engine of a ViT-L trunk where there is no GPU, with TensorRT for RTX, which compiles ahead of time.

    pip install -e '.[rtx]'
    python -m bench.teachers.build_check --depth 2

It shows that the exported trunk passes the rules of export.py and that NVIDIA's own builder takes the graph whole, with
a dynamic batch, for the architectures it is asked for. It is not the engine of tensorrt.py: that one is
torch-tensorrt's, which needs a GPU to build. A table, then one line of JSON.

Measured (1.7.1.116, two shared cores, bf16, batch 1 to 32): two blocks 3.4 to 4.8 s and 54 MB an architecture, all 24
blocks for SM80 31 s and 615 MB.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import timm
import torch
import typer

from bench.printing import finish, show
from bench.scratch import scratch
from pipeline.base.errors import TeacherError
from pipeline.teachers.engines.export import export_trunk, require_convertible
from pipeline.teachers.preparation import Preparation
from pipeline.teachers.teacher import Teacher

ARCHITECTURES = ("SM80", "SM86", "SM89")
"""Ampere (A100), Ampere (RTX 30), Ada (L4, RTX 40)."""
_UNI = {"init_values": 1e-5, "dynamic_img_size": True}


def build(program: torch.export.ExportedProgram, batch_max: int, architecture: str) -> int:
    """Bytes of the engine that TensorRT for RTX builds of a program for 1 to `batch_max` images.

    Raises `TeacherError` with what its parser or builder said, and ImportError where the extra `rtx` is missing.
    """
    import tensorrt_rtx_bindings as trt

    where = f"TensorRT for RTX {trt.__version__}, {architecture}"
    said = _Said(trt)
    builder = trt.Builder(said.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, said.logger)
    with scratch() as folder:
        path = folder / "trunk.onnx"
        # Weights beside the graph: one protobuf holds no more than 2 GB.
        torch.onnx.export(program, dynamo=True, verbose=False).save(path, external_data=True)  # type: ignore[union-attr]
        if not parser.parse_from_file(str(path)):
            what = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
            raise TeacherError(f"its parser refuses the graph: {what}", where=where)
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, architecture), 0)
    profile = builder.create_optimization_profile()
    image = network.get_input(0)
    profile.set_shape(image.name, *((n, *image.shape[1:]) for n in (1, batch_max, batch_max)))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise TeacherError(f"its builder gives no engine: {said.last()}", where=where)
    return int(engine.nbytes)


class _Said:
    """What the library logged as errors: its calls answer None or False and say no more."""

    def __init__(self, trt: Any) -> None:
        self._lines: list[str] = []
        lines = self._lines

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, text: str) -> None:
                if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                    lines.append(text)

        self.logger = Logger()

    def last(self) -> str:
        """The last error, or that there was none."""
        return self._lines[-1] if self._lines else "it says nothing"


def main(
    depth: Annotated[int, typer.Option(help="Blocks of the ViT-L; the real one has 24.")] = 2,
    batch: Annotated[int, typer.Option(help="Largest batch of the engine.")] = 32,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "bf16",
    architecture: Annotated[list[str] | None, typer.Option(help="SM80, SM86, SM89 … (repeat for more).")] = None,
) -> None:
    """Export UNI's geometry with random weights, check the rules, and build an engine for each architecture."""
    torch.manual_seed(0)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = timm.create_model("vit_large_patch16_224", num_classes=0, depth=depth, **_UNI)
    teacher = Teacher("ViT-L/16", model, 224, Preparation((0.5,) * 3, (0.5,) * 3))
    start = time.perf_counter()
    program = export_trunk(teacher.trunk.to(dtype), teacher.input_px, batch, dtype)
    require_convertible(program, batch, teacher.name)
    exported_s = time.perf_counter() - start
    engines = {}
    for name in architecture or ARCHITECTURES:
        start = time.perf_counter()
        nbytes = build(program, batch, name)
        engines[name] = {"mb": round(nbytes / 1e6, 1), "seconds": round(time.perf_counter() - start, 1)}
    rows = [(name, made["mb"], made["seconds"]) for name, made in engines.items()]
    show(f"ViT-L/16, {depth} blocks, {precision}, batch 1 to {batch}", ("architecture", "MB", "seconds"), rows)
    report = {
        "depth": depth,
        "precision": precision,
        "batch": batch,
        "export_s": round(exported_s, 1),
        "engines": engines,
    }
    finish(report)


if __name__ == "__main__":
    typer.run(main)
