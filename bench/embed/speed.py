"""How fast slides become features: `histill embed` against the loop that labs run, on the same tiles, model and cores.

`histill embed` is a process of its own, start to end: its imports, the look for tissue, reading, the model, writing.
The plain loop (plain_embed.py) is one too, and runs on the first `--share` of the same tiles, with torch's threads as
they start, which is what labs run, and with one, since its worker has a core too. Two ratios are of the faster of them:
`times_as_fast` without the loop's imports, though ours are in, and `times_as_fast_with_starts`, each from start to end.

What bounds ours is measured apart on such a share, on one thread: the CPU seconds of reading alone and of the model
alone; spread over the cores they are the least wall time that any order of the same work could take. A core that works
beside others is slower than one that works alone, so the same is measured once more with a process on every core at
once (`together`). `steady` is the wall time without that of a slide of nine tiles.

Without a slide one is made, of demo tissue at 0.293 um/px, which has some 10,000 tiles; without a student
EfficientViT-B0 at 112 px with random weights. What this does not cover: cold disks, network mounts, a GPU.

Run: python -m bench.embed.speed [SLIDE] [--student DIR] [--side-px 50000] [--share 2400]; about two minutes on two idle
cores; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from bench.clock import Spent, clock, median, since
from bench.embed.made_student import make_student
from bench.printing import finish, show
from bench.scratch import die_with_parent, scratch
from bench.tiles.speed import make_slide
from pipeline.base.limits import usable_cores
from pipeline.embed.encoders.choose import student_encoder
from pipeline.embed.encoders.encoder import Facts
from pipeline.embed.worker import AT_ONCE
from pipeline.params.tiles import TilesParams
from pipeline.slides.read.opening import open_slide
from pipeline.slides.read.reader import SlideReader
from pipeline.slides.sources import Source
from pipeline.student.shipped import Shipped
from pipeline.tiles.opencv import cv2
from pipeline.tiles.pixels import fit_squares
from pipeline.tiles.scores import sharpnesses
from pipeline.tiles.whole_slide import Chosen, choose_tiles

SMALL_PX, SIDE_PX = 1024, 50_000
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Run:
    """What a child process took, and said in its last line."""

    spent: Spent
    peak_mb: float
    said: str


def child(command: Sequence[str], within: Path = ROOT, threads: int | None = None) -> Run:
    """Run a process to its end; raises SystemExit with what it said where it fails."""
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | {"PYTHONPATH": str(ROOT)}
    if threads is not None:
        env["OMP_NUM_THREADS"] = str(threads)
    began = clock()
    process = subprocess.Popen(
        command,
        cwd=within,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=die_with_parent,
    )
    assert process.stdout is not None
    out = process.stdout.read()
    process.stdout.close()
    # Its own peak, which `resource.getrusage` would mix with that of children before it.
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    taken, peak_mb = since(began), used.ru_maxrss / 1024
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed:\n{out}")
    return Run(taken, peak_mb, (out.splitlines() or [""])[-1])


def ours(slide: Path, student: Path, out: Path) -> Run:
    """`histill embed`, in a folder without params.yaml; the sharpness that drops tiles is as by default."""
    words = ["embed", str(slide), "--out", str(out), "--student", str(student)]
    return child([sys.executable, "-m", "stages", *words], within=out.parent)


def reading_alone(slide: Path, input_px: int, share: int) -> tuple[Spent, Spent, int]:
    """On one thread: the look at the slide; its first `share` tiles, as the model is given them; and how many."""
    cv2.setNumThreads(1)
    began = clock()
    with open_slide(slide) as reader:
        chosen = choose_tiles(reader, Source("it", "file", slide), TilesParams())
        looked, began = since(began), clock()
        n = read_all(chosen, reader, np.arange(min(len(chosen), share)), input_px)
    return looked, since(began), n


def read_all(chosen: Chosen, reader: SlideReader, row_M: NDArray[np.int64], input_px: int) -> int:
    """Read and score those tiles and fit what is sharp, some at a time as the job does; how many that were."""
    n, waiting = 0, list[NDArray[np.uint8]]()
    for tile in chosen.read(reader, row_M):
        if tile.tile_HWC is not None:
            waiting.append(tile.tile_HWC)
        if len(waiting) == AT_ONCE:
            n += _fit(waiting, input_px)
            waiting = []
    return n + (_fit(waiting, input_px) if waiting else 0)


def _fit(waiting: list[NDArray[np.uint8]], input_px: int) -> int:
    tile_NHWC = np.stack(waiting)
    sharp_NHWC = tile_NHWC[sharpnesses(tile_NHWC) >= TilesParams().min_sharpness]
    return len(fit_squares(sharp_NHWC, input_px)) if len(sharp_NHWC) else 0


def model_alone(student: Path, n: int) -> tuple[Spent, str]:
    """So many images on one thread, in the engine that is chosen here; and its name."""
    shipped = Shipped.of_folder(student)
    facts = Facts(shipped.architecture, shipped.digest, shipped.width, shipped.input_px)
    encoder = student_encoder(shipped, facts, "auto", "cpu", 1)
    side = shipped.input_px
    image_NHWC = np.random.default_rng(0).integers(0, 256, (encoder.batch_size, side, side, 3), np.uint8)
    encoder(image_NHWC)
    began = clock()
    for _ in range(-(-n // encoder.batch_size)):
        encoder(image_NHWC)
    return since(began), encoder.engine


def _part(job: tuple[Path, Path, int, int, int]) -> float:
    """CPU seconds of this process for its part of so many tiles, read, and of as many images, answered."""
    slide, student, share, i, of = job
    cv2.setNumThreads(1)
    with open_slide(slide) as reader:
        chosen = choose_tiles(reader, Source("it", "file", slide), TilesParams())
        row_M = np.array_split(np.arange(min(len(chosen), share)), of)[i]
        began = time.process_time()
        read_all(chosen, reader, row_M, Shipped.of_folder(student).input_px)
        reading_s = time.process_time() - began
    return reading_s + model_alone(student, len(row_M))[0].cpu_s


def together(slide: Path, student: Path, share: int, cores: int) -> float:
    """CPU seconds of reading and of the model, a process on every core at once, each with its part of the share."""
    jobs = [(slide, student, share, i, cores) for i in range(cores)]
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as apart:
        return sum(apart.map(_part, jobs))


@dataclass(frozen=True)
class Loop:
    """The plain loop: seconds before its first tile, a tile, and whose cosine with our answers is what."""

    before_s: float
    tile_s: float
    tile_cpu_s: float
    cosine: float

    def seconds(self, n: int) -> float:
        """Of so many tiles, without its start."""
        return n * self.tile_s


def plain(slide: Path, features: Path, student: Path, share: int, threads: int | None) -> Loop:
    """Run it on the first `share` tiles, with torch's threads as they start or as told."""
    words = [sys.executable, "-m", "bench.embed.plain_embed", str(slide), str(features), str(student), str(share)]
    run = child(words, threads=threads)
    said = json.loads(run.said)
    return Loop(
        before_s=run.spent.wall_s - said["wall_s"],
        tile_s=said["wall_s"] / said["tiles"],
        tile_cpu_s=said["cpu_s"] / said["tiles"],
        cosine=said["cosine_to_ours_median"],
    )


def main() -> None:
    """Print the table, and the JSON line."""
    parser = argparse.ArgumentParser(description="histill embed against the plain loop")
    parser.add_argument("slide", nargs="?", type=Path)
    parser.add_argument("--student", type=Path)
    parser.add_argument("--side-px", type=int, default=SIDE_PX)
    parser.add_argument("--share", type=int, default=2400, help="tiles of what is measured apart")
    parser.add_argument("--repeats", type=int, default=2, help="of `histill embed`")
    args = parser.parse_args()
    cores, load = usable_cores(), round(os.getloadavg()[0], 1)
    with scratch() as folder:
        slide, small = (args.slide.resolve() if args.slide else folder / "bench.tif"), folder / "small.tif"
        if args.slide is None:
            make_slide(slide, args.side_px)
        make_slide(small, SMALL_PX)
        student = args.student.resolve() if args.student else make_student(folder / "student")
        # What is measured once, and files in the page cache, are nobody's in particular.
        start = median([ours(small, student, folder / f"small{i}").spent for i in range(4)][1:])
        runs = [ours(slide, student, folder / f"out{i}") for i in range(args.repeats)]
        (features,) = (folder / "out0").glob("*/features_*/*.h5")
        with h5py.File(features) as file:
            n = len(file["coords"])
        loops = {
            name: plain(slide, features, student, args.share, of) for name, of in (("as_started", None), ("one", 1))
        }
        looked, read, n_read = reading_alone(slide, Shipped.of_folder(student).input_px, args.share)
        model, engine = model_alone(student, n_read)
        together_s = together(slide, student, args.share, cores) * n / n_read
    took, loop = median([run.spent for run in runs]), min(loops.values(), key=lambda one: one.tile_s)
    read_s, model_s = looked.cpu_s + read.cpu_s * n / n_read, model.cpu_s * n / n_read
    bound_s, bound_together_s = (read_s + model_s) / cores, (together_s + looked.cpu_s) / cores
    rows = [
        *((f"plain loop, threads {name}", n_read, one.tile_s, one.tile_cpu_s) for name, one in loops.items()),
        ("histill embed", n, took.wall_s / n, took.cpu_s / n),
        ("  reading alone, one thread", n_read, read.wall_s / n_read, read.cpu_s / n_read),
        (f"  {engine} alone, one thread", n_read, model.wall_s / n_read, model.cpu_s / n_read),
        (f"  both, a process on each of {cores} cores", n_read, None, together_s / n),
    ]
    shown = [(what, of, wall and 1000 * wall, 1000 * cpu) for what, of, wall, cpu in rows]
    show(f"A slide to its features on {cores} cores", ("what", "tiles", "wall ms a tile", "CPU ms a tile"), shown)
    finish(
        {
            "tiles": n,
            "share": n_read,
            "engine": engine,
            "cores": cores,
            "load": load,
            "times_as_fast": round(loop.seconds(n) / took.wall_s, 3),
            "times_as_fast_with_starts": round((loop.before_s + loop.seconds(n)) / took.wall_s, 3),
            "times_as_fast_as_labs_run_it": round(loops["as_started"].seconds(n) / took.wall_s, 3),
            "times_as_fast_cpu": round(loop.tile_cpu_s * n / took.cpu_s, 3),
            "wall_s": round(took.wall_s, 2),
            "cpu_s": round(took.cpu_s, 2),
            "bound_s": round(bound_s, 2),
            "wall_over_bound": round(took.wall_s / bound_s, 3),
            "steady_over_bound": round((took.wall_s - start.wall_s) / bound_s, 3),
            "bound_together_s": round(bound_together_s, 2),
            "wall_over_bound_together": round(took.wall_s / bound_together_s, 3),
            "steady_over_bound_together": round((took.wall_s - start.wall_s) / bound_together_s, 3),
            "ms_a_tile_loop": round(1000 * loop.tile_s, 3),
            "ms_a_tile_reading": round(1000 * read.cpu_s / n_read, 3),
            "ms_a_tile_model": round(1000 * model.cpu_s / n_read, 3),
            "loop_start_s": round(loop.before_s, 2),
            "small_slide_s": round(start.wall_s, 2),
            "small_slide_cpu_s": round(start.cpu_s, 2),
            "slides_an_hour": round(3600 / took.wall_s, 1),
            "peak_rss_mb": round(max(run.peak_mb for run in runs)),
            "cosine_to_the_loop": round(loop.cosine, 5),
        }
    )


if __name__ == "__main__":
    main()
