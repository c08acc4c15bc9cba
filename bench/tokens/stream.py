"""The whole tokens stream from store to store against its teacher's forward pass alone, and against the plain loop.

    forward   the same engine, batch and uint8 tensors that are on the device already; its raw answers are dropped
    stream    JPEG tiles of several slides in a store -> decode -> copy -> forward -> last norm, standardise, int8 ->
              copy back -> token items in the store, checksums and syncs included; one batch shape, all batches full
    plain     what users write today (plain_loop.py): DataLoader, features collected, h5 at the end; on a GPU on a tenth
              of the tiles, since it holds all features (13 GB of ViT-L/16's at 64 batches of 256) until then

Each figure is the median of `--rounds` rounds in which the three take turns, and the ratio the median of the rounds'
own ratios, by wall and by CPU seconds, since other work on the machine slows all of them. The weights are random: the
time does not depend on them.

What bounds it: a ViT-L/16 tile is 123 GFLOP against 0.2 MB written and a tenth of that read, so the forward pass is the
bound wherever threads decode JPEG as fast as it takes tiles (some 3,000 a second each), and the rest of the stream has
to hide behind it. `mfu` is the forward pass's share of a big bf16 matrix product measured in the same run,
attention included, on a GPU only, where the forward pass of each engine that is installed is timed
as well. Not covered: cold disks, several devices, real weights. On a GPU not measured.

Run: python -m bench.tokens.stream [--teacher NAME]; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import itertools
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.clock import Spent, clock, median, ratios, since
from bench.printing import finish, show
from bench.scratch import scratch
from bench.tokens import plain_loop
from pipeline.base.errors import EngineError
from pipeline.base.items import TRAIN, TilesItem, TilesManifest
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.params.tokens import GateParams, TokensParams
from pipeline.teachers.engines import Engine, build_engine, pick_device, resolve_precision
from pipeline.teachers.preparation import Preparation
from pipeline.teachers.registry import entry_of
from pipeline.teachers.teacher import Teacher
from pipeline.teachers.weights import create_model
from pipeline.tiles.item.meta import Meta
from pipeline.tiles.item.writer import TileWriter
from pipeline.tiles.pixels import encode_jpeg
from pipeline.tokens import calibration
from pipeline.tokens.job import Job, Outcome
from pipeline.tokens.recipe import tokens_recipe
from pipeline.tokens.run.batches import decode_threads
from pipeline.tokens.run.worker import Worker

DEFAULT_TEACHER = "vit_small_patch16_224"
_SLIDES = (0.55, 0.3, 0.1, 0.05)
"""Shares of the tiles: one large slide and some that are no whole batch."""
_RECIPE = {"made": "for the bench"}
_NO_GATE = GateParams(tiles=8, mean_cosine=0.0, worst_cosine=0.0, fp32_mean_cosine=0.0, fp32_worst_cosine=0.0)
"""Random weights tell tiles apart by next to nothing, which bf16 loses."""
_PICTURES = 64
_MATMUL, _MATMUL_REPEATS = 8192, 20
_PLAIN_SHARE = 10


def random_teacher(name: str) -> Teacher:
    """A teacher of the registry, or timm's model of that name, with seeded random weights."""
    torch.manual_seed(0)
    entry = entry_of(name)
    architecture, kwargs = (name, {}) if entry is None else (entry.architecture or name, dict(entry.model_kwargs))
    model = create_model(architecture, kwargs, pretrained=False)
    cfg: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    input_px = cfg.get("input_size", (3, 224, 224))[-1] if entry is None else entry.input_px
    mean, std = cfg.get("mean", (0.5,) * 3), cfg.get("std", (0.5,) * 3)
    return Teacher(name, model, int(input_px), Preparation(tuple(mean), tuple(std)))


def make_tiles(store: Store, n: int, side_px: int, folder: Path) -> tuple[TilesManifest, list[Path]]:
    """n noisy, tissue-coloured JPEG tiles as items of several slides, and the same as files for the plain loop."""
    rng, items, paths = np.random.default_rng(0), list[TilesItem](), list[Path]()
    pictures = [_picture(rng, side_px) for _ in range(_PICTURES)]
    sizes = [max(1, round(n * share)) for share in _SLIDES[1:]]
    for slide, size in enumerate([n - sum(sizes), *sizes]):
        ref = Ref("tiles", recipe_key(_RECIPE | {"tile_px": side_px}), f"slide{slide}")
        with store.write(ref, _RECIPE) as out:
            writer = TileWriter(out)
            for data in itertools.islice(itertools.cycle(pictures), size):
                writer.append(data)
                paths.append(folder / f"{len(paths)}.jpg")
                paths[-1].write_bytes(data)
            writer.close(Meta(kind="file", tile_px=1))
        name, digest = ref.item, store.digest(ref)
        items.append(TilesItem(id=name, key=name, digest=digest, n=size, kind="file", split=TRAIN, tissue_mm2=None))
    recipe = _RECIPE | {"tile_px": side_px}
    return TilesManifest(recipe_key=recipe_key(recipe), recipe=recipe, items=tuple(items)), paths


def _picture(rng: np.random.Generator, side_px: int) -> bytes:
    coarse = rng.normal(0, 40, (side_px // 8 + 1, side_px // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)
    rgb_HWC = (190, 130, 180) + coarse[:side_px, :side_px] + rng.normal(0, 6, (side_px, side_px, 3))
    return encode_jpeg(rgb_HWC.clip(0, 255).astype(np.uint8), 95)


def matmul_tflops(device: torch.device) -> float:
    """Measured throughput of a big bf16 matrix product: 20 of them a timed call, one after the other; the best call."""
    a, b = (torch.randn(_MATMUL, _MATMUL, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = torch.empty_like(a)

    def products() -> None:
        for _ in range(_MATMUL_REPEATS):
            torch.mm(a, b, out=product)

    products()
    seconds = min(timed(products, device).wall_s for _ in range(_MATMUL_REPEATS)) / _MATMUL_REPEATS
    return 2 * _MATMUL**3 / seconds / 1e12


def forward_by_engine(worker: Worker, tiles: int, rounds: int) -> dict[str, float | None]:
    """Tiles/s of the forward pass alone on each engine, median of the rounds, None for one that cannot be built here.

    Not run on a GPU yet.
    """
    job, device, speeds = worker.job, worker.device, dict[str, float | None]()
    size, side_px = job.params.batch_size, worker.teacher.input_px
    image_BSSC = torch.randint(0, 256, (size, side_px, side_px, 3), dtype=torch.uint8).to(device)
    golden_BSSC = image_BSSC if job.recipe["precision"] == "fp8" else None
    names = ["eager", "compile"] + ["tensorrt"] * (importlib.util.find_spec("torch_tensorrt") is not None)
    for name in ["tensorrt"] if job.recipe["precision"] == "fp8" else names:
        params = job.params.model_copy(update={"engine": name, "precision": job.recipe["precision"]})
        try:
            engine = build_engine(worker.teacher, params, device, job.store, golden_BSSC)
        except EngineError as error:
            print(f"{name}: {error}", flush=True)
            speeds[name] = None
            continue

        def forward(engine: Engine = engine) -> None:
            for _ in range(tiles // size):
                engine(image_BSSC)

        engine(image_BSSC)
        speeds[name] = round(statistics.median(tiles / timed(forward, device).wall_s for _ in range(rounds)), 2)
    return speeds


def timed(work: Callable[[], object], device: torch.device) -> Spent:
    """What the work takes until it is done, on the device too."""
    _finish(device)
    began = clock()
    work()
    _finish(device)
    return since(began)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(
    worker: Worker, plain_model: nn.Module, tiles: TilesManifest, paths: list[Path], rounds: int, folder: Path
) -> dict[str, Any]:
    """Tiles/s of each contender by round, and where the last stream's time went."""
    job, device, n = worker.job, worker.device, len(paths)
    size, side_px, teacher = job.params.batch_size, worker.teacher.input_px, worker.teacher
    image_BSSC = torch.randint(0, 256, (size, side_px, side_px, 3), dtype=torch.uint8).to(device)
    outcomes: list[Outcome] = []
    plain_paths = paths[: -(-n // _PLAIN_SHARE)] if device.type == "cuda" else paths

    def forward() -> None:
        for _ in range(n // size):
            worker.engine(image_BSSC)

    def stream() -> None:
        outcomes.append(worker.compute(tiles.items, lambda tiles, slide_id, cached: None))

    def plain() -> None:
        out = folder / "features.h5"
        colours = teacher.preparation.mean, teacher.preparation.std
        plain_loop.run(plain_model, device, plain_paths, size, side_px, *colours, out)

    contenders = {"forward": forward, "stream": stream, "plain loop": plain}
    taken: dict[str, list[Spent]] = {name: [] for name in contenders}
    forward()
    for turn in range(rounds):
        order = list(contenders.items())
        for name, work in order if turn % 2 == 0 else order[::-1]:
            taken[name].append(timed(work, device))
        for item in tiles.items:
            job.store.delete(job.ref(item.key))
    done = dict.fromkeys(contenders, n) | {"plain loop": len(plain_paths)}
    return {"taken": taken, "tiles": done, "spent": outcomes[-1].spent}


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the tokens stream against the forward pass alone and the plain loop")
    parser.add_argument(
        "--teacher", default=DEFAULT_TEACHER, help="one of `histill teachers` or a timm name; random weights"
    )
    parser.add_argument("--batch", type=int, help="tiles a forward pass (256 on a GPU, 16 on a CPU)")
    parser.add_argument("--tiles", type=int, help="made full batches of (64 batches on a GPU, 8 on a CPU)")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp8"))
    parser.add_argument("--engine", default="auto", choices=("auto", "eager", "compile", "tensorrt"))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    device = pick_device()
    size = options.batch or (256 if device.type == "cuda" else 16)
    n = -(-(options.tiles or size * (64 if device.type == "cuda" else 8)) // size) * size
    teacher = random_teacher(options.teacher)
    # Before an engine lays the weights out its own way.
    plain_model = copy.deepcopy(teacher.model).to(device)
    params = TokensParams(
        teacher=options.teacher, batch_size=size, precision=options.precision, engine=options.engine, gate=_NO_GATE
    )
    with scratch() as folder:
        store = Store(folder / "store")
        tiles, paths = make_tiles(store, n, teacher.input_px, folder)
        recipe = tokens_recipe(tiles, teacher, params, resolve_precision(params.precision, device))
        golden = tuple(calibration.choose(tiles.items, 8))
        worker = Worker(Job(tiles.recipe, recipe, params, store, 0, golden), teacher, device)
        worker.calibrate(golden)
        result = measure(worker, plain_model, tiles, paths, options.rounds, folder)
    taken = result["taken"]
    speed = {name: result["tiles"][name] / median(each).wall_s for name, each in taken.items()}
    ratio = ratios(taken["forward"], taken["stream"])
    gpu: dict[str, Any] = {}
    if device.type == "cuda":
        with FlopCounterMode(display=False) as flops, torch.inference_mode():
            worker.teacher.trunk(torch.zeros(1, 3, teacher.input_px, teacher.input_px, device=device))
        matmul = matmul_tflops(device)
        gpu = {
            "matmul_tflops": round(matmul, 1),
            "mfu": round(speed["forward"] * flops.get_total_flops() / (matmul * 1e12), 4),
            "forward_by_engine": forward_by_engine(worker, n, options.rounds),
        }
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    rows = [(name, tiles_per_s, "") for name, tiles_per_s in speed.items()]
    rows += [
        (f"forward, {name}", alone, "on its own, after the rounds")
        for name, alone in gpu.get("forward_by_engine", {}).items()
    ]
    what = f"{options.teacher}, random weights, {recipe['precision']}, engine {worker.engine.name}, on {name}; "
    what += f"{n} tiles of {teacher.input_px} px, batch {size}, {decode_threads(device)} decode threads"
    show(what, ("", f"tiles/s, median of {options.rounds}", ""), rows)
    total = taken["stream"][-1].wall_s
    rows = [(part, s, f"{s / total:.1%}") for part, s in sorted(result["spent"].items(), key=lambda entry: -entry[1])]
    show(f"The last stream's {total:.2f} s (threads of their own may overlap)", ("", "s", "share"), rows)
    finish(
        {
            "teacher": options.teacher,
            "device": name,
            "engine": worker.engine.name,
            "precision": recipe["precision"],
            "batch": size,
            "forward_tiles_per_s": round(speed["forward"], 2),
            "stream_tiles_per_s": round(speed["stream"], 2),
            "ratio": ratio["wall"],
            "ratio_cpu": ratio["cpu"],
            "plain_loop_tiles_per_s": round(speed["plain loop"], 2),
            "plain_loop_cpu": ratios(taken["plain loop"], taken["stream"])["cpu"],
            **gpu,
        }
    )


if __name__ == "__main__":
    main()
