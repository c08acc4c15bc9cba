"""How fast slides become features: `histill embed` against the loop that labs run, on the same tiles, model and cores.

Each contender is a process of its own, start to end: `histill embed` with its imports, the look for tissue, reading,
the model and writing; the plain loop (plain_embed.py) from its first tile on, its imports left out, with torch's
threads as they start and with one, since its worker has a core too: the faster counts. What bounds ours is
measured apart, on one thread: the CPU seconds of reading alone and of the model alone; spread over the cores they are
the least wall time that any order of the same work could take. A core that works beside others is slower than one that
works alone, so the same is measured once more with a process on every core at once (`together`).

Without a slide one is made, of demo tissue at 0.293 um/px; without a student EfficientViT-B0 at 112 px with random
weights. What this does not cover: cold disks, network mounts, a GPU.

Run: python -m bench.embed.speed [SLIDE] [--student DIR] [--side-px 12288]; the last line is one JSON object. A slide of
39,000 px has some 10,000 tiles.
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

import numpy as np

from bench.clock import Spent, clock, median, ratios, since
from bench.embed.made_student import make_student
from bench.printing import finish, show
from bench.scratch import die_with_parent, scratch
from bench.tiles.speed import SIDE_PX, make_slide
from pipeline.base.limits import usable_cores
from pipeline.embed.encoders.choose import student_encoder
from pipeline.embed.encoders.encoder import Facts
from pipeline.params.tiles import TilesParams
from pipeline.slides.read.opening import open_slide
from pipeline.slides.sources import Source
from pipeline.student.shipped import Shipped
from pipeline.tiles.opencv import cv2
from pipeline.tiles.pixels import fit_square
from pipeline.tiles.scores import sharpness
from pipeline.tiles.whole_slide import choose_tiles

SMALL_PX = 1024
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


def reading_alone(slide: Path, input_px: int) -> tuple[Spent, int]:
    """The tiles of the slide on one thread, as the model is given them; and how many."""
    params = TilesParams()
    cv2.setNumThreads(1)
    began, n = clock(), 0
    with open_slide(slide) as reader:
        chosen = choose_tiles(reader, Source("it", "file", slide), params)
        for tile in chosen.read(reader, np.arange(len(chosen))):
            if tile.tile_HWC is not None and sharpness(tile.tile_HWC) >= params.min_sharpness:
                fit_square(tile.tile_HWC, input_px)
                n += 1
    return since(began), n


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


def _share(job: tuple[Path, Path, int, int, int]) -> float:
    """CPU seconds of this process for a share of the tiles, read, and of so many images, answered."""
    slide, student, input_px, i, of = job
    params = TilesParams()
    cv2.setNumThreads(1)
    with open_slide(slide) as reader:
        chosen = choose_tiles(reader, Source("it", "file", slide), params)
        row_M = np.array_split(np.arange(len(chosen)), of)[i]
        began = time.process_time()
        for tile in chosen.read(reader, row_M):
            if tile.tile_HWC is not None and sharpness(tile.tile_HWC) >= params.min_sharpness:
                fit_square(tile.tile_HWC, input_px)
        reading_s = time.process_time() - began
    return reading_s + model_alone(student, len(row_M))[0].cpu_s


def together(slide: Path, student: Path, cores: int) -> float:
    """CPU seconds of reading and of the model, a process on every core at once, each with its share of the tiles."""
    input_px = Shipped.of_folder(student).input_px
    jobs = [(slide, student, input_px, i, cores) for i in range(cores)]
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as apart:
        return sum(apart.map(_share, jobs))


def main() -> None:
    """Print the table, and the JSON line."""
    parser = argparse.ArgumentParser(description="histill embed against the plain loop")
    parser.add_argument("slide", nargs="?", type=Path)
    parser.add_argument("--student", type=Path)
    parser.add_argument("--side-px", type=int, default=SIDE_PX)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    cores, load = usable_cores(), round(os.getloadavg()[0], 1)
    with scratch() as folder:
        slide, small = (args.slide.resolve() if args.slide else folder / "bench.tif"), folder / "small.tif"
        if args.slide is None:
            make_slide(slide, args.side_px)
        make_slide(small, SMALL_PX)
        student = args.student.resolve() if args.student else make_student(folder / "student")
        # What is measured once, and files in the page cache, are nobody's in particular.
        start = [ours(small, student, folder / f"small{i}") for i in range(args.repeats + 1)][1:]
        whole, plain, said = list[Spent](), list[Spent](), {}
        peak_mb = 0.0
        for i in range(args.repeats):
            run = ours(slide, student, folder / f"out{i}")
            whole.append(run.spent)
            peak_mb = max(peak_mb, run.peak_mb)
            (features,) = (folder / f"out{i}").glob("*/features_*/*.h5")
            words = [sys.executable, "-m", "bench.embed.plain_embed", str(slide), str(features), str(student)]
            loops = [json.loads(child(words, threads=threads).said) for threads in (None, 1)]
            said = min(loops, key=lambda loop: loop["wall_s"])
            plain.append(Spent(said["wall_s"], said["cpu_s"]))
        read, n = reading_alone(slide, Shipped.of_folder(student).input_px)
        model, engine = model_alone(student, n)
        together_s = together(slide, student, cores)
    took, loop_took, ratio = median(whole), median(plain), ratios(plain, whole)
    bound_s = (read.cpu_s + model.cpu_s) / cores
    rows = [
        ("plain loop", n, loop_took.wall_s, loop_took.cpu_s, n / loop_took.wall_s),
        ("histill embed", n, took.wall_s, took.cpu_s, n / took.wall_s),
        ("  reading alone, one thread", n, read.wall_s, read.cpu_s, None),
        (f"  {engine} alone, one thread", n, model.wall_s, model.cpu_s, None),
        (f"  both, a process on each of {cores} cores", n, None, together_s, None),
    ]
    show(f"A slide to its features on {cores} cores", ("what", "tiles", "wall s", "CPU s", "tiles/s"), rows)
    finish(
        {
            "tiles": n,
            "engine": engine,
            "cores": cores,
            "load": load,
            "times_as_fast": ratio["wall"],
            "times_as_fast_cpu": ratio["cpu"],
            "wall_s": round(took.wall_s, 2),
            "bound_s": round(bound_s, 2),
            "wall_over_bound": round(took.wall_s / bound_s, 3),
            "bound_together_s": round(together_s / cores, 2),
            "wall_over_bound_together": round(took.wall_s * cores / together_s, 3),
            "ms_a_tile_reading": round(1000 * read.cpu_s / n, 3),
            "ms_a_tile_model": round(1000 * model.cpu_s / n, 3),
            "small_slide_s": round(median([run.spent for run in start]).wall_s, 2),
            "small_slide_cpu_s": round(median([run.spent for run in start]).cpu_s, 2),
            "slides_an_hour": round(3600 / took.wall_s, 1),
            "peak_rss_mb": round(peak_mb),
            "cosine_to_the_loop": round(said["cosine_to_ours_median"], 5),
        }
    )


if __name__ == "__main__":
    main()
