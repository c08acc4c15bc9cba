"""torch's compiler is loaded by who compiles, and not by whoever imports timm.

Two files ask for `torch._dynamo` as they are imported: torchvision's roi_align for one function, and timm's layers for
the decorator that keeps four methods of NaFlex ViTs out of compiled graphs. Loading it takes about as long as torch
itself, and 150 MB, in every process that never compiles. Here both are given what fetches the real thing once it is
called. Installed by the room itself, which every stage imports before timm.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import ParamSpec, TypeVar

_COMPILER = "torch._dynamo.utils"
_ROI_ALIGN, _TIMM_TYPING = "torchvision.ops.roi_align", "timm.layers.typing"
P = ParamSpec("P")
R = TypeVar("R")


def install() -> None:
    """From here on; a second time, and where the compiler is loaded already, it changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds the two files where Python would, and has them executed by `_Deferring`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in (_ROI_ALIGN, _TIMM_TYPING) or _COMPILER in sys.modules:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Deferring(spec.loader)
        return spec


class _Deferring(Loader):
    """Executes one of the files without the compiler."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == _TIMM_TYPING:
            self._loader.exec_module(module)
            vars(module)["disable_compiler"] = _uncompiled
            return
        stand_in = ModuleType(_COMPILER)
        vars(stand_in)["is_compile_supported"] = _is_compile_supported
        sys.modules[_COMPILER] = stand_in
        try:
            self._loader.exec_module(module)
        finally:
            del sys.modules[_COMPILER]


def _is_compile_supported(device_type: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return bool(is_compile_supported(device_type))


def _uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """`torch.compiler.disable`, as soon as there is a compiler that could trace the function."""

    @functools.wraps(function)
    def called(*words: P.args, **named: P.kwargs) -> R:
        if _COMPILER not in sys.modules:
            return function(*words, **named)
        from torch.compiler import disable

        apart: Callable[P, R] = disable(function)  # type: ignore[no-untyped-call]
        return apart(*words, **named)

    return called
