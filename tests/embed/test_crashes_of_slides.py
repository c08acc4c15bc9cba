"""A slide on which a decoder crashes costs a `histill embed` that slide, and is named; the command outlives it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from crashing_decoder import crash_on
from made.processes import is_alive, until
from made.python_server import loaded_python
from made.shipped import SIDE
from made.slides import make_slide, tissue_picture

NAMES = ("a", "b", "crash", "d")


def command(shipped: Path) -> tuple[list[str], dict[str, str]]:
    words = ["embed", "slides", "--out", "out", "--student", str(shipped), "--engine", "onnxruntime", "--jobs", "2"]
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), *sys.path]))
    return ["-m", "stages", *words], os.environ | {"PYTHONPATH": paths}


@pytest.fixture
def slides(here: Path) -> list[Path]:
    made = [here / "slides" / f"{name}.tif" for name in NAMES]
    for seed, path in enumerate(made):
        make_slide(path, tissue_picture(SIDE, SIDE, seed), kind="jpeg-rgb", tile_px=256)
    return made


def test_it_is_left_out_by_name_after_two_crashes_and_all_others_are_made(
    slides: list[Path], shipped: Path, here: Path
) -> None:
    with crash_on(slides[NAMES.index("crash")], 5, here) as log:
        words, env = command(shipped)
        done = subprocess.run([loaded_python(), *words], capture_output=True, text=True, env=env)
        assert done.returncode == 3, done.stderr
        assert "3 slides made" in done.stderr and "SIGSEGV" in done.stderr
        assert len(set(log.read_text().split())) == 2
        with open(here / "out" / "left_out.csv", newline="") as file:
            (row,) = csv.DictReader(file)
        assert row["slide"] == "crash" and "decoder crashes" in row["reason"] and "another viewer" in row["what to do"]
        features = sorted((here / "out").glob("*/features_*/*.h5"))
        assert [path.stem for path in features] == ["a", "b", "d"]
        assert all(len(h5py.File(path)["features"]) for path in features)
    assert not list((here / "out").rglob(".*"))
    # The next run looks at it again: by a decoder that does not crash it is made.
    words, env = command(shipped)
    assert subprocess.run([loaded_python(), *words], capture_output=True, text=True, env=env).returncode == 0
    assert not (here / "out" / "left_out.csv").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_ends_the_command_ends_its_child(
    slides: list[Path], shipped: Path, here: Path, number: signal.Signals
) -> None:
    words, env = command(shipped)
    # Python itself: the child is sought among its own.
    process = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL, env=env)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        until(lambda: children.read_text().split() or process.poll() is not None, 0.01)
        child = int(children.read_text().split()[0])
    finally:
        process.send_signal(number)
        process.wait()
    assert process.returncode == -number
    until(lambda: not is_alive(child), 0.01)
