"""How fast slides become tiles: the whole tiles stage against the plain loop, on one slide and one thread.

The plain loop is what most people run: OpenSlide `read_region` -> Pillow resize (bicubic) -> Pillow JPEG at the same
quality (95, 4:4:4), at the very tiles that the stage keeps; it finds no tissue and stores nothing. The stage does all
it does in a run, in a process of its own (`bench.tiles.one_slide`). Two cases:

    aligned   the slide's own resolution and tile size: its JPEG tiles are kept as they are
    rescaled  --target-mpp (0.5), 224 px tiles: decoded, shrunk and encoded

Without a slide one is made: 12,288 px a side, tissue-like, at least 0.3 bytes a pixel. Each figure is the median of
`--repeats` runs that take turns. What this does not cover: cold disks (the file is in the page cache), network mounts.

Run: python -m bench.tiles.speed [SLIDE] [--target-mpp M]; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import simplejpeg
import tifffile
from numpy.typing import NDArray
from PIL import Image

from bench.clock import Spent, median, ratios, spent
from bench.printing import finish, show
from bench.scratch import die_with_parent, scratch
from pipeline.base.limits import usable_cores
from pipeline.demo.slides import SLIDE_FILE, make_demo_slide
from pipeline.slides.read.reader import SlideReader

SIDE_PX, MPP, TILE_PX = 12288, 0.293, 256
MIN_DENSITY = 0.3
QUALITY = 95
_PATTERN_PX = 2048


def plain_loop(slide: Path, run: dict[str, Any], tile_px: int) -> None:
    """The plain loop over the tiles of a run of the stage."""
    level, side = run["read_level"], round(run["size_l0_px"][0] / run["read_downsample"])
    with openslide.OpenSlide(str(slide)) as opened:
        for at in zip(run["x_l0"], run["y_l0"], strict=True):
            tile = opened.read_region(at, level, (side, side)).convert("RGB")
            if side != tile_px:
                tile = tile.resize((tile_px, tile_px), Image.Resampling.BICUBIC)
            tile.save(io.BytesIO(), "JPEG", quality=QUALITY, subsampling=0)


def stage(slide: Path, target_mpp: float, tile_px: int, processes: int = 1) -> list[dict[str, Any]]:
    """The reports of so many processes that run the tiles stage on the slide at the same time, a thread each."""
    command = [sys.executable, "-m", "bench.tiles.one_slide", str(slide), str(target_mpp), str(tile_px), "auto"]
    env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    children = [
        subprocess.Popen(
            command,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        for _ in range(processes)
    ]
    reports = []
    for child in children:
        out, err = child.communicate()
        if child.returncode:
            raise SystemExit(f"the tiles stage failed:\n{err}")
        reports.append(json.loads(out.splitlines()[-1]))
    return reports


@dataclass(frozen=True)
class Case:
    """What one case found: `ratio` is how many times as fast the stage is, by wall and by CPU seconds."""

    row: tuple[object, ...]
    ratio: dict[str, float]
    peak_rss_mb: float


def case(name: str, slide: Path, target_mpp: float, tile_px: int, repeats: int) -> Case:
    """The stage and the plain loop by turns."""
    plain, whole = list[Spent](), list[Spent]()
    for _ in range(repeats):
        (report,) = stage(slide, target_mpp, tile_px)
        whole.append(Spent(report["seconds"], report["cpu_seconds"]))
        plain.append(spent(partial(plain_loop, slide, report, tile_px)))
    n, ratio, peak = report["tiles"], ratios(plain, whole), report["peak_rss_mb"]
    what = f"{name}, {target_mpp:.3f} um/px, {tile_px} px, {report['reader']}"
    rates = (n / median(plain).wall_s, n / median(whole).wall_s)
    return Case((what, n, report["as_scanned"], *rates, ratio["wall"], ratio["cpu"], peak), ratio, peak)


def scaling(slide: Path, target_mpp: float, tile_px: int, repeats: int) -> float:
    """Tiles/s of two processes side by side over those of one; 2 is linear."""
    one: list[float] = [stage(slide, target_mpp, tile_px)[0]["seconds"] for _ in range(repeats)]
    two: list[float] = [max(r["seconds"] for r in stage(slide, target_mpp, tile_px, 2)) for _ in range(repeats)]
    return 2 * statistics.median(one) / statistics.median(two)


def make_slide(path: Path, side_px: int = SIDE_PX) -> float:
    """A tiled JPEG TIFF of demo tissue, mirrored over `side_px`, levels 1, 4, 16; returns its bytes a pixel."""
    with scratch() as folder:
        make_demo_slide(1, _PATTERN_PX, folder)
        with tifffile.TiffFile(folder / SLIDE_FILE) as tiff:
            pattern_HWC = tiff.pages[0].asarray()
    grain = np.random.default_rng(0).normal(0, 4, (*pattern_HWC.shape[:2], 1))
    pattern_HWC = np.clip(pattern_HWC + grain, 0, 255).astype(np.uint8)
    pattern = Image.fromarray(pattern_HWC)
    for quality in range(80, 100, 3):
        _write(path, pattern, side_px, quality)
        density = path.stat().st_size / side_px**2
        if density >= MIN_DENSITY:
            return density
    raise AssertionError(f"{density} bytes a pixel at quality {quality}")


def _write(path: Path, pattern: Image.Image, side_px: int, quality: int) -> None:
    with tifffile.TiffWriter(path) as tiff:
        for factor in (1, 4, 16):
            per_cm, level = 1e4 / (MPP * factor), side_px // factor
            tiff.write(
                _tiles(np.asarray(pattern.reduce(factor)), level, quality),
                shape=(level, level, 3),
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                subfiletype=int(factor > 1),
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                metadata=None,
                maxworkers=1,
            )


def _tiles(pattern_HWC: NDArray[np.uint8], side_px: int, quality: int) -> Iterator[bytes]:
    """The tiles of a level as JPEG, row after row, of the pattern and its mirror images side by side; each that comes
    again is encoded once."""
    period = np.concatenate([np.arange(len(pattern_HWC)), np.arange(len(pattern_HWC))[::-1]])
    made: dict[tuple[int, int], bytes] = {}
    for top in range(0, side_px, TILE_PX):
        for left in range(0, side_px, TILE_PX):
            at = top % len(period), left % len(period)
            if at not in made:
                rows, columns = (period[np.arange(start, start + TILE_PX) % len(period)] for start in at)
                tile_HWC = np.ascontiguousarray(pattern_HWC[np.ix_(rows, columns)])
                made[at] = simplejpeg.encode_jpeg(tile_HWC, quality, "RGB", colorsubsampling="420")
            yield made[at]


def main() -> None:
    """Print a line a case, and the JSON line."""
    parser = argparse.ArgumentParser(description="the tiles stage against the plain OpenSlide loop")
    parser.add_argument("slide", nargs="?", type=Path)
    parser.add_argument("--target-mpp", type=float, default=0.5, help="of the rescaled case")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with scratch() as folder:
        slide = args.slide
        if slide is None:
            slide = folder / "bench.tif"
            density = make_slide(slide)
            print(f"made a slide of {SIDE_PX} x {SIDE_PX} px at {MPP} um/px, {density:.2f} bytes a pixel")
        own_mpp, own_tile_px = _own(slide)
        aligned = case("aligned", slide, own_mpp, own_tile_px, args.repeats)
        rescaled = case("rescaled", slide, args.target_mpp, 224, args.repeats)
        two = scaling(slide, args.target_mpp, 224, args.repeats)
    columns = ("case", "tiles", "as scanned", "plain /s", "stage /s", "times as fast", "by CPU seconds", "peak MB")
    show("The tiles stage against the plain loop, one thread", columns, [aligned.row, rescaled.row])
    finish(
        {
            "aligned_ratio": round(aligned.ratio["wall"], 2),
            "aligned_ratio_cpu": aligned.ratio["cpu"],
            "rescaled_ratio": round(rescaled.ratio["wall"], 2),
            "rescaled_ratio_cpu": rescaled.ratio["cpu"],
            "two_process_scaling": round(two, 2),
            "cores": usable_cores(),
            "peak_rss_mb": round(max(aligned.peak_rss_mb, rescaled.peak_rss_mb)),
        }
    )


def _own(slide: Path) -> tuple[float, int]:
    """The slide's own um per pixel and the side of its tiles."""
    with SlideReader(slide) as reader, openslide.OpenSlide(str(slide)) as opened:
        tile_px = int(opened.properties.get("openslide.level[0].tile-width", TILE_PX))
        return reader.mpp_xy[0], tile_px


if __name__ == "__main__":
    main()
