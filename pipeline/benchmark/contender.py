"""One model in one engine, in a process of its own, and the handle by which the benchmark drives it.

A process each, so that its memory is the model's own, that an engine which crashes takes nothing with it, and that the
benchmark itself needs no torch. The processes take turns: at any time one of them computes.

Asked and answered over a pipe (messages.py): what cannot be done is answered with an `Unmeasured`, what takes too long
is ended, and the benchmark writes the reason where the figure would have stood.
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
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.base.energy import Energy
from pipeline.base.errors import HistillError
from pipeline.base.progress import console
from pipeline.benchmark.messages import (
    Done,
    Export,
    Facts,
    Hello,
    HowMuch,
    Load,
    Memory,
    Request,
    Spec,
    Taken,
    Turn,
    Unmeasured,
)
from pipeline.benchmark.process import serve
from pipeline.benchmark.results import Cell, Timing

NEEDED = {"fp32": 0.999, "bf16": 0.98}
"""Least cosine with eager fp32 of the image that comes out worst; below, an engine is wrong and is not timed."""
_SPREAD_MIN = 1e-3
"""Answers that vary less than this share of their length are compared as they are: centred, only rounding is left."""
_STOP_S = 10
_R = TypeVar("_R")


@dataclass
class Contender:
    """The parent's side: `hello` is what the process said of itself, `why` why it is not, or no more, timed.

    `turns` are the seconds of each pass of each turn with the batch at hand, `rounds` those of all batches so far.
    """

    spec: Spec
    limit_s: float | None = None
    """The longest that one answer may take, a turn's own time apart; none where it is None."""
    hello: Hello | None = None
    why: str = ""
    cosine: float | None = None
    rows: list[Timing] = field(default_factory=list)
    turns: list[tuple[float, ...]] = field(default_factory=list)
    rounds: dict[int, list[tuple[float, ...]]] = field(default_factory=dict)
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
            self.hello = self._receive(Hello, "loading or compiling it")
        except Unmeasured as reason:
            self.drop(str(reason))
        except HistillError:
            self.stop()
            raise

    def gate(self, reference_ND: NDArray[np.float32]) -> None:
        """Compare its answers with eager fp32's; a wrong one is dropped."""
        if self.why or self.hello is None:
            return
        self.cosine, precision = worst_cosine(self.hello.answer_ND, reference_ND), self.precision
        if not self.cosine >= NEEDED[precision]:
            self.drop(f"its answers are not the model's: cosine {self.cosine:.4f}, {NEEDED[precision]} needed")

    def load(self, batch: int, long_s: float) -> None:
        """Take a batch and warm up on it, with one pass if that takes `long_s`; too large a batch ends its part."""
        self.turns, self.joules = [], []
        try:
            self._ask(Load(batch, long_s), Done)
        except Unmeasured as reason:
            self.drop(f"batch {batch}: {reason}")

    def turn(self, seconds: float) -> None:
        """Run passes for so long, at least one."""
        energy = Energy(device="cuda" if self.device == "cuda" else "cpu", gpu=self._gpu)
        try:
            taken = self._ask(Turn(seconds), Taken, own_s=seconds)
        except Unmeasured as reason:
            self.drop(f"in a pass: {reason}")
            return
        self.turns.append(taken.passes)
        self.joules.append(energy.joules())

    def memory(self) -> Memory | None:
        """What it has taken so far; None where it can no longer say."""
        try:
            return self._ask(HowMuch(), Memory)
        except Unmeasured as reason:
            self.drop(str(reason))
            return None

    def finish(self, row: Timing) -> None:
        """Keep a batch size's row."""
        self.rows.append(row)
        self.rounds[row.batch] = self.turns

    def export(self, path: Path) -> None:
        """Write the model as an ONNX file. Raises `Unmeasured`."""
        self._ask(Export(path), Done)

    def drop(self, why: str) -> None:
        """Note why, say so, and end the process."""
        self.why = why
        after = f" after batch {self.rows[-1].batch}" if self.rows else ""
        console.print(f"benchmark: {self.cell.name}: not measured{after}: {why}", soft_wrap=True)
        self.stop()

    def stop(self) -> None:
        """End the process, in the middle of a pass too; more than once does no harm."""
        if self._process is None or self._pipe is None:
            return
        self._pipe.close()
        self._kill()

    @property
    def facts(self) -> Facts:
        """Of a reference."""
        assert self.hello is not None and self.hello.facts is not None
        return self.hello.facts

    @property
    def seconds(self) -> list[float]:
        """Of each pass with the batch at hand."""
        return [pass_s for turn in self.turns for pass_s in turn]

    @property
    def device(self) -> str:
        return self.spec.device if self.hello is None else self.hello.device

    @property
    def precision(self) -> str:
        return self.spec.precision if self.hello is None else self.hello.precision

    @property
    def cell(self) -> Cell:
        """All that was found, `auto` resolved."""
        return Cell(
            model=self.spec.model,
            engine=self.spec.engine,
            precision=self.precision,
            device=self.device,
            cosine=self.cosine,
            ready_s=self.hello.ready_s if self.hello and self.rows else None,
            rows=tuple(self.rows),
            why=self.why or None,
        )

    @property
    def _gpu(self) -> str | None:
        return self.hello.facts.gpu_uuid if self.hello and self.hello.facts else self.spec.gpu

    def _ask(self, request: Request, kind: type[_R], own_s: float = 0.0) -> _R:
        assert self._pipe is not None
        try:
            self._pipe.send(request)
        except OSError:
            raise Unmeasured(self._ended()) from None
        return self._receive(kind, "it", own_s)

    def _receive(self, kind: type[_R], doing: str, own_s: float = 0.0) -> _R:
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
        assert isinstance(answer, kind)
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
