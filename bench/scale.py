"""What a lab's number of slides costs: each stage's and command's CPU seconds and memory, and how they grow.

A lab of N real tiny slides and one of N / 4 are made (`lab.py`), and go through the stages as `python -m stages.X` runs
them, each in a process of its own with `ulimit -n 1024`. What is said of each row:

    ms a slide   (CPU seconds of N less those of N / 4) / (3 N / 4): what one more slide costs
    law          the exponent of growth between them: 1 is linear, 2 is quadratic; a fixed cost makes it less than 1
    peak MB      of the process, libraries included

`again` is the same stage with nothing to do but say so. `experiments` git tags name the finished run, as experiments
do. Wall time is told beside CPU time: where it is much more the row waits for the disk.

Not covered: `benchmark`, which knows no number of slides; several processes (`cluster.workers: 1`), cold disks, slides
of many tiles.

Run: python -m bench.scale [--slides N] [--linked] [--only WORD …]; the last line is one JSON object. Making the items
of ten thousand slides takes ten minutes: with `--linked` all but a hundred slides have those of the hundred, as links,
and the rows `tiles` and `tokens` are of a store that has everything. Rows need those before them: `--only` leaves out
what comes after the last row that has one of the words in its name.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.apart import Apart, Told
from bench.lab import commit, dvc, git, link_items, make_lab, make_picture_folders
from bench.printing import finish, show
from bench.scratch import scratch
from pipeline.base.items import SlidesManifest, StudentManifest, TilesManifest, TokensManifest
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.params import STAGES

DESCRIPTORS = 1024
"""Open files of a process, as most systems allow."""
PART, LESS = 4, "less"
MADE = 100
"""Slides of which items are made where the others' are links to them."""
MODULES = ("torch", "timm", "stages.cli.app", *(f"stages.{stage}" for stage in STAGES), "dvc.cli")


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


def stage(project: Path, name: str, debug: bool = True) -> None:
    """Run a stage as its command does, in this process; without `debug` it ends by `typer.Exit` where it is refused."""
    _settle(project)
    importlib.import_module(f"stages.{name}").main(debug=debug)


def scan(project: Path, folder: str) -> None:
    """`histill scan`."""
    _settle(project)
    from pipeline.slides.scan import scan as scanned

    scanned(Path(folder))


def store(project: Path, verb: str, *words: str) -> None:
    """`histill store VERB`."""
    _settle(project)
    from stages.cli import store as commands

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


def linked(project: Path) -> None:
    """The first slides through `tiles` and `tokens`; their items stand for those of all others."""
    path, table = project / "artifacts" / "slides.json", project / "slides.csv"
    slides, rows = SlidesManifest.load(path), table.read_text()
    slides.model_copy(update={"items": slides.items[:MADE]}).save(path)
    table.write_text("".join(rows.splitlines(keepends=True)[: 1 + MADE]))
    for kind, manifest in (("tiles", TilesManifest), ("tokens", TokensManifest)):
        stage(project, kind)
        link_items(project, kind, slides, manifest.load(path.with_name(f"{kind}.json")).recipe_key)
    slides.save(path)
    table.write_text(rows)


def operations(experiments: int, link: bool) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """(name, what to do in a project) in order; what is `prepare …` is not timed."""
    yield "scan, slides", partial(scan, folder="slides")
    yield "scan, folders of images", partial(scan, folder="folders")
    for name in STAGES:
        if name == "benchmark":
            yield "prepare benchmark", benchmark
            continue
        if name == "tiles" and link:
            yield "prepare items", linked
        yield name, partial(stage, name=name)
        yield f"{name}, again", partial(stage, name=name)
    yield "prepare experiments", partial(_experiments, number=experiments)
    yield "dvc repro, nothing to do", nothing_to_do
    yield f"report, {experiments} experiments", partial(stage, name="report")
    for verb in ("ls", "du", "prune"):
        yield f"store {verb}", partial(store, verb=verb)
    yield "store why", partial(_why)


def benchmark(project: Path) -> None:
    """The stage in the smaller lab; the larger takes its figures, since they are of no number of slides."""
    less = project.parent / LESS
    if project == less:
        stage(project, "benchmark")
        return
    for made in ("artifacts/benchmark.json", "metrics/benchmark.json", "plots/latency.csv"):
        shutil.copy2(less / made, project / made)
    path = project / "artifacts" / "benchmark.json"
    found, student = BenchmarkManifest.load(path), StudentManifest.load(path.with_name("student.json"))
    (weights,) = (item.digest[:32] for item in student.items if item.id == "model.safetensors")
    found.model_copy(update={"recipe": {**found.recipe, "student": weights}}).save(path)


def _experiments(project: Path, number: int) -> None:
    """A finished run as DVC knows it, and so many tags that name it."""
    dvc(project, "commit", "-f", "-q")
    commit(project, "run")
    for experiment in range(number):
        git(project, "tag", f"experiment-{experiment}")


def _why(project: Path) -> None:
    key = sorted((project / ".store" / "tokens").glob("*/*/item.json"))[-1].parent.name
    store(project, "why", key)


def measure(asked: argparse.Namespace, folder: Path) -> list[Row]:
    """All rows."""
    slides, only = asked.slides, asked.only
    sizes, projects = (slides // PART, slides), (folder / LESS, folder / "more")
    for size, project in zip(sizes, projects, strict=True):
        project.mkdir()
        make_lab(project, size)
        make_picture_folders(project / "folders", size)
    apart, rows = Apart(MODULES), list[Row]()
    todo = list(operations(asked.experiments, asked.linked))
    if only:
        last = max((i for i, (name, _) in enumerate(todo) if any(word in name for word in only)), default=-1)
        todo = todo[: last + 1]
    for name, work in todo:
        taken = [apart.run(work, project) for project in projects]
        rows.append(Row(name, sizes, (taken[0], taken[1])))
        less, more = taken
        said = f"{less.cpu_s:.2f}, {more.cpu_s:.2f} CPU s, {less.peak_mb:.0f}, {more.peak_mb:.0f} MB"
        print(f"{name}: {said}", more.error or "", flush=True)
    return [row for row in rows if not row.name.startswith("prepare")]


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=1000, help="slides of the larger lab")
    parser.add_argument("--experiments", type=int, default=50, help="git tags that name the finished run")
    parser.add_argument("--linked", action="store_true", help="make items of a hundred slides alone; see above")
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[], help="stop after the last row named so")
    parser.add_argument("--folder", type=Path, help="on the disk of interest (the system's temporary folder)")
    asked = parser.parse_args()
    with scratch(asked.folder) as folder:
        rows = measure(asked, folder)
        less, more = rows[0].slides
        columns = ("", f"CPU s, {less}", f"CPU s, {more}", "wall s", "ms a slide", "law", "peak MB", "")
        show(f"{more} slides", columns, [row.cells() for row in rows])
    told: dict[str, Any] = {row.name: row.figures() for row in rows}
    finish({"slides": asked.slides, "rows": told, "failed": [row.name for row in rows if row.taken[1].error]})


if __name__ == "__main__":
    main()
