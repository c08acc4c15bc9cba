"""What the benchmark found, from the room that measures to the page that prints it: the summary of its manifest.

    machine       where it was measured
    slide_tiles   tiles of the slide for which slides an hour are stated
    models        {teacher, student}: what each costs wherever it runs
    cells         each model in each engine, precision and device; the leading ones, teacher's and student's, first
    speedups      the student over the teacher where both were measured; the leading one first
    whole         slides an hour of both with reading included, or why that was not measured

A cell that was not measured has no rows, and says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pipeline.base.figures import Figure, NotMeasured, Number, Result

Role = Literal["teacher", "student"]
MODELS: tuple[Role, Role] = ("teacher", "student")


class Machine(Result):
    """CPU model, cores this process may use, torch's threads, GPU (or null), system, versions.

    `load` is how many processes wanted a core, on average over the minute before: what else kept the machine busy.
    """

    cpu: str
    cores: int
    threads: int
    memory_gb: Number
    gpu: str | None
    system: str
    python: str
    versions: Mapping[str, str]
    load: Number | None = None


class Costs(Result):
    """What a model costs wherever it runs: all its weights, and 10^9 multiply-adds a tile.

    `weights` is false of a teacher whose features were imported: it was built with random ones, which cost as much.
    """

    name: str
    params: int
    gmacs: Number
    input_px: int
    weights: bool = True


class Timing(Result):
    """One batch size in one cell: milliseconds a pass, and throughput at the median.

    `latency_ms_p99` needs a hundred repeats. `joules_per_tile` is null where no counter can be read. `memory_mb` is
    what the model has taken at most up to this batch, null where nobody counts it; `process_mb` with all libraries.
    """

    batch: int
    latency_ms_p50: Number
    latency_ms_p90: Number
    latency_ms_p99: Number | None
    tiles_per_s: Number
    joules_per_tile: Number | None
    memory_mb: Number | None
    process_mb: Number
    repeats: int


class Cell(Result):
    """One model in one engine, precision and device.

    `cosine` is of the worst of the gate's images, with eager fp32's embedding; `ready_s` what it takes to load or
    compile the model and answer them. `why`: there are no rows, or no more of them, and this is the reason.
    """

    model: Role
    engine: str
    precision: str
    device: str
    cosine: Number | None = None
    ready_s: Number | None = None
    rows: tuple[Timing, ...] = ()
    why: str | None = None

    @property
    def place(self) -> tuple[str, str, str]:
        """(engine, precision, device): what two models have in common that were timed alike."""
        return self.engine, self.precision, self.device

    @property
    def best(self) -> Timing:
        """The batch size of the highest throughput."""
        return max(self.rows, key=lambda row: row.tiles_per_s)

    @property
    def last(self) -> Timing:
        """The largest batch size, whose memory is the most."""
        return self.rows[-1]

    @property
    def name(self) -> str:
        """For people: the model, and where it runs."""
        return f"{self.model}, {self.engine} {self.precision} on {self.device}"


class Speedup(Result):
    """How much faster the student is than the teacher in one engine, precision and device, each at its best batch."""

    engine: str
    precision: str
    device: str
    ratio: Figure

    @property
    def place(self) -> tuple[str, str, str]:
        return self.engine, self.precision, self.device


class WholeSlides(Result):
    """Slides an hour with reading, of a model in its fastest engine, precision and device.

    `an_hour` counts slides of `slide_tiles` tiles, its interval is of rounds. `reading_ms` and `model_ms` are a tile's,
    of all cores together; they were read off `tiles` tiles of `slides` of the run's own slides.
    """

    engine: str
    precision: str
    device: str
    an_hour: Figure
    reading_ms: Number
    model_ms: Number
    slides: int
    tiles: int

    @property
    def reading_share(self) -> float:
        """Of the time, where reading and the model share the cores; on a GPU of the longer of the two."""
        whole_ms = max(self.reading_ms, self.model_ms) if self.device == "cuda" else self.reading_ms + self.model_ms
        return self.reading_ms / whole_ms


class Benchmark(Result):
    """All of it; the leading cells and the leading speed-up are there always."""

    machine: Machine
    slide_tiles: int
    models: Mapping[Role, Costs]
    cells: tuple[Cell, ...]
    speedups: tuple[Speedup, ...]
    whole: Mapping[Role, WholeSlides] | NotMeasured

    def lead(self, model: Role) -> Cell:
        """The model's leading cell: eager, the first precision and device of the params."""
        return self.cells[MODELS.index(model)]

    @property
    def others(self) -> tuple[Cell, ...]:
        """All cells but the leading ones."""
        return self.cells[len(MODELS) :]

    @property
    def speedup(self) -> Figure:
        """The leading one."""
        return self.speedups[0].ratio

    def cell(self, model: Role, place: tuple[str, str, str]) -> Cell:
        """The cell of a model in that engine, precision and device."""
        return next(cell for cell in self.cells if cell.model == model and cell.place == place)

    def slides_per_hour(self, cell: Cell) -> float:
        """At the cell's best batch size, the model alone."""
        return 3600 * cell.best.tiles_per_s / self.slide_tiles
