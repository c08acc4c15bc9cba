"""Hand-made manifests of a whole run, for what only reads manifests."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made.items import slide_item, student_manifest, tiles_item, tokens_item
from PIL import Image

from pipeline.base.items import SlidesManifest, TilesManifest, TokensManifest
from pipeline.base.manifest import Refusal
from pipeline.base.store import Ref, Store
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.evaluate.manifest import EvaluateItem, EvaluateManifest
from pipeline.report.page import Manifests

SLIDES = (
    ("alpha", "train"),
    ("beta", "train"),
    ("<script>alert(1)</script>", "train"),
    ("gamma", "test"),
    ("delta", "test"),
)


def accuracy(value: float) -> dict[str, Any]:
    return {"balanced_accuracy": value, "interval": [value - 0.04, value + 0.04], "accuracy": value}


def probes() -> dict[str, Any]:
    retention = {"value": 0.94, "interval": [0.91, 0.97]}
    return {
        "knn": {
            "teacher": accuracy(0.86),
            "student": accuracy(0.8),
            "untrained": accuracy(0.38),
            "retention": retention,
        },
        "linear": {
            "teacher": accuracy(0.9),
            "student": accuracy(0.85),
            "untrained": accuracy(0.4),
            "retention": retention,
        },
        "head_transfer": {"teacher": accuracy(0.9), "student": accuracy(0.78), "retention": retention},
        "majority": accuracy(0.17),
        "chance": 1 / 6,
        "classes": {"fat": 30, "glands": 40, "stroma": 30},
        "dropped_classes": ["necrosis"],
        "n_train": 400,
        "n": 100,
        "by": "tile",
    }


def from_labels() -> dict[str, Any]:
    rival, gain = {"from_labels": accuracy(0.64)}, {"value": 0.21, "interval": [0.15, 0.27]}
    by_draw = {"student": [0.84, 0.86], "from_labels": [0.66, 0.62]}
    facts = {"gain": gain, "by_draw": by_draw, "n_train": 60, "n": 100, "by": "tile"}
    return with_majority(probes()["linear"]) | rival | facts


def with_majority(table: dict[str, Any]) -> dict[str, Any]:
    return table | {"majority": accuracy(0.171)}


def fidelity() -> dict[str, Any]:
    return {
        "cosine": 0.62,
        "cosine_interval": [0.6, 0.64],
        "cosine_p5": 0.3,
        "cosine_raw": 0.93,
        "cosine_raw_constant": 0.7,
        "cosine_p5_interval": [0.2, 0.35],
        "patch": None,
        "structure": structure(),
        "n": 100,
        "by": "tile",
    }


def structure() -> dict[str, Any]:
    found = {"value": 0.7, "interval": [0.6, 0.8]}
    return {
        "cka": {"student": found, "untrained": found},
        "neighbours": {"student": found, "untrained": found},
        "rankme": {"teacher": found, "student": found, "untrained": found},
        "neighbours_chance": 0.1,
        "n": 100,
    }


def steady() -> dict[str, Any]:
    found = {"agreement": 0.8, "interval": [0.7, 0.9]}
    return {"teacher": found, "student": found, "difference": {"value": 0.037, "interval": [-0.1, 0.1]}}


def other(model: str, rate: float | None, why: str | None) -> dict[str, Any]:
    cell = {"model": model, "engine": "onnxruntime", "precision": "fp32", "device": "cpu", "why": why, "rows": []}
    return (
        cell
        if rate is None
        else {**speed(model, 1, rate), **cell, "rows": speed(model, 1, rate)["rows"], "cosine": 1.0}
    )


def speed(name: str, params: int, rate: float) -> dict[str, Any]:
    rows = [
        {
            "batch": b,
            "latency_ms_p50": 1e3 * b / rate,
            "latency_ms_p90": 1.1e3 * b / rate,
            "latency_ms_p99": None,
            "tiles_per_s": rate,
            "memory_mb": 70.0 + b,
            "repeats": 9,
        }
        for b in (1, 8)
    ]
    return {
        "name": name,
        "params": params,
        "gmacs": params / 1e8,
        "input_px": 224,
        "rows": rows,
        "tiles_per_s": rate,
        "slides_per_hour": rate * 3600 / 10000,
        "memory_mb": 76.0,
        "joules_per_tile": None,
        "why": None,
    }


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
    machine = {
        "cpu": "A Processor", "cores": 2, "threads": 2, "memory_gb": 24.0, "gpu": None, "system": "Linux x86_64",
        "python": "3.11.0", "load": 1.7, "versions": {"torch": "2.14.1"},
    }  # fmt: skip
    return {
        "slides": SlidesManifest(items=tuple(slides), refused=refused[:1]),
        "tiles": TilesManifest(recipe_key="t" * 32, recipe={"tile_px": 224}, items=tuple(tiles), refused=refused),
        "tokens": TokensManifest(recipe_key="u" * 32, items=tuple(tokens), refused=refused),
        "student": student_manifest().model_copy(update={"recipe_key": "v" * 32}),
        "evaluate": EvaluateManifest(
            items=tuple(held),
            summary={
                "teacher": "demo",
                "student": "efficientvit_b0",
                "primary": "test",
                "fidelity": {"test": fidelity()},
                "probes": {"test": probes()},
                "few_shot": {"test": {"4": with_majority(probes()["linear"]), "16": with_majority(probes()["knn"])}},
                "from_labels": {"test": {"10": from_labels()}},
                "slide_labels": {
                    "test": with_majority(probes()["linear"]) | {"head_transfer": probes()["head_transfer"]}
                },
                "sets": {"crc": {"test": {"fidelity": fidelity(), "probes": probes(), "few_shot": None}}},
                "robustness": {"changes": {"stain": steady(), "blur": steady()}, "n": 64, "by": "tile"},
                "maps": {
                    "explained": [0.4, 0.2, 0.1],
                    "grid": [8, 8],
                    "tiles": [{"slide": "<script>alert(1)</script>", "row": 3, "cosine": 0.51}],
                },
                "why": {},
                "warnings": ["test: 2 tiles are nearly the same"],
                "trained_on_test": [],
            },
        ),
        "benchmark": BenchmarkManifest(
            summary={
                "machine": machine,
                "engine": "eager",
                "precision": "fp32",
                "device": "cpu",
                "slide_tiles": 10000,
                "others": [
                    other("teacher", 40.0, None),
                    other("student", None, "it has <b>no</b> model.onnx"),
                ],
                "speedup": 4.1,
                "speedup_interval": [3.8, 4.35],
                "speedups": {},
                "teacher": speed("demo", 12_000_000, 40.0),
                "student": speed("efficientvit_b0", 3_400_000, 164.0),
            },
        ),
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
    """What the stages upstream leave in plots/: a training curve, every student's point, the maps of one tile."""
    folder = tmp_path / "plots"
    (folder / "maps").mkdir(parents=True)
    rows = [
        f"{i},{1.6 * 0.97**i + 0.4:.4f},{0.8 * 0.97**i + 0.15:.4f},{0.8 * 0.97**i + 0.25:.4f},0.001" for i in range(200)
    ]
    (folder / "training.csv").write_text("step,loss,cls,patch,lr\n" + "\n".join(rows) + "\n")
    students = [
        "name,student,relative_time,ms_a_tile,latency_ms,tiles_per_s,linear_student,knn_student,cosine,on_front,time_low,time_high",
        "teacher,demo,1.0,25.0,25.0,40.0,0.9,0.86,1.0,False,,",
        "tiny-wren,test_vit,0.1,2.5,3.0,400.0,0.7,0.6,0.4,True,0.08,0.13",
        "workspace,efficientvit_b0,0.24,6.1,6.1,164.0,0.85,0.8,0.62,True,0.23,0.26",
        "<i>slow</i>,efficientvit_b1,0.5,12.5,13.0,80.0,0.8,0.7,0.6,False,,",
    ]
    (folder / "pareto.csv").write_text("\n".join(students) + "\n")
    for name in ("tile.jpg", "teacher.png", "student.png"):
        Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(folder / "maps" / f"0-{name}")
    return folder
