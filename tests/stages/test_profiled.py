"""A stage under a profiler or debugger, which runs it as a main program that is not in `sys.modules`."""

import runpy

import pytest
from imports import ROOT

STAGES = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if "class Params" in path.read_text())


@pytest.mark.parametrize("name", STAGES)
def test_its_params_are_known_without_looking_its_module_up(name: str) -> None:
    params = runpy.run_path(str(ROOT / "stages" / f"{name}.py"), run_name="profiled")["Params"]
    assert params.__module__ == "profiled" and set(params().model_dump()) >= {"store", "cluster"}
