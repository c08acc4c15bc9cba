"""Whether this machine answers as it should: every engine against fp32 eager, the stream against one step at a time.

    engines   each engine and precision that can be had here, through the stage's own gate on made tiles; thresholds
              lower than the stage's, since random weights tell tiles apart by less than real ones
    stream    token items that the stage's worker wrote (views, page-locked copies, three CUDA streams, the kernels),
              against the same engine and epilogue called tile batch by tile batch, each waited for: to the bit. The
              batches hold other neighbours, so it also shows whether a row's answer is its own on this device
    device    the same tokens against fp32 eager on the CPU

Run: python -m bench.tokens.check [--teacher NAME]; the last line is one JSON object; exits with 1 where one is not.
On a GPU it has not run.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.printing import finish, show
from bench.scratch import scratch
from bench.tokens.stream import make_tiles, random_teacher
from pipeline.base.items import TilesItem, TilesManifest
from pipeline.base.store import Store
from pipeline.params.tokens import AugmentParams, GateParams, TokensParams
from pipeline.teachers.engines import Eager, build_engine, gate, pick_device
from pipeline.teachers.teacher import Teacher
from pipeline.tokens import calibration
from pipeline.tokens.item.encoding import Finish, all_views
from pipeline.tokens.item.reader import TokenReader
from pipeline.tokens.job import Job
from pipeline.tokens.recipe import tokens_recipe
from pipeline.tokens.run.worker import Worker
from pipeline.views import apply_views, batch_fields, source_px

LOOSE = GateParams(tiles=8, mean_cosine=0.99, worst_cosine=0.95)
DEVICE_TOLERANCE = 0.02
"""Relative L2 of standardised tokens with the CPU's fp32; int8 alone is 0.9 %."""


def engines(teacher: Teacher, device: torch.device, store: Store, golden_NSSC: Tensor, size: int) -> dict[str, Any]:
    """{engine, precision: its cosines, or why it fails}."""
    wanted = [("eager", "bf16")]
    if device.type == "cuda":
        wanted += [("compile", "fp32"), ("compile", "bf16")]
        if importlib.util.find_spec("torch_tensorrt") is not None:
            wanted += [("tensorrt", "bf16"), ("tensorrt", "fp8")]
    told: dict[str, Any] = {}
    for engine, precision in wanted:
        params = TokensParams(teacher=teacher.name, engine=engine, precision=precision, batch_size=size)
        try:
            built = build_engine(teacher, params, device, store, golden_NSSC.to(device))
            told[f"{engine} {precision}"] = gate.compare(built, teacher, golden_NSSC, LOOSE, size).figures()
        except Exception as error:
            # Whatever one engine does, the others are checked.
            told[f"{engine} {precision}"] = f"{type(error).__name__}: {error}"
    return told


def stream(teacher: Teacher, device: torch.device, store: Store, tiles: TilesManifest, size: int) -> dict[str, Any]:
    """{differing_bytes of the stream, device_error, …} of all tiles, with two dihedral views and one of a crop."""
    augment = AugmentParams(views=1)
    params = TokensParams(teacher=teacher.name, engine="eager", precision="fp32", batch_size=size, views=2)
    params = params.model_copy(update={"augment": augment})
    reference = copy.deepcopy(teacher)
    golden = tuple(calibration.choose(tiles.items, 16))
    job = Job(tiles.recipe, tokens_recipe(tiles, teacher, params, "fp32"), params, store, 0, golden)
    worker = Worker(job, teacher, device)
    worker.calibrate(golden)
    worker.compute(tiles.items, lambda tiles, slide_id, cached: None)
    frozen = job.frozen()
    here = Eager(teacher, device, "fp32"), Finish(teacher, params.patch, frozen, device)
    cpu = torch.device("cpu")
    there = Eager(reference, cpu, "fp32"), Finish(reference, params.patch, frozen, cpu)
    differing, total, error, length = 0, 0, 0.0, 0.0
    for item in tiles.items:
        reader = TokenReader(store.path(job.ref(item.key)))
        for start in range(0, item.n, size):
            rows = np.arange(start, min(item.n, start + size))
            stored = reader.cls(rows), *(_views(reader, rows, what) for what in ("patch", "scale"))
            for again, found in zip(_answer(here, job, item, rows), stored, strict=True):
                differing += int((again.view(np.uint8) != found.view(np.uint8)).sum())
                total += found.nbytes
            if start == 0:
                few = rows[:4]
                live = _answer(there, job, item, few)
                z_nTD = reader.dequantised(few, 2)
                expected_nTD = TokenReader.dequantised(_Held(reader, live), np.arange(len(few)), 2)
                error += float(np.square(z_nTD - expected_nTD).sum())
                length += float(np.square(expected_nTD).sum())
    return {"bytes": total, "differing_bytes": differing, "device_error": (error / length) ** 0.5}


class _Held(TokenReader):
    """A reader over answers in memory, (n, V, …) each."""

    def __init__(self, like: TokenReader, answers: list[Any]) -> None:
        super().__init__(like.folder)
        self._answers = answers

    def patch(self, rows: Any, view: int = 0) -> Any:
        return self._answers[1][rows, view]

    def scale(self, rows: Any, view: int = 0) -> Any:
        return self._answers[2][rows, view]


def _views(reader: TokenReader, rows: Any, what: str) -> Any:
    return np.stack([getattr(reader, what)(rows, view) for view in range(reader.views)], 1)


@torch.inference_mode()
def _answer(by: tuple[Eager, Finish], job: Job, item: TilesItem, rows: Any) -> list[Any]:
    """cls, patch and scale (n, V, …) of a slide's rows, nothing overlapped."""
    (engine, finish), size, teacher = by, job.params.batch_size, by[0]._network
    side_px, tiles = source_px(job.params, job.tile_px, teacher.input_px), job.reader(item)
    image_BSSC = torch.zeros((size, side_px, side_px, 3), dtype=torch.uint8)
    for i, row in enumerate(rows):
        image_BSSC[i] = torch.from_numpy(tiles.image(int(row), side_px))
    fields_BVP = batch_fields(job.params, [(item.key, int(row)) for row in rows], size)
    views = []
    for view in range(job.params.n_views):
        viewed = apply_views(image_BSSC.to(engine.device), fields_BVP[:, view], teacher.input_px)
        views.append(finish(engine(viewed)))
    cls, patch, scale, _ = all_views(views)
    assert patch is not None and scale is not None
    return [np.ascontiguousarray(value[: len(rows)].cpu().numpy()) for value in (cls, patch, scale)]


def main(arguments: list[str] | None = None) -> None:
    """Check and print."""
    device = pick_device()
    gpu = device.type == "cuda"
    parser = argparse.ArgumentParser(description="engines and stream of the tokens stage against their references")
    parser.add_argument("--teacher", default="vit_large_patch16_224" if gpu else "test_vit", help="random weights")
    parser.add_argument("--batch", type=int, default=64 if gpu else 4)
    parser.add_argument("--tiles", type=int, default=1500 if gpu else 14)
    options = parser.parse_args(arguments)
    with scratch() as folder:
        store, teacher = Store(folder / "store"), random_teacher(options.teacher)
        tiles, _ = make_tiles(store, options.tiles, teacher.input_px, folder)
        told: dict[str, Any] = stream(teacher, device, store, tiles, options.batch)
        job = Job(tiles.recipe, {}, TokensParams(), store, 0)
        picked = calibration.choose(tiles.items, min(options.tiles, 32))
        images = [job.reader(item).image(row, teacher.input_px) for item, row in picked]
        told["engines"] = engines(teacher, device, store, torch.from_numpy(np.stack(images)), options.batch)
    good = told["differing_bytes"] == 0 and told["device_error"] <= DEVICE_TOLERANCE
    good &= all(isinstance(figures, dict) for figures in told["engines"].values())
    flat = {name: value for name, value in told.items() if name != "engines"} | told["engines"]
    show(f"{options.teacher}, random weights, on {device}", ("", "found"), list(flat.items()))
    finish({"device": str(device), "teacher": options.teacher, "good": good, **told})
    sys.exit(not good)


if __name__ == "__main__":
    main()
