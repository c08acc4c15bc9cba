"""Where stage `evaluate` spends its time on a large run, apart from running models.

A made store of small random tiles whose teacher's embeddings (N, D) are drawn around class centres, in slides of 2,000
tiles, half of them held out; the student is timm's smallest network at 32 px, so that what a student costs hardly
counts (it stands apart, under `student`). The stage's own code runs over it, under cProfile: a part is the cumulative
time of the function that it names. Not covered: patch tokens, robustness and data sets, which are bound by the models.

Run: python -m bench.evaluate.stage [--tiles N] [--width D]; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import resource
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from timm.models._hub import save_config_for_hf

from bench.clock import clock, since
from bench.printing import finish, show
from bench.scratch import scratch
from pipeline.base.arrays import ArrayWriter
from pipeline.base.items import (
    TRAIN,
    StudentFacts,
    StudentManifest,
    TeacherFacts,
    TilesItem,
    TilesManifest,
    TokensItem,
    TokensManifest,
)
from pipeline.base.limits import usable_cores
from pipeline.base.store import Ref, Store
from pipeline.base.types import Json
from pipeline.evaluate.stage import evaluate_student
from pipeline.evaluate.teacher_source import TeacherSource
from pipeline.evaluate.upstream import Upstream
from pipeline.params.evaluate import EvaluateParams
from pipeline.params.tokens import TokensParams
from pipeline.tiles.item.meta import Meta
from pipeline.tiles.item.writer import TileWriter
from pipeline.tiles.pixels import encode_jpeg

SIDE_PX, SLIDE_TILES, CLASSES = 32, 2000, 9
SPREAD = 0.08
"""Distance of the class centres along a channel, in deviations of the noise: a linear probe is right 4 times of 5."""
PARTS = {
    "student": ("features.py", "student_features"),
    "identical": ("leaks.py", "identical"),
    "near_duplicates": ("leaks.py", "near_duplicates"),
    "knn": ("probes.py", "vote"),
    "linear": ("probes.py", "linear_head"),
    "few_shot": ("few_shot.py", "few_shot"),
    "fidelity": ("embedding.py", "fidelity"),
    "structure": ("structure.py", "structure"),
    "slide_labels": ("mil.py", "slide_probes"),
    "intervals": ("scoring.py", "table"),
}
"""Part -> file and function; `intervals` is also inside of few_shot and slide_labels."""


def main() -> None:
    """Make a run, evaluate it, print where the time went."""
    parser = argparse.ArgumentParser(description="Time of stage evaluate by part.")
    parser.add_argument("--tiles", type=int, default=20_000, help="train tiles, and held-out tiles")
    parser.add_argument("--width", type=int, default=1024, help="channels of the teacher's embedding")
    options = parser.parse_args()
    with scratch() as folder:
        figures = bench(folder, options.tiles, options.width)
    show(f"Stage evaluate, {options.tiles} + {options.tiles} tiles", ("part", "s"), list(figures["seconds"].items()))
    finish(figures)


def bench(root: Path, n: int, width: int) -> dict[str, Any]:
    """Seconds by part of one evaluation of n train and n held-out tiles, of the same again; peak memory in MB."""
    store = Store(root / "store")
    tiles, tokens = make_run(store, n, width)
    export(root / "student", width)
    params, nowhere = EvaluateParams(robustness_tiles=0), TeacherSource(TokensParams(teacher="none"), 0)
    upstream = Upstream(tiles, tokens, trained(tokens.teacher), root / "student")
    before_mb, profile, start = _peak_mb(), cProfile.Profile(), clock()
    with profile:
        manifest = evaluate_student(upstream, params, nowhere, store, root / "plots")
    whole, start = since(start), clock()
    assert evaluate_student(upstream, params, nowhere, store, root / "plots") == manifest
    again = since(start)
    seconds = {part: _cumulative(profile, *where) for part, where in PARTS.items()}
    return {
        "tiles": n,
        "width": width,
        "cores": usable_cores(),
        "seconds": {part: round(s, 2) for part, s in seconds.items()}
        | {"all": round(whole.wall_s, 2), "again": round(again.wall_s, 2)},
        "cpu_seconds": round(whole.cpu_s, 2),
        "again_cpu_seconds": round(again.cpu_s, 2),
        "without_student": round(whole.wall_s - seconds["student"], 2),
        "peak_mb": round(_peak_mb()),
        "peak_before_mb": round(before_mb),
        "linear_teacher": manifest.numbers()["linear_teacher"],
    }


def make_run(store: Store, n: int, width: int) -> tuple[TilesManifest, TokensManifest]:
    """The manifests of tiles and tokens of 2 n tiles in the store; slide labels and tile labels on all."""
    random = np.random.default_rng(0)
    centre_KD = SPREAD * random.normal(size=(CLASSES, width))
    colour_KC = random.integers(60, 240, (CLASSES, 3))
    tiles, tokens = list[TilesItem](), list[TokensItem]()
    for k, first in enumerate(range(0, 2 * n, SLIDE_TILES)):
        label_N = random.integers(CLASSES, size=min(SLIDE_TILES, 2 * n - first))
        with store.write(Ref("tiles", "t", f"k{k}"), {}) as folder:
            writer = TileWriter(folder)
            for label in label_N.tolist():
                rgb_HWC = np.clip(random.normal(colour_KC[label], 40, (SIDE_PX, SIDE_PX, 3)), 0, 255).astype(np.uint8)
                writer.append(encode_jpeg(rgb_HWC, 90), label=str(label))
            writer.close(Meta(kind="file", tile_px=1))
        cls_ND = centre_KD[label_N] + random.normal(size=(len(label_N), width))
        with store.write(Ref("tokens", "u", f"k{k}"), {}) as folder:
            attributes: dict[str, Json] = {"grid": [2, 2], "patch": "none"}
            array = ArrayWriter(folder / "cls", (len(label_N), 1, width), len(label_N), np.float16, attributes)
            array.write(0, cls_ND.astype(np.float16)[:, None])
        token = TokensItem(
            id=f"s{k}",
            key=f"k{k}",
            digest="d",
            n=len(label_N),
            kind="file",
            split=TRAIN if first < n else "test",
            label="ab"[k % 2],
        )
        tokens.append(token)
        tiles.append(TilesItem(**token.model_dump(), tissue_mm2=None))
    recipe = {"teacher": {"name": "made", "weights_digest": "", "width": width, "grid": [2, 2], "input_px": SIDE_PX}}
    return (
        TilesManifest(recipe_key="t", recipe={"jpeg_quality": 90}, items=tuple(tiles)),
        TokensManifest(recipe_key="u", recipe=recipe, items=tuple(tokens)),
    )


def trained(teacher: TeacherFacts) -> StudentManifest:
    """The manifest of a student that learnt from none of the tiles."""
    facts = StudentFacts(
        model="test_efficientnet",
        input_px=SIDE_PX,
        width=teacher.width,
        grid=teacher.grid,
        tile_px=SIDE_PX,
        target_mpp=None,
        parameters=0,
        teacher=teacher,
        student={},
        precision="fp32",
        adapter=None,
        train_slides=0,
        train_tiles=0,
        views=1,
        steps=0,
        batch_size=1,
        tiles_seen=0,
        loss={},
    )
    return StudentManifest(summary=facts)


def export(folder: Path, width: int) -> None:
    """A student's folder as timm writes it."""
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=width)
    folder.mkdir()
    config = {"input_size": (3, SIDE_PX, SIDE_PX), "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 1.0}
    save_config_for_hf(model, str(folder / "config.json"), model_config={}, data_config=config)
    save_file(model.state_dict(), folder / "model.safetensors")


def _cumulative(profile: cProfile.Profile, file: str, function: str) -> float:
    found: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    return sum(entry[3] for (path, _, name), entry in found.items() if name == function and Path(path).name == file)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
