"""One model in one engine, in a process of its own, and the handle by which the benchmark drives it.

A process each, so that its memory is the model's own, that an engine which crashes takes nothing with it, and that the
benchmark itself needs no torch. It lives for one turn: at any time there is one, forked from a server that has imported
what all of them need.

Asked and answered over a pipe (messages.py): what cannot be done is answered with an `Unmeasured`, what takes too long
is ended, and the benchmark writes the reason where the figure would have stood.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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

P99_REPEATS = 100
NEEDED = {"fp32": 0.999, "bf16": 0.98}
"""Least cosine with eager fp32 of the image that comes out worst; below, an engine is wrong and is not timed."""
_SPREAD_MIN = 1e-3
"""Answers that vary less than this share of their length are compared as they are: centred, only rounding is left."""
_STOP_S = 10
_PRELOADED = ("pipeline.benchmark.contest", "pipeline.student.exported", "pipeline.teachers.loading")
"""What the server imports once: torch, timm and what loads a model, 3 s of imports in each of twenty turns else."""
_R = TypeVar("_R")


def _own() -> list[str]:
    """What this process has of Histill: each one that is forked runs its main module anew, which imports it."""
    return [name for name in sys.modules if name.partition(".")[0] in ("pipeline", "stages")]


@dataclass
class Contender:
    """The parent's side: `hello` is what the process said of itself, `why` why it is not timed, `cut` why some batches
    are not.

    By batch size: `rounds` are the seconds of each pass of each round, `joules` what each round took, `taken` the most
    memory.
    """

    spec: Spec
    limit_s: float | None = None
    """The longest that one answer may take, a turn's own time apart; none where it is None."""
    hello: Hello | None = None
    why: str = ""
    cut: str = ""
    cosine: float | None = None
    rounds: dict[int, list[tuple[float, ...]]] = field(default_factory=dict)
    joules: dict[int, list[float | None]] = field(default_factory=dict)
    taken: dict[int, Memory] = field(default_factory=dict)
    _most: float = math.inf
    """The largest batch size that has not failed."""
    _process: multiprocessing.process.BaseProcess | None = None
    _pipe: Connection | None = None

    def start(self) -> None:
        """Start the process; `greet` waits for it."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*_PRELOADED, *_own()])
        self._pipe, child = context.Pipe()
        self._process = context.Process(target=serve, args=(child, self.spec), daemon=True)
        self._process.start()
        child.close()

    def meet(self) -> None:
        """Start it, hear what it says of itself and its answers to the gate's images, and end it.

        Raises `HistillError` where the model itself is at fault.
        """
        self.start()
        try:
            self.hello = self._receive(Hello, "loading or compiling it")
        except Unmeasured as reason:
            self.drop(str(reason))
        finally:
            self.stop()

    def gate(self, reference_ND: NDArray[np.float32]) -> None:
        """Compare its answers with eager fp32's; a wrong one is dropped."""
        if self.why or self.hello is None or self.hello.answer_ND is None:
            return
        self.cosine, precision = worst_cosine(self.hello.answer_ND, reference_ND), self.precision
        if not self.cosine >= NEEDED[precision]:
            self.drop(f"its answers are not the model's: cosine {self.cosine:.4f}, {NEEDED[precision]} needed")

    def round(self, sizes: Sequence[int], seconds: float) -> None:
        """Start it, run passes of each batch size for so long, one at least, and end it.

        A batch that fails is no longer tried, nor a larger one.
        """
        self.spec = replace(self.spec, gate=False, reference=False)
        batch, doing = 0, ""
        try:
            self.start()
            self._receive(Hello, "loading or compiling it")
            for batch in (size for size in sizes if size < self._most):
                doing = f"batch {batch}: "
                self._ask(Load(batch, seconds), Done)
                doing = f"in a pass of batch {batch}: "
                energy = Energy(device="cuda" if self.device == "cuda" else "cpu", gpu=self._gpu)
                passes = self._ask(Turn(seconds), Taken, own_s=seconds).passes
                self.joules.setdefault(batch, []).append(energy.joules())
                memory = self._ask(HowMuch(), Memory)
                self.rounds.setdefault(batch, []).append(passes)
                before = self.taken.get(batch, memory)
                self.taken[batch] = max(before, memory, key=lambda each: each.own_mb or 0.0)
        except Unmeasured as reason:
            self._most = batch
            self.rounds = {size: turns for size, turns in self.rounds.items() if size < batch}
            self.drop(f"{doing}{reason}", for_good=not self.rounds)
        finally:
            self.stop()

    def export(self, path: Path) -> None:
        """Start it, write the model as an ONNX file. Raises `Unmeasured`; whoever calls it ends it."""
        self.start()
        self._receive(Hello, "loading it")
        self._ask(Export(path), Done)

    def drop(self, why: str, for_good: bool = True) -> None:
        """Note why it is not timed, or with smaller batches alone, and say so."""
        after = f" after batch {max(self.rounds)}" if self.rounds else ""
        console.print(f"benchmark: {self.cell.name}: not measured{after}: {why}", soft_wrap=True)
        if for_good:
            self.why = why
        else:
            self.cut = why

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
    def rows(self) -> tuple[Timing, ...]:
        """One of each batch size that has been timed."""
        return tuple(self._row(batch) for batch in sorted(self.rounds))

    def _row(self, batch: int) -> Timing:
        """Throughput is at the median, which a moment's interruption does not move."""
        passes, joules, memory = np.concatenate(self.rounds[batch]), self.joules[batch], self.taken[batch]
        p50, p90, p99 = np.percentile(passes, [50, 90, 99])
        spent = [value for value in joules if value is not None]
        return Timing(
            batch=batch,
            latency_ms_p50=1e3 * float(p50),
            latency_ms_p90=1e3 * float(p90),
            latency_ms_p99=1e3 * float(p99) if len(passes) >= P99_REPEATS else None,
            tiles_per_s=batch / float(p50),
            joules_per_tile=sum(spent) / (batch * len(passes)) if len(spent) == len(joules) else None,
            memory_mb=memory.own_mb,
            process_mb=memory.process_mb,
            repeats=len(passes),
        )

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
            rows=self.rows,
            why=self.why or self.cut or None,
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
        if code is None or code >= 0:
            return f"its process ended with exit code {code}"
        full = ", as where memory runs out" if code == -signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-code).name}{full}"


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
