"""What a lab's number of slides costs: each stage's and command's CPU seconds and memory, and how they grow.

A lab of N real tiny slides and one of N / 4 are made (`lab.py`), and go through the stages as `python -m stages.X` runs
them, each in a process of its own with `ulimit -n 1024`. What is said of each row:

    ms a slide   (CPU seconds of N less those of N / 4) / (3 N / 4): what one more slide costs
    law          the exponent of growth between them: 1 is linear, 2 is quadratic; a fixed cost makes it less than 1
    peak MB      of the process, libraries included

`again` is the same stage with nothing to do but say so. `experiments` git tags name the finished run, as experiments
do. Wall time is told beside CPU time: where it is much more the row waits for the disk.

Not covered: several processes (`cluster.workers: 1`), cold disks, slides of many tiles.

Run: python -m bench.scale [--slides N] [--only WORD …]; the last line is one JSON object. Rows need those before them:
`--only` leaves out what comes after the last row that has one of the words in its name.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.apart import Apart, Told
from bench.lab import commit, dvc, git, make_lab, make_picture_folders
from bench.printing import finish, show
from bench.scratch import scratch
from pipeline.params import STAGES

DESCRIPTORS = 1024
"""Open files of a process, as most systems allow."""
PART = 4
MODULES = ("torch", "timm", "stages.__main__", *(f"stages.{stage}" for stage in STAGES), "dvc.cli")


@dataclass(frozen=True)
class Row:
    """One operation at both sizes, the smaller first."""

    name: str
    slides: tuple[int, int]
    taken: tuple[Told, Told]

    @property
    def ms_a_slide(self) -> float:
        """CPU milliseconds of one more slide."""
        return 1000 * (self.taken[1].cpu_s - self.taken[0].cpu_s) / (self.slides[1] - self.slides[0])

    @property
    def law(self) -> float:
        """Exponent of growth; that of the clock's own hundredth where less was seen."""
        less, more = (max(one.cpu_s, 0.01) for one in self.taken)
        return math.log(more / less) / math.log(self.slides[1] / self.slides[0])

    def cells(self) -> tuple[object, ...]:
        """As the table shows it."""
        less, more = self.taken
        return (
            self.name, less.cpu_s, more.cpu_s, more.wall_s, self.ms_a_slide, self.law, round(more.peak_mb),
            "" if more.error is None else more.error.strip().splitlines()[-1][:60],
        )  # fmt: skip

    def figures(self) -> dict[str, object]:
        """As the JSON object tells it."""
        less, more = self.taken
        return {
            "cpu_s": [round(less.cpu_s, 2), round(more.cpu_s, 2)],
            "wall_s": [round(less.wall_s, 2), round(more.wall_s, 2)],
            "ms_a_slide": round(self.ms_a_slide, 3),
            "law": round(self.law, 2),
            "peak_mb": round(more.peak_mb),
            "error": more.error,
        }


def stage(project: Path, name: str) -> None:
    """Run a stage as its command does, in this process."""
    _settle(project)
    import importlib

    importlib.import_module(f"stages.{name}").main(debug=True)


def scan(project: Path, folder: str) -> None:
    """`histill scan`."""
    _settle(project)
    from pipeline.slides.scan import scan as scanned

    scanned(Path(folder))


def store(project: Path, verb: str, *words: str) -> None:
    """`histill store VERB`."""
    _settle(project)
    from stages import store as commands

    getattr(commands, f"store_{verb}")(*words)


def nothing_to_do(project: Path) -> None:
    """`dvc repro` of a finished run, in a process of its own."""
    _settle(project)
    told = dvc(project, "repro")
    assert "up to date" in told and "Running" not in told, told


def _settle(project: Path) -> None:
    os.chdir(project)
    os.environ.pop("HISTILL_STORE", None)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))


def operations(experiments: int) -> Iterator[tuple[str, Callable[[Path, int], object] | Callable[[Path], object]]]:
    """(name, what to do in a project) in order; what is `prepare …` is not timed."""
    yield "scan, slides", partial(scan, folder="slides")
    yield "scan, folders of images", partial(scan, folder="folders")
    for name in STAGES:
        yield name, partial(stage, name=name)
        yield f"{name}, again", partial(stage, name=name)
    yield "prepare experiments", partial(_experiments, number=experiments)
    yield "dvc repro, nothing to do", nothing_to_do
    yield f"report, {experiments} experiments", partial(stage, name="report")
    for verb in ("ls", "du", "prune"):
        yield f"store {verb}", partial(store, verb=verb)
    yield "store why", partial(_why)


def _experiments(project: Path, number: int) -> None:
    """A finished run as DVC knows it, and so many tags that name it."""
    dvc(project, "commit", "-f", "-q")
    commit(project, "run")
    for experiment in range(number):
        git(project, "tag", f"experiment-{experiment}")


def _why(project: Path) -> None:
    key = sorted((project / ".store" / "tokens").glob("*/*/item.json"))[-1].parent.name
    store(project, "why", key)


def measure(slides: int, experiments: int, only: list[str], folder: Path) -> list[Row]:
    """All rows."""
    sizes, projects = (slides // PART, slides), (folder / "less", folder / "more")
    for size, project in zip(sizes, projects, strict=True):
        project.mkdir()
        make_lab(project, size)
        make_picture_folders(project / "folders", size)
    apart, rows = Apart(MODULES), list[Row]()
    todo = list(operations(experiments))
    if only:
        last = max((i for i, (name, _) in enumerate(todo) if any(word in name for word in only)), default=-1)
        todo = todo[: last + 1]
    for name, work in todo:
        taken = [apart.run(work, project) for project in projects]
        rows.append(Row(name, sizes, (taken[0], taken[1])))
        print(f"{name}: {taken[0].cpu_s:.2f}, {taken[1].cpu_s:.2f} s", taken[1].error or "", flush=True)
    return [row for row in rows if not row.name.startswith("prepare")]


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=1000, help="slides of the larger lab")
    parser.add_argument("--experiments", type=int, default=50, help="git tags that name the finished run")
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[], help="stop after the last row named so")
    parser.add_argument("--folder", type=Path, help="on the disk of interest (the system's temporary folder)")
    asked = parser.parse_args()
    with scratch(asked.folder) as folder:
        rows = measure(asked.slides, asked.experiments, asked.only, folder)
    less, more = rows[0].slides
    columns = ("", f"CPU s, {less}", f"CPU s, {more}", "wall s", "ms a slide", "law", "peak MB", "")
    show(f"{more} slides", columns, [row.cells() for row in rows])
    told: dict[str, Any] = {row.name: row.figures() for row in rows}
    finish({"slides": more, "rows": told, "failed": [row.name for row in rows if row.taken[1].error]})


if __name__ == "__main__":
    main()
