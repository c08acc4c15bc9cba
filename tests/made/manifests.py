"""Hand-made manifests of a whole run, for what only reads manifests."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made.figures import summary
from made.items import slide_item, student_manifest, tiles_item, tokens_item
from PIL import Image

from pipeline.base.figures import Figure, Interval, NotMeasured
from pipeline.base.items import SlidesManifest, TilesManifest, TokensManifest
from pipeline.base.manifest import Refusal
from pipeline.base.store import Ref, Store
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.benchmark.results import MODELS, Benchmark, Cell, Costs, Machine, Role, Speedup, Timing, WholeSlides
from pipeline.evaluate.manifest import EvaluateItem, EvaluateManifest
from pipeline.report.across.pareto import Pareto, ParetoRow
from pipeline.report.page import Manifests

SLIDES = (
    ("alpha", "train"),
    ("beta", "train"),
    ("<script>alert(1)</script>", "train"),
    ("gamma", "test"),
    ("delta", "test"),
)


def other(model: Role, rate: float | None, why: str | None) -> Cell:
    rows = () if rate is None else timings(rate)
    place = {"engine": "onnxruntime", "precision": "fp32", "device": "cpu"}
    return Cell(model=model, **place, why=why, rows=rows, cosine=None if rate is None else 1.0)


def timings(rate: float, batches: tuple[int, ...] = (1, 8)) -> tuple[Timing, ...]:
    """So many tiles a second at every batch size."""
    return tuple(
        Timing(
            batch=b,
            latency_ms_p50=1e3 * b / rate,
            latency_ms_p90=1.1e3 * b / rate,
            latency_ms_p99=None,
            tiles_per_s=rate,
            joules_per_tile=None,
            memory_mb=70.0 + b,
            process_mb=400.0,
            repeats=9,
        )
        for b in batches
    )


def ratio(value: float, low: float | None = None, high: float | None = None) -> Figure:
    """A speed-up of ten rounds, with its interval or without one."""
    ends = None if low is None else Interval(low=low, high=high, unit="round", units=10, method="bootstrap")
    return Figure(value=value, interval=ends or NotMeasured(why="2 rounds"), n=10)


def whole(tiles_per_s: float) -> WholeSlides:
    """Of a model of so many tiles a second, where reading takes 2 ms a tile."""
    model_ms = 1000 / tiles_per_s
    return WholeSlides(
        engine="eager", precision="fp32", device="cpu", an_hour=ratio(360 / (2 + model_ms), None), reading_ms=2.0,
        model_ms=model_ms, slides=3, tiles=256,
    )  # fmt: skip


def timed(teacher: float, student: float, speedup: Figure, *others: Cell) -> Benchmark:
    """A benchmark on a processor: both models' tiles a second, and what other engines came to."""
    place = {"engine": "eager", "precision": "fp32", "device": "cpu"}
    machine = Machine(
        cpu="A Processor", cores=2, threads=2, memory_gb=24.0, gpu=None, system="Linux x86_64", python="3.11.0",
        load=1.7, versions={"torch": "2.14.1"},
    )  # fmt: skip
    models = {
        "teacher": Costs(name="demo", params=12_000_000, gmacs=0.12, input_px=224),
        "student": Costs(name="efficientvit_b0", params=3_400_000, gmacs=0.034, input_px=224),
    }
    leads = [
        Cell(model=m, **place, cosine=1.0, rows=timings(r)) for m, r in zip(MODELS, (teacher, student), strict=True)
    ]
    return Benchmark(
        machine=machine, slide_tiles=10000, models=models, cells=(*leads, *others),
        speedups=(Speedup(**place, ratio=speedup),),
        whole={m: whole(r) for m, r in zip(MODELS, (teacher, student), strict=True)},
    )  # fmt: skip


@pytest.fixture
def manifests() -> Manifests:
    """One manifest of each stage that the report reads, as a run of five slides would leave them."""
    refused = (
        Refusal(id="broken", reason="OpenSlide cannot open it", fix="make it again from the scanner's file"),
        Refusal(id="<img src=x onerror=alert(2)>", reason="no <b>mpp</b>", fix="give mpp in slides.csv"),
    )
    catalogue = {"width_px": 2560, "height_px": 2560, "mpp": (0.5, 0.5)}
    slides = [slide_item(i, s, key=f"k{n}", **catalogue) for n, (i, s) in enumerate(SLIDES)]
    tiles = [tiles_item(i, 80 + n, s, key=f"k{n}", tissue_mm2=1.1) for n, (i, s) in enumerate(SLIDES)]
    tokens = [tokens_item(i, 80 + n, s, key=f"k{n}") for n, (i, s) in enumerate(SLIDES)]
    held = [
        EvaluateItem(id=i, key=f"k{n}", digest="d", n=80 + n, split=s, cosine=0.6 - n / 50, cosine_p5=0.3)
        for n, (i, s) in enumerate(SLIDES)
        if s == "test"
    ]
    others = other("teacher", 40.0, None), other("student", None, "it has <b>no</b> model.onnx")
    return {
        "slides": SlidesManifest(items=tuple(slides), refused=refused[:1]),
        "tiles": TilesManifest(recipe_key="t" * 32, recipe={"tile_px": 224}, items=tuple(tiles), refused=refused),
        "tokens": TokensManifest(recipe_key="u" * 32, items=tuple(tokens), refused=refused),
        "student": student_manifest().model_copy(update={"recipe_key": "v" * 32}),
        "evaluate": EvaluateManifest(
            items=tuple(held),
            summary=summary(),
        ),
        "benchmark": BenchmarkManifest(summary=timed(40.0, 164.0, ratio(4.1, 3.8, 4.35), *others)),
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with the pictures of every slide but the last."""
    made = Store(tmp_path / "store")
    random = np.random.default_rng(0)
    for n in range(len(SLIDES) - 1):
        with made.write(Ref("tiles", "t" * 32, f"k{n}"), {"tile_px": 224}) as folder:
            for name in ("thumb.jpg", "overlay.jpg", "mosaic.jpg"):
                out = io.BytesIO()
                Image.fromarray(random.integers(150, 255, (96, 128, 3), dtype=np.uint8)).save(out, "JPEG")
                (folder / name).write_bytes(out.getvalue())
    return made


@pytest.fixture
def plots(tmp_path: Path) -> Path:
    """What the stages upstream leave in plots/: a training curve, the maps of one tile."""
    folder = tmp_path / "plots"
    (folder / "maps").mkdir(parents=True)
    rows = [
        f"{i},{1.6 * 0.97**i + 0.4:.4f},{0.8 * 0.97**i + 0.15:.4f},{0.8 * 0.97**i + 0.25:.4f},0.001" for i in range(200)
    ]
    (folder / "training.csv").write_text("step,loss,cls,patch,lr\n" + "\n".join(rows) + "\n")
    for name in ("tile.jpg", "teacher.png", "student.png"):
        Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(folder / "maps" / f"0-{name}")
    return folder


def pareto_row(name: str, student: str, time: float, linear: float, cosine: float, *ends: float) -> ParetoRow:
    """A student whose share of the teacher's time is `time`; the teacher takes 25 ms a tile."""
    low, high = ends or (None, None)
    return ParetoRow(
        name=name,
        student=student,
        relative_time=time,
        ms_a_tile=25 * time,
        latency_ms=25 * time,
        tiles_per_s=40 / time,
        linear_student=linear,
        knn_student=linear - 0.05,
        cosine=cosine,
        on_front=False,
        time_low=low,
        time_high=high,
    )


@pytest.fixture
def compared() -> Pareto:
    """This run's student, one that is faster, and one that is beaten."""
    wren = replace(pareto_row("tiny-wren", "test_vit", 0.1, 0.7, 0.4, 0.08, 0.13), on_front=True)
    here = replace(pareto_row("workspace", "efficientvit_b0", 0.24, 0.85, 0.62, 0.23, 0.26), on_front=True)
    slow = pareto_row("<i>slow</i>", "efficientvit_b1", 0.5, 0.8, 0.6)
    return Pareto(pareto_row("teacher", "demo", 1.0, 0.9, 1.0), (wren, here, slow), "linear_student", ())
