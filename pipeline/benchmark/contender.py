"""One model in one engine, in a process of its own, and the handle by which the benchmark drives it.

A process each, so that its memory is the model's own, that an engine which crashes takes nothing with it, and that the
benchmark itself needs no torch. The processes take turns: at any time one of them computes.

Asked and answered over a pipe: ("load", batch, seconds), ("turn", seconds), ("export", path); what cannot be done is
answered with an `Unmeasured`, what takes too long is ended, and the benchmark writes the reason where the figure would
have stood.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.energy import Energy
from pipeline.base.errors import HistillError
from pipeline.base.progress import console
from pipeline.benchmark.process import Spec, Unmeasured, serve

NEEDED = {"fp32": 0.999, "bf16": 0.98}
"""Least cosine with eager fp32 of the image that comes out worst; below, an engine is wrong and is not timed."""
_SPREAD_MIN = 1e-3
"""Answers that vary less than this share of their length are compared as they are: centred, only rounding is left."""
_STOP_S = 10


@dataclass
class Contender:
    """The parent's side: `hello` is what the process said of itself, `why` why it is not, or no more, timed.

    `turns` are the seconds of each pass of each turn with the batch at hand, `rounds` those of all batches so far.
    """

    spec: Spec
    limit_s: float | None = None
    """The longest that one answer may take, a turn's own time apart; none where it is None."""
    hello: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    cosine: float | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    turns: list[list[float]] = field(default_factory=list)
    rounds: dict[int, list[list[float]]] = field(default_factory=dict)
    joules: list[float | None] = field(default_factory=list)
    _process: multiprocessing.process.BaseProcess | None = None
    _pipe: Connection | None = None

    def start(self) -> None:
        """Start the process; `greet` waits for it."""
        context = multiprocessing.get_context("spawn")
        self._pipe, child = context.Pipe()
        self._process = context.Process(target=serve, args=(child, self.spec), daemon=True)
        self._process.start()
        child.close()

    def greet(self) -> None:
        """Wait until the model is loaded. Raises `HistillError` where the model itself is at fault."""
        try:
            self.hello = self._receive("loading or compiling it")
        except Unmeasured as reason:
            self.drop(str(reason))

    def gate(self, reference_ND: NDArray[np.float32]) -> None:
        """Compare its answers with eager fp32's; a wrong one is dropped."""
        if self.why:
            return
        self.cosine, precision = worst_cosine(self.hello["answer"], reference_ND), self.precision
        if not self.cosine >= NEEDED[precision]:
            self.drop(f"its answers are not the model's: cosine {self.cosine:.4f}, {NEEDED[precision]} needed")

    def load(self, batch: int, long_s: float) -> None:
        """Take a batch and warm up on it, with one pass if that takes `long_s`; too large a batch ends its part."""
        self.turns, self.joules = [], []
        try:
            self._ask("load", batch, long_s)
        except Unmeasured as reason:
            self.drop(f"batch {batch}: {reason}")

    def turn(self, seconds: float) -> None:
        """Run passes for so long, at least one."""
        energy = Energy(
            device="cuda" if self.device == "cuda" else "cpu", gpu=self.hello.get("gpu_uuid", self.spec.gpu)
        )
        try:
            taken: list[float] = self._ask("turn", seconds, own_s=seconds)
        except Unmeasured as reason:
            self.drop(f"in a pass: {reason}")
            return
        self.turns.append(taken)
        self.joules.append(energy.joules())

    def finish(self, row: dict[str, Any]) -> None:
        """Keep a batch size's row, with the memory that it took (`memory_mb` the model's own, `process_mb` all)."""
        try:
            self.rows.append({**row, **self._ask("memory")})
            self.rounds[row["batch"]] = self.turns
        except Unmeasured as reason:
            self.drop(str(reason))

    def export(self, path: Path) -> None:
        """Write the model as an ONNX file. Raises `Unmeasured`."""
        self._ask("export", path)

    def drop(self, why: str) -> None:
        """Note why, say so, and end the process."""
        self.why = why
        after = f" after batch {self.rows[-1]['batch']}" if self.rows else ""
        console.print(f"benchmark: {self.name}: not measured{after}: {why}", soft_wrap=True)
        self.stop()

    def stop(self) -> None:
        """End the process, in the middle of a pass too; more than once does no harm."""
        if self._process is None or self._pipe is None:
            return
        self._pipe.close()
        self._kill()

    @property
    def seconds(self) -> list[float]:
        """Of each pass with the batch at hand."""
        return [pass_s for turn in self.turns for pass_s in turn]

    @property
    def device(self) -> str:
        return str(self.hello.get("device", self.spec.device))

    @property
    def precision(self) -> str:
        return str(self.hello.get("precision", self.spec.precision))

    @property
    def name(self) -> str:
        """For people: the model, and where it runs."""
        return f"{self.spec.model}, {self.spec.engine} {self.precision} on {self.device}"

    @property
    def cell(self) -> tuple[str, str, str, str]:
        """(model, engine, precision, device), `auto` resolved."""
        return self.spec.model, self.spec.engine, self.precision, self.device

    def _ask(self, *words: Any, own_s: float = 0.0) -> Any:
        assert self._pipe is not None
        try:
            self._pipe.send(words)
        except OSError:
            raise Unmeasured(self._ended()) from None
        return self._receive("it", own_s)

    def _receive(self, doing: str, own_s: float = 0.0) -> Any:
        assert self._pipe is not None
        if self.limit_s is not None and not self._pipe.poll(self.limit_s + own_s):
            self._kill()
            raise Unmeasured(f"{doing} took more than {self.limit_s:g} s (benchmark.limit_s)")
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise Unmeasured(self._ended()) from None
        if isinstance(answer, HistillError | Unmeasured):
            raise answer
        return answer

    def _kill(self) -> None:
        """End the process and what it has started, compilers say, if it still runs."""
        assert self._process is not None and self._process.pid is not None
        if self._process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.join()

    def _ended(self) -> str:
        assert self._process is not None
        self._process.join(_STOP_S)
        code = self._process.exitcode
        return (
            f"its process ended with exit code {code}{', as where memory runs out' if code == -signal.SIGKILL else ''}"
        )


def worst_cosine(got_ND: NDArray[np.float32], want_ND: NDArray[np.float32]) -> float:
    """The least cosine between an image's two embeddings, both centred by the reference's mean; -1 if not all finite.

    Centred, because embeddings share one long mean vector: uncentred, even a constant answer looks near.
    """
    if got_ND.shape != want_ND.shape or not np.isfinite(got_ND).all():
        return -1.0
    got, want = got_ND.astype(np.float64), want_ND.astype(np.float64)
    mean_D = want.mean(0)
    if np.linalg.norm(want - mean_D) > _SPREAD_MIN * np.linalg.norm(want):
        got, want = got - mean_D, want - mean_D
    lengths = np.linalg.norm(got, axis=1) * np.linalg.norm(want, axis=1)
    return float(((got * want).sum(1) / np.maximum(lengths, 1e-30)).min())


def stop_all(contenders: Sequence[Contender]) -> None:
    """End every process."""
    for contender in contenders:
        contender.stop()
