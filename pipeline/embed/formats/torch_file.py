"""A `.pt` file of one float32 tensor, as `torch.save` writes it and a plain `torch.load` reads it, without torch.

It is a zip of stored entries: the pickle of a call that rebuilds the tensor, its bytes, their order, and a version. The
bytes are padded to start at a multiple of 64, so that `torch.load(mmap=True)` maps them.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_ALIGNED = 64
_ZIP_HEADER = 30
_LONG = b"\x8a\x08"


def write_tensor(path: Path, values_ND: NDArray[np.float32]) -> None:
    """Write a two-dimensional float32 array."""
    values_ND = np.ascontiguousarray(values_ND, np.float32)
    n, width = values_ND.shape
    root = path.stem
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as file:
        for name, data in (
            ("data.pkl", _pickle(n, width)),
            ("byteorder", b"little"),
            ("data/0", values_ND.astype("<f4", copy=False).tobytes()),
            ("version", b"3\n"),
        ):
            entry = zipfile.ZipInfo(f"{root}/{name}")
            assert file.fp is not None
            start = file.fp.tell() + _ZIP_HEADER + len(entry.filename.encode()) + 4
            gap = -start % _ALIGNED
            # torch's own padding: an extra field called FB.
            entry.extra = b"FB" + gap.to_bytes(2, "little") + b"Z" * gap
            file.writestr(entry, data)


def _pickle(n: int, width: int) -> bytes:
    """torch._utils._rebuild_tensor_v2(storage, 0, (n, width), (width, 1), False, OrderedDict()), in protocol 2."""
    call = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
    storage = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text("0") + _text("cpu") + _int(n * width) + b"tQ"
    shape, stride = _int(n) + _int(width) + b"\x86", _int(width) + _int(1) + b"\x86"
    return call + storage + _int(0) + shape + stride + b"\x89ccollections\nOrderedDict\n)RtR."


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def _int(value: int) -> bytes:
    return _LONG + value.to_bytes(8, "little", signed=True)
