"""A file of weights read by what its bytes are, whatever it is called: safetensors, or what torch saved.

The hub's `.bin` may be either. No file runs code when it is read. What is neither is told by its first bytes, so that
the remedy fits: a pointer of Git LFS, TorchScript, an array file of numpy, a page of HTML.
"""

from __future__ import annotations

import argparse
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import cast

import numpy as np
import torch

from pipeline.base.errors import TeacherError, first_line

_LONGEST_HEADER = 100_000_000
"""As safetensors has it."""
_LFS = b"version https://git-lfs"
_AS_STATE = "save its state_dict as safetensors"
_AGAIN = "fetch the file again"
_DTYPES = (np.float32, np.float64, np.int32, np.int64)
_SCALAR = cast(Callable[..., object], np.float64(0).__reduce__()[0])
_PLAIN: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    argparse.Namespace, PosixPath, np.dtype, _SCALAR,
    *(type(np.dtype(kind)) for kind in _DTYPES),
]  # fmt: skip
"""What training code keeps beside the weights: options, paths, the best figure so far."""


def read_file(path: Path, where: str) -> object:
    """What the file holds. Raises `TeacherError`: no file there, neither form, damaged, or more than tensors in it."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if _is_safetensors(path):
            return load_file(path)
        if refused := _other(path):
            raise TeacherError(refused[0], where=where, fix=refused[1])
        # As a stream: of a path torch goes by the suffix.
        with torch.serialization.safe_globals(_PLAIN), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise gone(where) from None
    except IsADirectoryError:
        raise TeacherError("is a folder", where=where, fix="name the file in it") from None
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"holds {named[1]} beside tensors" if named else "more than tensors in it, or damaged"
        fix = f"{_AS_STATE}; files that run code when loaded are not read"
        raise TeacherError(what, where=where, fix=fix) from None
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise TeacherError(f"cannot be read: {first_line(error)}", where=where, fix=_AGAIN) from None


def gone(where: str) -> TeacherError:
    """That no file is there."""
    return TeacherError("no such file", where=where, fix="mend `tokens.weights`")


def _is_safetensors(path: Path) -> bool:
    """The length of its JSON header in eight bytes, then that."""
    with path.open("rb") as file:
        head = file.read(9)
    if len(head) < 9 or head[8:] != b"{":
        return False
    (length,) = struct.unpack("<Q", head[:8])
    return bool(length <= _LONGEST_HEADER)


def _other(path: Path) -> tuple[str, str] | None:
    """What a file is that torch did not save as tensors, and what to do; None where it may have."""
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(_LFS):
        return "is a pointer of Git LFS, not the file", "git lfs pull"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            return "is a TorchScript archive", f"{_AS_STATE} where the model was made"
        if not any(name.endswith("data.pkl") for name in names):
            return "is an archive, and not torch's", _AS_STATE
        return None
    # A pickle of protocol 2 and later; torch's older form is one, and so is what torch called a tar file.
    if not head:
        return "is empty", _AGAIN
    if head.lstrip()[:1] == b"<":
        return "is a page of HTML", _AGAIN
    return None if head[:1] == b"\x80" or head[:2] == b"PK" else ("neither safetensors nor saved by torch", _AS_STATE)
