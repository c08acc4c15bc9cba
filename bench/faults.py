"""A campaign of faults: does a store ever hold a wrong byte, and is anything done twice that was done?

A tiny real run is made undisturbed (`lab.py`). Then, seeded, each trial takes one stage of it with all that it reads
from the store and nothing that it makes, and

    kill        `kill -9`, one to three times, each at a random moment of what the stage takes, then the stage again
    full disk   the store on a disk that holds a random part of what the stage writes; then on a larger one
    read-only   the store on a disk that turns read-only at a random moment; then writable again
    file size   `ulimit -f`: no file above a random size can be written; then without

and at the end compares each item and the manifest with the undisturbed run's. What is counted:

    wrong       items, files of items or manifests that differ, and items that are missing
    redone      items committed before a fault that were made again: none should be
    left        partial folders after the end
    tracebacks  of errors that were not told in the project's own words

Disks are tmpfs: without the right to mount them those trials are left out, and said to be. Not covered: power cuts,
network file systems, faults of connections.

Run: python -m bench.faults [--kills N] [--faults N] [--seed N]; the last line is one JSON object; exit code 1 where
anything was wrong, redone, left or told by a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.apart import Apart, Told
from bench.lab import make_lab
from bench.printing import finish, show
from bench.scale import MODULES, stage
from bench.scratch import scratch
from pipeline.base.store import Store

MADE = {
    "tiles": ("tiles",),
    "tokens": ("tokens",),
    "student": ("checkpoints",),
    "evaluate": ("embeddings", "figures"),
}
"""Kinds of the store's items by the stage that makes them, in order."""
WRITTEN = ("artifacts", "metrics", "models", "plots")
"""Folders of the project that stages write to and read from."""
KILLED, FULL, READ_ONLY, FILE_SIZE = "kill", "full disk", "read-only", "file size"
DISKS = (FULL, READ_ONLY)
ROOM = 256 << 20
"""Bytes of a disk that holds everything."""


@dataclass
class Count:
    """What the trials of one fault came to."""

    trials: int = 0
    hit: int = 0
    """Trials in which the fault came before the stage's end."""
    wrong: list[str] = field(default_factory=list)
    redone: int = 0
    left: int = 0
    tracebacks: list[str] = field(default_factory=list)

    @property
    def bad(self) -> bool:
        """Whether there is anything that should not be."""
        return bool(self.wrong or self.redone or self.left or self.tracebacks)

    def cells(self, name: str) -> tuple[object, ...]:
        """As the table shows it."""
        return name, self.trials, self.hit, len(self.wrong), self.redone, self.left, len(self.tracebacks)


class Campaign:
    """Trials against one undisturbed run in `folder`."""

    def __init__(self, folder: Path, slides: int, seed: int) -> None:
        self.random, self.apart = random.Random(seed), Apart(MODULES)
        self.whole, self.trial = folder / "whole", folder / "trial"
        self.whole.mkdir()
        make_lab(self.whole, slides)
        self.seconds: dict[str, float] = {}
        for name in ("slides", *MADE):
            told = self.apart.run(stage, self.whole, name)
            if told.error:
                raise RuntimeError(f"{name}, undisturbed: {told.error}")
            self.seconds[name] = told.wall_s
        self.trial.mkdir()
        for path in self.whole.iterdir():
            if path.name in (".dvc", "slides"):
                (self.trial / path.name).symlink_to(path)
            elif path.is_dir() and path.name in WRITTEN:
                shutil.copytree(path, self.trial / path.name)
            elif path.is_file():
                shutil.copy2(path, self.trial / path.name)
        self.store = self.trial / ".store"
        self.store.mkdir()

    def run(self, fault: str, name: str, count: Count) -> None:
        """One trial of one stage."""
        count.trials += 1
        with self._disk(fault, name):
            self._fill(name)
            committed: dict[str, int] = {}
            for _ in range(self.random.randint(1, 3) if fault == KILLED else 1):
                told = self._disturbed(fault, name)
                count.hit += told.error is not None
                if told.error and not told.error.strip().endswith(("Exit: 1", f"exit code {-9}")):
                    count.tracebacks.append(told.error)
                committed |= self._committed(name)
            self._mend(fault)
            told = self.apart.run(stage, self.trial, name)
            if told.error:
                count.wrong.append(f"{fault}, {name}: does not go on: {told.error}")
            after = self._committed(name)
            count.redone += sum(after.get(item) != written for item, written in committed.items())
            count.left += len(list(self.store.glob("*/*/.partials/*/*")))
            count.wrong += [f"{fault}, {name}: {what}" for what in differing(self.whole, self.trial, name)]
            self._empty()

    def _disturbed(self, fault: str, name: str) -> Told:
        moment = self.random.uniform(0, 1.1 * self.seconds[name])
        if fault == KILLED:
            return self.apart.start(stage, self.trial, name, False).kill_after(moment)
        if fault == FILE_SIZE:
            return self.apart.run(limited, self.trial, name, int(2 ** self.random.uniform(6, 20)))
        if fault == FULL:
            return self.apart.run(stage, self.trial, name, False)
        running = self.apart.start(stage, self.trial, name, False)
        running.wait(moment)
        # Open files keep a disk from turning read-only: then it is tried again a little later.
        while not _mounted("remount,ro", self.store) and not running.wait(0.001):
            pass
        return running.told()

    @contextlib.contextmanager
    def _disk(self, fault: str, name: str) -> Iterator[None]:
        """Where it is about disks, the store on one of its own; for `full disk` a random part of the stage's bytes."""
        if fault not in DISKS:
            yield
            return
        size = ROOM
        if fault == FULL:
            earlier = _nbytes(self.whole / ".store", _before(name))
            size = earlier + int(self.random.random() * _nbytes(self.whole / ".store", MADE[name]))
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(self.store)], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(self.store)], check=True)

    def _mend(self, fault: str) -> None:
        if fault in DISKS and not _mounted(f"remount,rw,size={ROOM}", self.store):
            raise RuntimeError("the disk does not turn writable again")

    def _fill(self, name: str) -> None:
        """All that the stage reads; nothing that it makes."""
        for kind in _before(name):
            if (self.whole / ".store" / kind).is_dir():
                shutil.copytree(self.whole / ".store" / kind, self.store / kind)

    def _empty(self) -> None:
        for kind in self.store.iterdir():
            shutil.rmtree(kind)

    def _committed(self, name: str) -> dict[str, int]:
        """Inode of each committed item of the stage."""
        paths = (path for kind in MADE[name] for path in self.store.glob(f"{kind}/*/[!.]*/item.json"))
        return {path.parent.relative_to(self.store).as_posix(): path.stat().st_ino for path in paths}


def differing(whole: Path, trial: Path, name: str) -> Iterator[str]:
    """What the stage left in project `trial` that is not as in `whole`: items, their files, its manifest."""
    kinds, stores = set(MADE[name]), (Store(whole / ".store"), Store(trial / ".store"))
    expected, found = ({ref for ref in store.refs() if ref.kind in kinds} for store in stores)
    yield from (f"{ref} is missing" for ref in expected - found)
    yield from (f"{ref} is of no undisturbed run" for ref in found - expected)
    for ref in expected & found:
        if stores[0].digest(ref) != stores[1].digest(ref):
            yield f"{ref} differs"
        yield from (f"{ref}: {file} {what}" for file, what in stores[1].faults(ref).items())
    manifest = f"artifacts/{name}.json"
    if (whole / manifest).read_bytes() != (trial / manifest).read_bytes():
        yield f"{manifest} differs"


def limited(project: Path, name: str, nbytes: int) -> None:
    """The stage where no file may be larger than so much."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, resource.RLIM_INFINITY))
    stage(project, name, False)


def _before(name: str) -> list[str]:
    """Kinds that the stages before make, and whatever no stage of these does (the demo's slides, teachers)."""
    names = list(MADE)
    return [kind for earlier in names[: names.index(name)] for kind in MADE[earlier]]


def _nbytes(store: Path, kinds: list[str] | tuple[str, ...]) -> int:
    """What they take on a disk of pages."""
    paths = [path for kind in kinds for path in (store / kind).rglob("*")]
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in paths if path.is_file()) + (64 << 10)


def _mounted(options: str, folder: Path) -> bool:
    return subprocess.run(["mount", "-o", options, str(folder)], capture_output=True, check=False).returncode == 0


def _may_mount(folder: Path) -> bool:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    return subprocess.run(["umount", str(folder)], check=False).returncode == 0


def main() -> None:
    """Run the trials, print the table and the object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="trials that kill")
    parser.add_argument("--faults", type=int, default=40, help="trials of the other faults together")
    parser.add_argument("--slides", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    counts: dict[str, Count] = {}
    with scratch() as folder:
        kinds = [FULL, READ_ONLY, FILE_SIZE] if _may_mount(folder / "mount") else [FILE_SIZE]
        campaign = Campaign(folder, asked.slides, asked.seed)
        plan = [KILLED] * asked.kills + [kinds[i % len(kinds)] for i in range(asked.faults)]
        stages = [list(MADE)[i % len(MADE)] for i in range(len(plan))]
        for number, (fault, name) in enumerate(zip(plan, stages, strict=True), start=1):
            count = counts.setdefault(fault, Count())
            campaign.run(fault, name, count)
            if number % 10 == 0:
                print(f"{number} of {len(plan)}: {Counter(fault for fault in plan[:number])}", flush=True)
    columns = ("fault", "trials", "hit", "wrong", "redone", "left", "tracebacks")
    show("Faults", columns, [count.cells(name) for name, count in counts.items()])
    for count in counts.values():
        for what in [*count.wrong, *count.tracebacks][:10]:
            print(what)
    told = {name: dict(zip(columns[1:], count.cells(name)[1:], strict=True)) for name, count in counts.items()}
    left_out = [] if len(kinds) > 1 else list(DISKS)
    finish({"seed": asked.seed, "faults": told, "left_out": left_out, "ok": not any(c.bad for c in counts.values())})
    sys.exit(any(count.bad for count in counts.values()))


if __name__ == "__main__":
    main()
