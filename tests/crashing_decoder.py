"""Makes a real process crash while it decodes one slide, as a bug in a decoder does: by reading address 0.

Python imports a module `sitecustomize` at its start. The one written here wraps the JPEG library's `decode_jpeg` in
every process started afterwards, and in no other: where the bytes to decode hold the mark, the process reads memory
that is not its own, and the kernel ends it with SIGSEGV.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from made.slides import spans

_SITE = """
import ctypes, os
import simplejpeg

_decode, _mark = simplejpeg.decode_jpeg, bytes.fromhex(os.environ["CRASH_MARK"])

def decode_jpeg(data, *args, **kwargs):
    if _mark in bytes(data):
        with open(os.environ["CRASH_LOG"], "a") as log:
            log.write(f"{os.getpid()}\\n")
        ctypes.string_at(0)
    return _decode(data, *args, **kwargs)

simplejpeg.decode_jpeg = decode_jpeg
"""


@contextmanager
def crash_on(slide: Path, tile: int, folder: Path) -> Iterator[Path]:
    """Processes started within crash where they decode this tile; a log of theirs, a line a crash."""
    offset, nbytes = spans(slide)[tile]
    mark = slide.read_bytes()[offset + nbytes // 2 : offset + nbytes // 2 + 24]
    (folder / "sitecustomize.py").write_text(_SITE)
    log = folder / "crashes.txt"
    log.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
        patch.setenv("CRASH_MARK", mark.hex())
        patch.setenv("CRASH_LOG", str(log))
        yield log
