"""Who may import whom: the house rules, checked on the code as it stands."""

from __future__ import annotations

import subprocess
import sys

import pytest
from imports import ROOT, imported, modules, ours

ROOMS = ("slides", "tiles", "tokens", "student", "evaluation")
ONLY_IN = {
    "openslide": "pipeline.slides.reader",
    "cv2": "pipeline.tiles.resample",
    "zarr": "pipeline.arrays",
    "torch_tensorrt": "pipeline.tokens.engines.tensorrt",
}


def room(module: str) -> str:
    """`stages`, `kernels`, a room of pipeline, or `base`."""
    parts = module.split(".")
    if parts[0] != "pipeline":
        return parts[0]
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "base"


def allowed(module: str) -> set[str]:
    where = room(module)
    if where == "stages":
        return {"stages", "base", "kernels", *ROOMS}
    if where == "kernels":
        return {"kernels"}
    if where == "base":
        return {"base"}
    return {"base", "kernels", *ROOMS[: ROOMS.index(where) + 1]}


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_run_downstream_to_upstream(module: str) -> None:
    if module == "pipeline":
        return
    wrong = {name for name in ours(modules()[module]) if name != "pipeline" and room(name) not in allowed(module)}
    assert not wrong, f"{module} may not import {sorted(wrong)}"


def test_nothing_imports_what_measures() -> None:
    users = {module for module, path in modules().items() if "bench" in {n.split(".")[0] for n in imported(path)}}
    assert not users


def test_stages_never_import_each_other() -> None:
    for module, path in modules().items():
        if module.startswith("stages.") and module != "stages.__main__":
            assert ours(path) & {m for m in modules() if m.startswith("stages.")} <= {"stages.command"}, module


@pytest.mark.parametrize(("library", "home"), ONLY_IN.items())
def test_a_library_with_one_home_is_imported_there_alone(library: str, home: str) -> None:
    users = {module for module, path in modules().items() if library in {n.split(".")[0] for n in imported(path)}}
    # What a bench compares with is the library as users call it.
    assert users <= {home, "pipeline.slides.bench", "pipeline.tokens.bench_arrays"}


def test_triton_is_imported_in_kernels_alone() -> None:
    for module, path in modules().items():
        if "triton" in {name.split(".")[0] for name in imported(path)}:
            assert module.startswith("kernels.") and module.endswith(".kernel"), module


@pytest.mark.parametrize("stage", ["slides", "tiles", "report"])
def test_stages_that_need_no_torch_start_without_it(stage: str) -> None:
    code = f"import sys, stages.{stage}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_files_stay_small() -> None:
    long = {m: n for m, path in modules().items() if (n := len(path.read_text().splitlines())) > 320}
    assert not long, f"one idea a file; split {long}"
