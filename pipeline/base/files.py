"""Writing whole files, so that a reader sees the old bytes or all of the new ones; and sizes in words."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.types import Json


def write_json(path: Path | str, value: Json) -> None:
    """Write JSON (sorted keys, final newline) atomically; NaN is refused, since other readers choke on it."""
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n")


def write_atomic(path: Path | str, data: bytes) -> None:
    """Write a whole file: the reader sees either the old bytes or all of the new ones, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a CSV file atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())


def six_digits(value: Any) -> Any:
    """The value with every float in it rounded to six significant digits: readable, and diffs stay small."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: six_digits(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [six_digits(inner) for inner in value]
    return value


def free_bytes(path: Path) -> int:
    """Bytes free on the file system that a path is on, or will be on once it exists."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def human(nbytes: float) -> str:
    """Bytes for people: 1536 -> '1.5 kB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} TB"
