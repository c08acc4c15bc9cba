"""What pyproject.toml declares and what the code imports are the same."""

from __future__ import annotations

import re
import sys
import tomllib
from functools import cache
from importlib.metadata import distribution
from pathlib import PurePosixPath

import pytest
from imports import PACKAGES, ROOT, imported, modules

TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
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


@cache
def names_of(requirement: str) -> frozenset[str]:
    """Top-level names that a distribution has, by the list of its files."""
    files = distribution(canonical(requirement)).read_text("RECORD") or ""
    paths = [PurePosixPath(line.split(",")[0]) for line in files.splitlines()]
    return frozenset(path.parts[0].split(".")[0] for path in paths if path.suffix in (".py", ".so"))


@cache
def used() -> frozenset[str]:
    """Top-level names that the code imports."""
    return frozenset(name.split(".")[0] for path in modules().values() for name in imported(path))


@pytest.mark.parametrize("requirement", DECLARED)
def test_a_dependency_is_imported_or_says_what_it_is_for(requirement: str) -> None:
    (line,) = (line for line in TEXT.splitlines() if line.strip().startswith(f'"{requirement}"'))
    assert names_of(requirement) & used() or "#" in line, (
        f"{requirement}: nothing imports it, and its line does not say why it is there"
    )


def test_what_is_imported_is_declared() -> None:
    foreign = used() - sys.stdlib_module_names - set(PACKAGES) - WITH_TORCH - OPTIONAL
    assert not foreign - frozenset().union(*map(names_of, DECLARED))
