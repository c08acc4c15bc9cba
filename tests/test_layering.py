"""Who may import whom: the house rules, checked on the code as it stands."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter

import pytest
from imports import ROOT, imported, modules, ours

ROOMS = (
    "base",
    "params",
    "cluster",
    "upkeep",
    "remote",
    "demo",
    "slides",
    "tiles",
    "views",
    "teachers",
    "tokens",
    "imports",
    "corpus",
    "inputs",
    "student",
    "sets",
    "measures",
    "evaluate",
    "benchmark",
    "report",
    "study",
    "embed",
    "export",
    "maps",
    "machine",
)
"""From the ground floor up: a room imports itself and those before it."""
MOST_LINES, MOST_FILES = 4000, 20
"""Of a room with its folders, and of one folder's own."""
ONLY_IN = {
    "fsspec": "pipeline.remote.objects",
    "openslide": "pipeline.slides.read.reader",
    "cv2": "pipeline.tiles.opencv",
    "torch_tensorrt": "pipeline.teachers.engines.tensorrt",
}


def room(module: str) -> str:
    """`stages`, `kernels`, `bench`, or a room of pipeline."""
    parts = module.split(".")
    return parts[1] if parts[0] == "pipeline" and len(parts) > 1 else parts[0]


def allowed(module: str) -> set[str]:
    where = room(module)
    if where == "stages":
        return {"stages", "kernels", *ROOMS}
    if where == "kernels":
        return {"kernels"}
    return {"kernels", *ROOMS[: ROOMS.index(where) + 1]}


def test_imports_run_downstream_to_upstream() -> None:
    wrong = {
        module: sorted(name for name in ours(path) if name != "pipeline" and room(name) not in allowed(module))
        for module, path in modules().items()
        if module != "pipeline"
    }
    assert not {module: names for module, names in wrong.items() if names}, "what each of them may not import"


def test_stages_never_import_each_other() -> None:
    """The command line calls stages by name, when they are asked for: it imports none of them."""
    for module, path in modules().items():
        if module.startswith("stages.") and module != "stages.__main__":
            others = ours(path) & {m for m in modules() if m.startswith("stages.")}
            if module.startswith("stages.cli"):
                others = {name for name in others if not name.startswith("stages.cli")}
            assert others <= {"stages.command"}, module


@pytest.mark.parametrize(("library", "home"), ONLY_IN.items())
def test_a_library_with_one_home_is_imported_there_alone(library: str, home: str) -> None:
    users = {module for module, path in modules().items() if library in {n.split(".")[0] for n in imported(path)}}
    assert users == {home}


def test_triton_is_imported_in_kernels_alone() -> None:
    for module, path in modules().items():
        if "triton" in {name.split(".")[0] for name in imported(path)}:
            assert module.startswith("kernels.") and module.endswith(".kernel"), module


def test_stages_that_need_no_torch_start_without_it() -> None:
    """One process of all, since what one of them imported would be there; and the page without scikit-learn."""
    heavy = "print(*sorted({'torch', 'sklearn'} & set(sys.modules)))"
    code = f"import sys, stages.report, pipeline.report.page; {heavy}; import stages.slides, stages.tiles; {heavy}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "\n\n"


def test_nothing_imports_what_measures() -> None:
    for module, path in modules().items():
        assert not any(name.split(".")[0] == "bench" for name in imported(path)), module


def test_every_room_says_what_it_is_for() -> None:
    rooms = {path.name for path in (ROOT / "pipeline").iterdir() if (path / "__init__.py").is_file()}
    assert rooms == set(ROOMS)
    for package in [ROOT / "bench", *(ROOT / "bench").glob("*/"), *(ROOT / "pipeline").glob("**/")]:
        if list(package.glob("*.py")):
            assert ast.get_docstring(ast.parse((package / "__init__.py").read_text())), package


@pytest.mark.parametrize("name", ROOMS)
def test_rooms_stay_small(name: str) -> None:
    files = list((ROOT / "pipeline" / name).rglob("*.py"))
    assert sum(len(path.read_text().splitlines()) for path in files) <= MOST_LINES
    folders = Counter(path.parent for path in files)
    assert max(folders.values()) <= MOST_FILES, folders


def test_files_stay_small() -> None:
    long = {m: n for m, path in modules().items() if (n := len(path.read_text().splitlines())) > 320}
    assert not long, f"one idea a file; split {long}"
