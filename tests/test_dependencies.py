"""What pyproject.toml declares and what the code imports are the same."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from imports import PACKAGES, ROOT, imported, modules

TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
OWNERS = packages_distributions()
"""Module to the distributions that have it."""
DECLARED = tomllib.loads(TEXT)["project"]["dependencies"]
WITH_TORCH = {"triton"}
"""Comes with torch where there is a GPU for it; kernels ask for it first."""
OPTIONAL = {
    "dask_jobqueue",
    "dask_kubernetes",
    "modelopt",
    "onnxruntime",
    "openvino",
    "pynvml",
    "tensorrt_rtx_bindings",
    "torch_tensorrt",
}
"""The extras': what imports them does without."""


def canonical(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert name
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def used() -> set[str]:
    """Top-level names that the code imports."""
    return {name.split(".")[0] for path in modules().values() for name in imported(path)}


@pytest.mark.parametrize("requirement", DECLARED)
def test_a_dependency_is_imported_or_says_what_it_is_for(requirement: str) -> None:
    names = {name for name, owners in OWNERS.items() if canonical(requirement) in map(canonical, owners)}
    (line,) = (line for line in TEXT.splitlines() if line.strip().startswith(f'"{requirement}"'))
    assert names & used() or "#" in line, (
        f"{requirement}: nothing imports it, and its line does not say why it is there"
    )


def test_what_is_imported_is_declared() -> None:
    foreign = used() - sys.stdlib_module_names - set(PACKAGES) - WITH_TORCH - OPTIONAL
    declared = set(map(canonical, DECLARED))
    assert not {name for name in foreign if not declared & set(map(canonical, OWNERS.get(name, ())))}
