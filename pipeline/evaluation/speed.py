"""What the models cost: parameters, multiply-adds, latency and throughput, both measured in one run.

The two take turns within each batch size, so that whatever else the machine does meets both alike; a ratio is only ever
taken from one run. Eager PyTorch; float32 on a CPU, bfloat16 autocast on a GPU; channels-last for convolutional nets,
which doubles their speed on CPUs (a ViT as the student loses nothing by it). Inputs are random images that are ready in
memory: reading slides and decoding tiles come on top. Shapes: N images of 3 x H x W.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipeline.errors import EvaluationError
from pipeline.evaluation import features, machine
from pipeline.evaluation.tables import benchmark_headline, six_digits, write_benchmark_plots
from pipeline.manifest import Manifest
from pipeline.params import BenchmarkParams, TokensParams
from pipeline.partials import file_sha256
from pipeline.progress import track
from pipeline.store import Store, recipe_key
from pipeline.tokens.loading import load_teacher

MIN_REPEATS = 5
PATIENCE = 20
"""A cell that has had so many times its time goes without the rest of its repeats (a ViT-L on a laptop)."""


@dataclass
class Contender:
    """A model to be timed, on its device, and the seconds that each batch took so far."""

    name: str
    model: nn.Module
    input_px: int
    convolutional: bool
    seconds: list[float] = field(default_factory=list)

    def place(self, device: torch.device) -> None:
        """Move it, in the memory format that suits it."""
        self.model.to(device, memory_format=self.memory_format)  # type: ignore[call-overload]

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.convolutional else torch.contiguous_format

    def images(self, batch: int, device: torch.device) -> Tensor:
        """Random images, (batch, 3, H, W) float32."""
        image_NCHW = torch.randn(batch, 3, self.input_px, self.input_px, generator=torch.Generator().manual_seed(0))
        return image_NCHW.to(device, memory_format=self.memory_format)


def benchmark_models(
    tokens: Manifest,
    student_folder: Path,
    tokens_params: TokensParams,
    params: BenchmarkParams,
    store: Store,
    demo_px: int,
    plots: Path = Path("plots"),
) -> Manifest:
    """Measure the teacher that `tokens` was made with and the exported student; write latency.csv to `plots`.

    Summary: `machine`, `engine`, `precision`, `slide_tiles`, `peak_rss_mb` (of the whole process), `speedup` (ratio of
    best throughputs), `teacher` and `student` {name, params, gmacs, input_px, tiles_per_s, slides_per_hour, rows}, and
    their leading figures flat. Not deterministic, by nature. Raises `EvaluationError` where the params name a teacher
    that the cache does not come from.
    """
    teacher = load_teacher(tokens_params, store, demo_px)
    cached = tokens.recipe["teacher"]
    if (teacher.name, teacher.width, teacher.input_px) != (cached["name"], cached["width"], cached["input_px"]):
        what = f"the cached answers are {cached['name']}'s, {cached['width']} channels at {cached['input_px']} px"
        raise EvaluationError(what, where=f"teacher {teacher.name}", fix="dvc repro tokens")
    student = features.load_student(student_folder)
    student_px = resolve_model_data_config(student)["input_size"][-1]
    contenders = {
        "teacher": Contender(teacher.name, teacher, teacher.input_px, teacher.convolutional),
        "student": Contender(features.architecture(student), student, student_px, convolutional=True),
    }
    measured = measure(contenders, params)
    summary = {
        "machine": machine.describe(),
        "engine": "eager",
        "precision": _precision(features.device()),
        "slide_tiles": params.slide_tiles,
        "peak_rss_mb": machine.peak_rss_mb(),
        "speedup": measured["student"]["tiles_per_s"] / measured["teacher"]["tiles_per_s"],
        **measured,
        **benchmark_headline(measured),
    }
    recipe = {
        "teacher": cached,
        "student": file_sha256(student_folder / "model.safetensors")[:32],
        "benchmark": params.model_dump(mode="json"),
    }
    manifest = Manifest(stage="benchmark", recipe_key=recipe_key(recipe), recipe=recipe, summary=six_digits(summary))
    write_benchmark_plots(manifest, plots)
    return manifest


def measure(contenders: Mapping[str, Contender], params: BenchmarkParams) -> dict[str, dict[str, Any]]:
    """{contender: its figures, `rows` one a batch size} with the contenders taking turns."""
    device = features.device()
    # GMACs first, on the CPU: the counter sees through no device's fused attention kernels.
    found: dict[str, dict[str, Any]] = {
        key: {
            "name": contender.name,
            "params": sum(parameter.numel() for parameter in contender.model.parameters()),
            "gmacs": gmacs(contender.model, contender.images(1, torch.device("cpu"))),
            "input_px": contender.input_px,
            "rows": [],
        }
        for key, contender in contenders.items()
    }
    for contender in contenders.values():
        contender.place(device)
    with track("benchmark", len(params.batch_sizes), "batch sizes") as advance:
        for batch in params.batch_sizes:
            _take_turns(contenders, batch, params.seconds, device)
            for key, contender in contenders.items():
                found[key]["rows"].append(_row(batch, contender.seconds))
            advance()
    for figures in found.values():
        figures["tiles_per_s"] = max(row["tiles_per_s"] for row in figures["rows"])
        figures["slides_per_hour"] = 3600 * figures["tiles_per_s"] / params.slide_tiles
    return found


def gmacs(model: nn.Module, image_NCHW: Tensor) -> float:
    """10^9 multiply-adds a batch of the model's matrix products, convolutions and attention; norms and such left out.

    Fused attention kernels hide their products from the counter, so that attention is computed the plain way here.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        model(image_NCHW)
    return float(counter.get_total_flops()) / 2 / 1e9


@torch.inference_mode()
def _take_turns(contenders: Mapping[str, Contender], batch: int, seconds: float, device: torch.device) -> None:
    """Fill `seconds` of each contender: first a pass that does not count, then turns until each had its time."""
    images = {key: contender.images(batch, device) for key, contender in contenders.items()}
    for key, contender in contenders.items():
        _timed(contender.model, images[key], device)
        contender.seconds = []
    waiting = dict(contenders)
    while waiting:
        for key, contender in list(waiting.items()):
            contender.seconds.append(_timed(contender.model, images[key], device))
            spent, repeats = sum(contender.seconds), len(contender.seconds)
            if spent >= seconds and (repeats >= MIN_REPEATS or spent >= PATIENCE * seconds):
                del waiting[key]


def _timed(model: nn.Module, image_NCHW: Tensor, device: torch.device) -> float:
    """Seconds of one forward pass, until its answer is there."""
    start = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=_precision(device) == "bf16"):
        model(image_NCHW)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _row(batch: int, seconds: list[float]) -> dict[str, Any]:
    """One line of the latency table; throughput is at the median, which a moment's interruption does not move."""
    p50, p90 = np.percentile(seconds, [50, 90])
    return {
        "batch": batch,
        "latency_ms_p50": 1e3 * float(p50),
        "latency_ms_p90": 1e3 * float(p90),
        "tiles_per_s": batch / float(p50),
        "repeats": len(seconds),
    }


def _precision(device: torch.device) -> str:
    return "bf16" if device.type == "cuda" else "fp32"
