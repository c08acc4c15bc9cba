"""File names as text: on Linux a name is bytes, and no table, manifest or console takes those that are not UTF-8."""

from __future__ import annotations

from pathlib import Path


def is_utf8(name: str) -> bool:
    """Whether a file name is text: Python keeps other bytes as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(path: Path) -> str:
    """The path with bytes that are not text written as escapes."""
    return path.as_posix().encode(errors="backslashreplace").decode()
