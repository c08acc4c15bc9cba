"""A copy of the project in a folder of its own, as a user's clone would be, with settings small enough for tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from made.processes import until
from made.python_server import loaded_python

ROOT = Path(__file__).parents[1]

TINY: dict[str, dict[str, Any]] = {
    "slides": {"demo_px": 512},
    "tiles": {"tile_px": 64},
    "tokens": {"demo_teacher_steps": 1, "calibration_tiles": 8, "batch_size": 8},
    "student": {"epochs": 1, "batch_size": 8, "input_px": 64},
    "evaluate": {"bootstrap": 100, "episodes": 5, "mil_epochs": 2, "robustness_tiles": 2, "max_dense_tiles": 50},
    "benchmark": {"batch_sizes": [1], "seconds": 0.05},
    "cluster": {"workers": 1},
}

NOT_RUN = ("bench/", "tests/")
"""What no stage reads, and DVC would look through with each command."""


class Project:
    """A git repository with the working tree's files; `dvc` and `python` run in it as a user would run them.

    What the stages import from elsewhere is loaded before (made/python_server.py).
    """

    def __init__(self, root: Path, params: dict[str, dict[str, Any]], rows: str) -> None:
        self.root = root
        names = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for name in filter(None, names.stdout.split("\0")):
            if (ROOT / name).is_file() and not name.startswith(NOT_RUN):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
                self._copy_compiled(ROOT / name, root / name)
        merged = yaml.safe_load((root / "params.yaml").read_text())
        for section, values in params.items():
            merged[section].update(values)
        (root / "params.yaml").write_text(yaml.safe_dump(merged, sort_keys=False))
        (root / "slides.csv").write_text(rows)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("HISTILL_", "PYTEST_"))},
            "PATH": f"{Path(loaded_python()).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }
        self.git("init", "-q", "-b", "main")
        self.commit("as cloned")

    @staticmethod
    def _copy_compiled(source: Path, copy: Path) -> None:
        """What Python has made of the file, where it has: it knows it by the file's time and size, which are copied."""
        if source.suffix != ".py":
            return
        compiled = Path(importlib.util.cache_from_source(str(source)))
        if compiled.is_file():
            target = Path(importlib.util.cache_from_source(str(copy)))
            target.parent.mkdir(exist_ok=True)
            shutil.copy2(compiled, target)

    def git(self, *words: str) -> None:
        settings = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *settings, *words], cwd=self.root, check=True, capture_output=True)

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message)

    def dvc(self, *words: str, ok: bool = True, **environment: str) -> str:
        """Run a dvc command; its output, both streams together."""
        done = subprocess.run(
            [loaded_python(), "-m", "dvc", *words],
            cwd=self.root,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not ok or done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def kill_when(self, ready: Callable[[], bool], *words: str, **environment: str) -> str:
        """Start a dvc command and kill -9 all of it once `ready()`, which stays so; what it had printed by then.

        It is Python itself that is started: what the server forks is in no group of the command's.
        """
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with tempfile.TemporaryFile("w+") as printed:
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", "dvc", *words],
                cwd=self.root,
                env={**self.environment, "PATH": path, **environment},
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

            def there() -> bool:
                assert process.poll() is None, "it ended before it could be killed"
                return ready()

            until(there)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            printed.seek(0)
            return printed.read()

    def store_files(self, kind: str, store: Path | None = None) -> dict[str, bytes]:
        """Content of every committed file of a kind, by its name in the store."""
        root = store or self.root / ".store"
        files = (path for path in sorted((root / kind).rglob("*")) if path.is_file() and ".partial" not in str(path))
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

    def written(self, kind: str) -> dict[str, int]:
        """When each committed item of a kind was written: ns by name. Equal before and after = nothing recomputed."""
        items = (self.root / ".store" / kind).glob("*/*/item.json")
        return {f"{path.parent.parent.name}/{path.parent.name}": path.stat().st_mtime_ns for path in items}

    def artifact(self, stage: str) -> bytes:
        return (self.root / "artifacts" / f"{stage}.json").read_bytes()
