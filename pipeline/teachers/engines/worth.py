"""Which engine answers so many tiles soonest, its build included.

On a GPU `auto` would take TensorRT or torch.compile, which save much of each pass and take minutes to be ready. A slide
that is added to a finished cohort is answered by eager before either is built. How long eager takes is measured on the
device; what the others save of it and take to build are estimates, since none has been timed on a GPU yet. A built
TensorRT engine that the store has takes no build.

The engine is no part of a recipe: each passes the same gate, so that whichever answers, the tokens are the same item's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from pipeline.teachers.engines.base import Engine, within_memory

BUILD_S = {"eager": 0.0, "compile": 90.0, "tensorrt": 240.0}
"""Until it answers: autotuning, or a build of minutes."""
SHARE = {"eager": 1.0, "compile": 0.7, "tensorrt": 0.5}
"""Of eager's time a tile."""
_WARM_UP, _TIMED = 1, 2
"""Batches."""


@dataclass(frozen=True)
class Soonest:
    """The engine to take, and the seconds that each would take for the tiles, build included."""

    engine: str
    seconds: dict[str, float]

    def why(self, tiles: int) -> str:
        """In words."""
        told = ", ".join(f"{name} {seconds:,.0f} s" for name, seconds in self.seconds.items())
        return f"about {tiles:,} tiles: {told}, builds included"


def soonest(best: str, tiles: int, eager_s: float, built: bool) -> Soonest:
    """Of eager, compile and `best`, for so many tiles of which eager takes `eager_s` seconds each.

    `built`: the store has `best`. Of equals the one that takes less to build.
    """
    build_s = BUILD_S | ({best: 0.0} if built else {})
    names = sorted({"eager", "compile", best}, key=lambda name: BUILD_S[name])
    seconds = {name: build_s[name] + tiles * eager_s * SHARE[name] for name in names}
    return Soonest(min(names, key=lambda name: seconds[name]), seconds)


def seconds_a_tile(engine: Engine, batch_size: int, side_px: int) -> float:
    """Of full batches on the engine's device, after one to warm up. Raises `TeacherError` where one does not fit."""
    image_NHWC = torch.zeros((batch_size, side_px, side_px, 3), dtype=torch.uint8, device=engine.device)
    with within_memory(batch_size, engine.device):
        for _ in range(_WARM_UP):
            engine(image_NHWC)
        _finish(engine.device)
        began = time.perf_counter()
        for _ in range(_TIMED):
            engine(image_NHWC)
        _finish(engine.device)
    return (time.perf_counter() - began) / (_TIMED * batch_size)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
