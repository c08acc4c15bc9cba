"""A campaign of faults: does a store ever hold a wrong byte, and is anything done twice that was done?

A tiny real run is made undisturbed (`lab.py`). Then, seeded, each trial takes one stage of it with all that it reads
from the store and nothing that it makes, and

    kill               `kill -9`, one to three times, each at a random moment of what the stage takes
    full disk          the store on a disk that holds a random part of what the stage writes; then on a larger one
    read-only          the store turns read-only at a random moment; then it is writable again
    file size          `ulimit -f`: no file above a random size can be written; then without
    scheduler killed   `tiles` and `tokens` on two workers of a Dask scheduler that is killed at a random moment
    worker killed      the same, and one of the workers is
    run cut off        the connections between the stage and the scheduler are cut
    workers cut off    those between the workers and the scheduler are, and workers are started again

then the stage again, and at the end compares each item and the manifest with the undisturbed run's. What is counted:

    hit         trials in which the fault came before the stage's end
    wrong       items, files of items or manifests that differ, items that are missing, stages that hang
    redone      items committed before a fault that were made again: none should be
    left        what is left in the store that is no item: partials, owners' files, files half written
    tracebacks  of errors that were not told in the project's own words, and in what a stage has printed

A trial whose processes are all killed by somebody else (the system, for want of memory) is made again, and said to be.
Without the right to mount, faults of disks are left out, and said to be. Not covered: power cuts, network file
systems.

Run: python -m bench.faults [--kills N] [--faults N] [--seed N] [--only FAULT …]; the last line is one JSON object; exit
code 1 where anything was wrong, redone, left or told by a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import os
import random
import resource
import shutil
import sys
from pathlib import Path

import yaml

from bench.apart import Apart, Running, ServerLost, Told
from bench.campaign import MADE, Count, differing, leftovers
from bench.disks import disk_of, enlarge, may_mount, read_only
from bench.lab import PARAMS, make_lab
from bench.outside import Outside
from bench.printing import finish, show
from bench.scale import MODULES, stage
from bench.scratch import scratch

SPREAD = ("tiles", "tokens")
"""Stages that work on a cluster."""
WRITTEN = ("artifacts", "metrics", "models", "plots")
"""Folders of the project that stages write to and read from."""
KILLED, FULL, READ_ONLY, FILE_SIZE = "kill", "full disk", "read-only", "file size"
SCHEDULER, WORKER, RUN_CUT, WORKERS_CUT = "scheduler killed", "worker killed", "run cut off", "workers cut off"
DISKS, CONNECTIONS = (FULL, READ_ONLY), (SCHEDULER, WORKER, RUN_CUT, WORKERS_CUT)
FAULTS = (FULL, READ_ONLY, FILE_SIZE, *CONNECTIONS)
TOLD_FILE = "told.txt"
"""In a trial's project: what the stage has printed."""
MOST_VOID = 20
"""Trials that are made again, before it is given up."""
_HANGS_S = 240.0
"""After which a stage is taken for one that does not end; an owner of another machine is waited for half as long."""


class Campaign:
    """Trials against one undisturbed run in `folder`."""

    def __init__(self, folder: Path, slides: int, seed: int) -> None:
        self.random, self.apart = random.Random(seed), Apart((*MODULES, "distributed"))
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
        with contextlib.ExitStack() as around:
            if fault == FULL:
                around.enter_context(disk_of(self.store, self._too_small(name)))
            self._fill(name)
            outside = self._outside(fault, name, around)
            committed: dict[str, int] = {}
            for _ in range(self.random.randint(1, 3) if fault == KILLED else 1):
                count.hit += self._disturb(fault, name, outside, count)
                committed |= self._committed(name)
            if fault == FULL:
                enlarge(self.store)
            if fault == SCHEDULER:
                self._outside(fault, name, around)
            self._end(fault, name, self._start(name), count, "does not go on: ")
            after = self._committed(name)
            count.redone += sum(after.get(item) != written for item, written in committed.items())
            count.left += [f"{fault}, {name}: {path}" for path in leftovers(self.store)]
            count.wrong += [f"{fault}, {name}: {what}" for what in differing(self.whole, self.trial, name)]
            self.clear()

    def _disturb(self, fault: str, name: str, outside: Outside | None, count: Count) -> bool:
        """One run of the stage with the fault; whether it came before the end."""
        moment = self.random.uniform(0, 1.1 * self.seconds[f"{name} outside" if outside else name])
        if fault == FILE_SIZE:
            running = self.apart.start(limited, self.trial, name, int(2 ** self.random.uniform(6, 20)))
            return self._end(fault, name, running, count).error is not None
        running = self._start(name)
        if fault == FULL:
            return self._end(fault, name, running, count).error is not None
        if running.wait(moment):
            self._end(fault, name, running, count)
            return False
        if fault == KILLED:
            running.kill()
        elif fault == READ_ONLY:
            with read_only(self.store):
                self._end(fault, name, running, count)
        elif outside is not None:
            self._break(fault, outside)
            self._end(fault, name, running, count)
        return True

    def _break(self, fault: str, outside: Outside) -> None:
        if fault == SCHEDULER:
            outside.scheduler.kill()
        elif fault == WORKER:
            self.random.choice(outside.started).kill()
        elif fault == RUN_CUT:
            outside.runs.cut()
        else:
            outside.workers.cut()
            for _ in list(outside.started):
                outside.add_worker()

    def _start(self, name: str) -> Running:
        return self.apart.start(told_stage, self.trial, name)

    def _end(self, fault: str, name: str, running: Running, count: Count, failed: str | None = None) -> Told:
        """What a run came to; `failed`: it has to end well, and what is wrong where it does not."""
        where = f"{fault}, {name}: "
        if not running.wait(_HANGS_S):
            count.wrong.append(f"{where}does not end")
            return running.kill_after(0)
        told, path = running.told(), self.trial / TOLD_FILE
        printed = path.read_text(errors="replace") if path.exists() else ""
        path.unlink(missing_ok=True)
        if told.error and not told.error.strip().endswith("Exit: 1"):
            count.tracebacks.append(where + told.error)
        elif "Traceback (most" in printed or "Fatal Python error" in printed:
            count.tracebacks.append(where + printed[-2000:])
        if told.error and failed is not None:
            count.wrong.append(f"{where}{failed}{printed[-500:]}")
        return told

    def _outside(self, fault: str, name: str, around: contextlib.ExitStack) -> Outside | None:
        """A cluster for the trial where the fault is one of connections; the trial's params name it or none."""
        outside = around.enter_context(Outside(self.apart, self.trial)) if fault in CONNECTIONS else None
        cluster = {"workers": 1, "scheduler": outside.address if outside else None}
        (self.trial / "params.yaml").write_text(yaml.safe_dump({**PARAMS, "cluster": cluster}, sort_keys=False))
        if outside is not None and f"{name} outside" not in self.seconds:
            # Once undisturbed, for when faults are to come.
            self.seconds[f"{name} outside"] = self.apart.run(told_stage, self.trial, name).wall_s
            self.clear()
            self._fill(name)
        return outside

    def _too_small(self, name: str) -> int:
        """Bytes for all that is there before the stage, and a random part of what it writes."""
        earlier, own = _nbytes(self.whole / ".store", _before(name)), _nbytes(self.whole / ".store", MADE[name])
        return earlier + int(self.random.random() * own)

    def _fill(self, name: str) -> None:
        """All that the stage reads; nothing that it makes."""
        for kind in _before(name):
            if (self.whole / ".store" / kind).is_dir():
                shutil.copytree(self.whole / ".store" / kind, self.store / kind)

    def clear(self) -> None:
        """Nothing in the trial's store."""
        for kind in self.store.iterdir():
            shutil.rmtree(kind)

    def _committed(self, name: str) -> dict[str, int]:
        """Inode of each committed item of the stage."""
        paths = (path for kind in MADE[name] for path in self.store.glob(f"{kind}/*/[!.]*/item.json"))
        return {path.parent.relative_to(self.store).as_posix(): path.stat().st_ino for path in paths}


def told_stage(project: Path, name: str) -> None:
    """The stage, and what it prints in a file of the project."""
    handle = os.open(project / TOLD_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    stage(project, name, False)


def limited(project: Path, name: str, nbytes: int) -> None:
    """The stage where no file may be larger than so much; what it prints would be one."""
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


def main() -> None:
    """Run the trials, print the table and the object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="trials that kill")
    parser.add_argument("--faults", type=int, default=40, help="trials of the other faults together")
    parser.add_argument("--slides", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=FAULTS, help="of the other faults, these")
    asked = parser.parse_args()
    counts, void = dict[str, Count](), 0
    with scratch() as folder:
        mount = may_mount(folder / "mount")
        kinds = [fault for fault in asked.only if mount or fault not in DISKS]
        campaign = Campaign(folder, asked.slides, asked.seed)
        plan = [KILLED] * asked.kills + [kinds[i % len(kinds)] for i in range(asked.faults)]
        for number, fault in enumerate(plan, start=1):
            stages = SPREAD if fault in CONNECTIONS else tuple(MADE)
            before = counts.get(fault, Count())
            while True:
                count = counts[fault] = copy.deepcopy(before)
                try:
                    campaign.run(fault, stages[count.trials % len(stages)], count)
                    break
                except ServerLost:
                    void += 1
                    print(f"{number} of {len(plan)}: all of its processes were killed from outside: again", flush=True)
                    campaign.clear()
                    if void == MOST_VOID:
                        raise
            print(f"{number} of {len(plan)}: {fault}: {count.told()}", *count.news(), sep="\n    ", flush=True)
    columns = ("fault", "trials", "hit", "wrong", "redone", "left", "tracebacks")
    show("Faults", columns, [count.cells(name) for name, count in counts.items()])
    for count in counts.values():
        for what in [*count.wrong, *count.left, *count.tracebacks][:10]:
            print(what)
    told = {name: dict(zip(columns[1:], count.cells(name)[1:], strict=True)) for name, count in counts.items()}
    left_out = [] if mount else list(DISKS)
    finish(
        {
            "seed": asked.seed,
            "faults": told,
            "left_out": left_out,
            "void": void,
            "ok": not any(c.bad for c in counts.values()),
        }
    )
    sys.exit(any(count.bad for count in counts.values()))


if __name__ == "__main__":
    main()
