"""Which engine answers an exported student on this machine's CPU: the fastest of those installed, measured once.

The measurement is of one core, as the job runs (files.py), takes a second or two, and is kept in the user's cache
folder by processor, versions and student, so that the next run starts at once.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from pipeline.base.errors import EngineError, HistillError, first_line
from pipeline.base.files import write_json
from pipeline.base.progress import console
from pipeline.base.store import recipe_key
from pipeline.base.types import Json
from pipeline.embed.encoders.encoder import Encoder, Facts
from pipeline.embed.encoders.files import FILE_ENGINES, PACKAGES, installed
from pipeline.student.shipped import DENSE_ONNX_FILE, ONNX_FILE, Shipped, adapter_folder

ENGINES = ("auto", "eager", "compile", "onnxruntime", "openvino", "tensorrt")
_TAKES_S = 0.4


def student_encoder(shipped: Shipped, facts: Facts, engine: str, device: str | None, threads: int) -> Encoder:
    """The encoder of an exported student on so many threads; for `auto` on a CPU the fastest engine of files.

    Raises `EngineError` for an engine that is not installed or does not run here.
    """
    on_cpu = device in (None, "cpu")
    if engine == "auto" and on_cpu and (device == "cpu" or not _has_gpu()):
        return _fastest(shipped, facts, threads)
    if engine in FILE_ENGINES:
        if not on_cpu:
            raise EngineError("it runs on the CPU here", where=engine, fix="--device cpu, or --engine eager")
        return FILE_ENGINES[engine](shipped, facts, _file(shipped, facts), threads)
    from pipeline.embed.encoders.modules import device_of, load_module

    return load_module(shipped, facts, "eager" if engine == "auto" else engine, device_of(device))


def _fastest(shipped: Shipped, facts: Facts, threads: int) -> Encoder:
    """Of the engines of files, as measured or remembered; eager where there is none."""
    file = _path(shipped, facts)
    engines = installed() if file.is_file() else []
    if not engines:
        from pipeline.embed.encoders.modules import device_of, load_module

        what = "neither openvino nor onnxruntime is installed" if not installed() else f"there is no {file.name}"
        console.print(f"embed: engine auto -> eager ({what})", soft_wrap=True)
        return load_module(shipped, facts, "eager", device_of("cpu"))

    def make(engine: str) -> Encoder:
        return FILE_ENGINES[engine](shipped, facts, file, threads)

    if len(engines) == 1:
        console.print(f"embed: engine auto -> {engines[0]} (the one that is installed)", soft_wrap=True)
        return make(engines[0])
    place, key = _cache(), recipe_key(_machine(shipped, facts))
    kept = _kept(place)
    found = kept.get(key)
    if isinstance(found, str) and found in engines:
        console.print(f"embed: engine auto -> {found} (as measured here before: {place})", soft_wrap=True)
        return make(found)
    return _measured(engines, make, place, key, kept)


def _measured(
    engines: list[str], make: Callable[[str], Encoder], place: Path, key: str, kept: Mapping[str, Json]
) -> Encoder:
    """The fastest of several, remembered. One that does not run is said, and left."""
    seconds: dict[str, float] = {}
    encoders: dict[str, Encoder] = {}
    for engine in engines:
        try:
            encoders[engine] = make(engine)
            seconds[engine] = _seconds_an_image(encoders[engine])
        except (HistillError, RuntimeError) as error:
            console.print(f"embed: {engine} does not run here: {first_line(error)}", soft_wrap=True)
    if not seconds:
        raise EngineError("none of the installed engines runs here", where=", ".join(engines), fix="--engine eager")
    best = min(seconds, key=lambda engine: seconds[engine])
    told = ", ".join(f"{engine} {1000 * took:.2f}" for engine, took in sorted(seconds.items(), key=lambda one: one[1]))
    console.print(f"embed: engine auto -> {best} (ms an image on one core: {told})", soft_wrap=True)
    # Where there is no place to remember it, it is measured again next time.
    with suppress(OSError):
        write_json(place, {**kept, key: best})
    return encoders[best]


def _seconds_an_image(encoder: Encoder) -> float:
    """Of the calling thread and what it waits for, the least of several passes."""
    side = encoder.facts.input_px
    image_NHWC = np.random.default_rng(0).integers(0, 256, (encoder.batch_size, side, side, 3), np.uint8)
    encoder(image_NHWC)
    taken, began = list[float](), time.perf_counter()
    while len(taken) < 3 or time.perf_counter() - began < _TAKES_S:
        start = time.perf_counter()
        encoder(image_NHWC)
        taken.append(time.perf_counter() - start)
    return min(taken) / encoder.batch_size


def _machine(shipped: Shipped, facts: Facts) -> dict[str, Json]:
    """What the measurement holds for."""
    versions: dict[str, Json] = {}
    for package in PACKAGES.values():
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "processor": _processor(),
        "versions": versions,
        "weights": shipped.digest,
        "adapter": facts.adapter,
        "input_px": shipped.input_px,
    }


def _processor() -> str:
    """Its name as Linux has it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "histill" / "engines.json"


def _kept(place: Path) -> dict[str, Json]:
    with suppress(OSError, ValueError):
        found = json.loads(place.read_bytes())
        if isinstance(found, dict):
            return found
    return {}


def _path(shipped: Shipped, facts: Facts) -> Path:
    """Where the student's ONNX file is, that of its adapter where patch tokens are asked for."""
    return shipped.folder / ONNX_FILE if facts.patch is None else adapter_folder(shipped.folder) / DENSE_ONNX_FILE


def _file(shipped: Shipped, facts: Facts) -> Path:
    """The same. Raises `EngineError` where it is not there."""
    file = _path(shipped, facts)
    if not file.is_file():
        fix = "--engine eager, or export it again: dvc repro -f -s student"
        raise EngineError(f"there is no {file.name}", where=str(file.parent), fix=fix)
    return file


def _has_gpu() -> bool:
    """Whether a GPU may be here: asked without torch, whose import takes seconds."""
    return Path("/dev/nvidiactl").exists()
