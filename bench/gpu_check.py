"""All that a session with a GPU has to run, in one program: answers first, then times.

    python -m bench.gpu_check --out DIR [--budget SECONDS] [--only STEP …]

Each step is a program of its own (`STEPS`) in a process of its own with a time limit, so that one that fails or hangs
loses nothing but itself. As each ends, a line goes to DIR/gpu_check.jsonl (step, status, seconds, the JSON object that
its program printed last) and its output to DIR/gpu_check.log. At the end a table, and as last line one JSON object.
Exits with 1 where a step failed. A step for which the budget leaves no time is `skipped`: run those with `--only`.

Without a GPU it says so and ends; `--cpu` runs what runs there, tiny, with Triton's interpreter: it shows that the
programs run, and measures nothing. On a GPU it has not run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.printing import finish, show
from bench.scratch import die_with_parent

_MACHINE = """
import importlib.util, json, torch
gpu = torch.cuda.is_available()
needed = "timm triton zarr simplejpeg pyarrow scipy tifffile imagecodecs h5py pydantic rich accelerate".split()
print(json.dumps({
    "gpu": torch.cuda.get_device_name() if gpu else None,
    "capability": torch.cuda.get_device_capability() if gpu else None,
    "memory_gb": round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1) if gpu else None,
    "torch": torch.__version__,
    "missing": [name for name in needed if importlib.util.find_spec(name) is None],
    "optional": [name for name in ("torch_tensorrt", "modelopt", "pynvml") if importlib.util.find_spec(name)],
}))
"""
_VIT_L = "bench.tokens.stream --teacher vit_large_patch16_224 --batch 256 --tiles 8192 --rounds 3 --precision bf16"


@dataclass(frozen=True)
class Step:
    """A program: `gpu` and `cpu` are the words after `python -m` (cpu None: not there), `limit_s` its time."""

    name: str
    gpu: str
    cpu: str | None
    limit_s: int


STEPS = (
    Step("kernels", "bench.kernels.check", "bench.kernels.check", 120),
    Step("tokens", "bench.tokens.check", "bench.tokens.check", 240),
    Step("student", "bench.student.check", "bench.student.check", 180),
    Step("epilogue", "bench.kernels.epilogue", "bench.kernels.epilogue", 90),
    Step("dequantise", "bench.kernels.dequantise", "bench.kernels.dequantise", 90),
    Step("dense_loss", "bench.kernels.dense_loss", "bench.kernels.dense_loss --tiles 1 --repeats 1", 90),
    Step("stream", f"{_VIT_L} --engine compile", "bench.tokens.stream --teacher test_vit --tiles 8 --rounds 1", 300),
    Step("stream_fp8", _VIT_L.replace("bf16", "fp8"), None, 300),
    Step(
        "loader",
        "bench.student.loader --batch-size 256 --workers 8 --rounds 5 --long 100",
        "bench.student.loader --slides 2 --tiles 16 --batch-size 4 --rounds 1 --steps 1 --long 10",
        180,
    ),
    Step("terms", "bench.student.terms --batch 256", "bench.student.terms --batch 2 --repeats 1", 120),
    Step("arrays", "bench.tokens.arrays", None, 120),
)
"""In the order in which they are run: the gates, then what is measured."""


def run(step: Step, cpu: bool, left_s: float, log: Path) -> dict[str, Any]:
    """What became of a step: `ok`, `failed`, `timed out`, `skipped`, `not on a CPU`; `seconds`, `result`, `why`."""
    words = step.cpu if cpu else step.gpu
    if words is None:
        return {"step": step.name, "status": "not on a CPU"}
    if left_s < min(10, step.limit_s):
        return {"step": step.name, "status": "skipped", "why": "the budget is spent"}
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if cpu else {}) | {"PYTHONUNBUFFERED": "1"}
    began, status = time.monotonic(), "ok"
    child = subprocess.Popen(
        [sys.executable, "-m", *words.split()],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    try:
        printed, _ = child.communicate(timeout=min(step.limit_s, left_s))
        status = "ok" if child.returncode == 0 else "failed"
    except subprocess.TimeoutExpired:
        # Its loader and compiler processes with it.
        os.killpg(child.pid, signal.SIGKILL)
        printed, status = child.communicate()[0], "timed out"
    seconds = round(time.monotonic() - began, 1)
    with log.open("a") as file:
        file.write(f"\n=== {step.name}: python -m {words} ({status}, {seconds} s)\n{printed}")
    told: dict[str, Any] = {"step": step.name, "status": status, "seconds": seconds, "result": last_object(printed)}
    return told if status == "ok" else told | {"why": "\n".join(printed.strip().splitlines()[-5:])[-1000:]}


def last_object(printed: str) -> dict[str, Any] | None:
    """The JSON object in the last line that is one; None without any."""
    for line in reversed(printed.splitlines()):
        if line.startswith("{"):
            try:
                found: dict[str, Any] = json.loads(line)
            except ValueError:
                continue
            return found
    return None


def machine(cpu: bool) -> dict[str, Any]:
    """The GPU, torch, and which of the needed packages are missing."""
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if cpu else {})
    done = subprocess.run(
        [sys.executable, "-c", _MACHINE], env=environment, capture_output=True, text=True, check=False
    )
    return last_object(done.stdout) or {"gpu": None, "missing": ["torch"], "why": done.stderr.strip()[-500:]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the steps, print the table and the object."""
    parser = argparse.ArgumentParser(description="all that a session with a GPU has to run: answers, then times")
    parser.add_argument("--out", type=Path, default=Path(), help="where gpu_check.jsonl and gpu_check.log go")
    parser.add_argument("--budget", type=float, default=570, help="seconds for all steps together")
    parser.add_argument("--only", nargs="+", choices=[step.name for step in STEPS], metavar="STEP")
    parser.add_argument("--cpu", action="store_true", help="run what runs without a GPU; nothing is measured")
    options = parser.parse_args(arguments)
    began, found = time.monotonic(), machine(options.cpu)
    print(json.dumps(found), flush=True)
    if found["missing"]:
        print(f"not installed here: {', '.join(found['missing'])}; steps that need them will fail")
    if found["gpu"] is None and not options.cpu:
        print("there is no GPU here, so nothing was run; --cpu runs what can be run without one")
        finish({"machine": found, "steps": {}, "ok": False})
        sys.exit(1)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for step in STEPS:
        if options.only and step.name not in options.only:
            continue
        left_s = options.budget - (time.monotonic() - began)
        rows.append(run(step, options.cpu, left_s, options.out / "gpu_check.log"))
        with (options.out / "gpu_check.jsonl").open("a") as file:
            file.write(json.dumps(rows[-1] | {"gpu": found["gpu"]}) + "\n")
        print(f"{step.name}: {rows[-1]['status']}", flush=True)
    for row in rows:
        if "why" in row:
            print(f"\n{row['step']}: {row['why']}")
    show("Steps", ("step", "status", "s"), [(row["step"], row["status"], row.get("seconds", "")) for row in rows])
    good = all(row["status"] in ("ok", "not on a CPU") for row in rows)
    told = {row["step"]: {"status": row["status"], "result": row.get("result")} for row in rows}
    finish({"machine": found, "measured": found["gpu"] is not None, "steps": told, "ok": good})
    sys.exit(not good)


if __name__ == "__main__":
    main()
