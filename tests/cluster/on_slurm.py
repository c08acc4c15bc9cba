"""What tests have done by a cluster that a stage starts; and, run as a program, a stage that is killed at its work."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import dask

from pipeline.base.store import Ref, Store, recipe_key
from pipeline.cluster.spread import each
from pipeline.cluster.started import clusters_end
from pipeline.params.site import ClusterParams

RECIPE = {"of": "a test"}


@dataclass(frozen=True)
class Task:
    """An item that takes so long, or until a file is read, which may be held (made/held.py)."""

    store: Store
    item: str
    seconds: float = 0.0
    reads: Path | None = None

    @property
    def ref(self) -> Ref:
        return Ref("tiles", recipe_key(RECIPE), self.item)


def make(task: Task) -> str:
    """Make an item, as a stage does for a slide; the number of the job that it was made in, else of the process."""
    with open(task.store.root / "begun", "a") as file:
        file.write(f"{task.item}\n")
    with task.store.write(task.ref, RECIPE) as folder:
        time.sleep(task.seconds)
        if task.reads is not None:
            task.reads.read_bytes()
        (folder / "data").write_text(task.item)
    return os.environ.get("SLURM_JOB_ID", str(os.getpid()))


def lost_soon() -> dask.config.set:
    """Within the block a lost worker is given a second to come back before another job is asked for."""
    # Its own settings first: those that are set before would be taken away with all of them.
    importlib.import_module("distributed")
    return dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"})


if __name__ == "__main__":
    with lost_soon(), clusters_end():
        reads = Path(sys.argv[3]) if sys.argv[3:] else None
        tasks = [Task(Store(Path(sys.argv[1])), name, 0.0 if reads else 4.0, reads) for name in "abcdefghijklmnop"]
        list(each(make, tasks, ClusterParams.model_validate(json.loads(sys.argv[2]))))
