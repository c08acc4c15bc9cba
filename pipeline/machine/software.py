"""Python, and the packages that Histill stands on: each is imported, and used once where it is a library of C."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import tifffile

from pipeline.base.errors import first_line
from pipeline.machine.finding import Finding, costs, stops
from pipeline.params.tokens import TokensParams

_INSTALL = "install as `make install` does, with constraints.txt"
_PYTHONS = (3, 11), (3, 14)
_FORMATS = "aperio dicom generic-tiff hamamatsu leica mirax philips sakura trestle ventana zeiss"
"""Of OpenSlide 4."""


def software(tokens: TokensParams) -> list[Finding]:
    """In the order in which they are needed."""
    return [
        _python(),
        _package("torch", _torch),
        _package("torchvision", _torchvision),
        _package("timm", _version),
        _package("openslide", _openslide),
        _package("imagecodecs", _imagecodecs),
        _engine("onnxruntime"),
        _engine("openvino"),
        _tensorrt(tokens),
    ]


def _python() -> Finding:
    found = f"{sys.version.split()[0]} ({sys.executable})"
    if _PYTHONS[0] <= sys.version_info[:2] < _PYTHONS[1]:
        return Finding(what="python", found=found)
    return stops("python", found, "Histill runs on 3.11 to 3.13", "make PYTHON=python3.12 install")


def _package(name: str, tell: Callable[[ModuleType], str]) -> Finding:
    """A package without which nothing runs."""
    try:
        return Finding(what=name, found=tell(importlib.import_module(name)))
    except Exception as error:
        # What a broken installation raises when it is imported is of any kind.
        return stops(name, f"does not work: {first_line(error)}", "no stage that needs it runs", _INSTALL)


def _version(module: ModuleType) -> str:
    return str(getattr(module, "__version__", "?"))


def _torch(module: ModuleType) -> str:
    from pipeline.base.limits import usable_cores

    threads = module.get_num_threads()
    more = f" of {usable_cores()} usable cores: OMP_NUM_THREADS says so" if threads < usable_cores() else ""
    return f"{_version(module)}, {threads} thread{'s' * (threads != 1)}{more}"


def _torchvision(module: ModuleType) -> str:
    """Its operators are compiled for one build of torch: an import alone does not tell."""
    import torch

    kept = module.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    assert kept.tolist() == [0]
    return _version(module)


def _openslide(module: ModuleType) -> str:
    """A slide is written, opened and read: the library that Python's package loads is another one."""
    from pipeline.slides.read.reader import SlideReader

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "slide.tif"
        tag = (20_000, 20_000)
        pixels_HWC = np.full((64, 64, 3), 99, np.uint8)
        tifffile.imwrite(
            file,
            pixels_HWC,
            tile=(32, 32),
            photometric="rgb",
            compression="deflate",
            resolution=tag,
            resolutionunit="CENTIMETER",
            metadata=None,
        )
        with SlideReader(file) as reader:
            if not np.array_equal(reader.read(0, 0, 0, 64, 64), pixels_HWC):
                raise RuntimeError("it reads other pixels than were written")
    version = str(module.__library_version__)
    formats = f" ({_FORMATS})" if version.startswith("4.") else ""
    return f"{_version(module)}, library {version}{formats}"


def _imagecodecs(module: ModuleType) -> str:
    lacking = [name for name in ("JPEG2K", "JPEG8", "DEFLATE", "LZW") if not getattr(module, name).available]
    if lacking:
        raise ImportError(f"it was built without {', '.join(lacking)}")
    return _version(module)


def _engine(name: str) -> Finding:
    """An engine of the exported student's ONNX file."""
    cost = "where none of these engines is, `histill embed` runs in PyTorch: half as fast on a CPU, and slower to start"
    if importlib.util.find_spec(name) is None:
        extra = "onnx" if name == "onnxruntime" else name
        return costs(name, "not installed", cost, f"pip install {name} (the extra `{extra}`)")
    try:
        return Finding(what=name, found=_version(importlib.import_module(name)))
    except Exception as error:
        return costs(name, f"does not work: {first_line(error)}", cost, f"pip install --force-reinstall {name}")


def _tensorrt(tokens: TokensParams) -> Finding:
    """Of teachers on an NVIDIA GPU."""
    asks = next((one for one in tokens.each if one.engine == "tensorrt" or one.precision == "fp8"), None)
    wanted = asks is not None
    if importlib.util.find_spec("torch_tensorrt") is None:
        found = "not installed"
        if not wanted:
            return Finding(what="tensorrt", found=f"{found}: none is asked for (tokens.engine: {tokens.engine})")
    else:
        try:
            return Finding(what="tensorrt", found=_version(importlib.import_module("torch_tensorrt")))
        except Exception as error:
            found = f"does not work: {first_line(error)}"
            if not wanted:
                cost = "`tokens.engine: tensorrt` would not run"
                return costs("tensorrt", found, cost, "pip install the torch-tensorrt of torch's minor version")
    mend = "pip install the extra `tensorrt`, or set tokens.engine: auto (and precision: auto)"
    told = asks or tokens
    cost = f"{told.teacher}: tokens.engine is {told.engine}, tokens.precision {told.precision}"
    return stops("tensorrt", found, cost, mend)
