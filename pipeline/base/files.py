"""Writing whole files, so that a reader sees the old bytes or all of the new ones; and sizes in words."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.types import Json


def write_json(path: Path | str, value: Json, *, sync: bool = True) -> None:
    """Write JSON as `as_json` gives it, with a final newline, atomically."""
    write_atomic(path, as_json(value).encode() + b"\n", sync=sync)


def as_json(value: Json) -> str:
    """With sorted keys; NaN is refused, since other readers choke on it."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False)


def write_atomic(path: Path | str, data: bytes, *, sync: bool = True) -> None:
    """Write a whole file: the reader sees either the old bytes or all of the new ones, never a part.

    After a power cut too, but without `sync`: for what is synced with the item that it is part of.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    # Not tempfile's, which nobody but their maker may read: the umask says who may.
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def open_to(mask: int, path: Path | str) -> os.stat_result:
    """Give a file or folder of this user's the permissions that a umask allows, where its maker gave it fewer.

    Returns what it was.
    """
    status = os.lstat(path)
    if status.st_uid != os.geteuid() or stat.S_ISLNK(status.st_mode):
        return status
    allowed = (0o777 if stat.S_ISDIR(status.st_mode) else 0o666) & ~mask
    if allowed & ~status.st_mode:
        os.chmod(path, stat.S_IMODE(status.st_mode) | allowed)
    return status


def as_file_name(text: str) -> str:
    """A name for a file or folder, of letters, digits, `.`, `_` and `-`: hf-hub-owner-name of hf-hub:owner/name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")


def umask() -> int:
    """This process's umask, read without setting it, which another thread's files would see."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 8) for line in lines if line.startswith("Umask:"))


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


def tree_nbytes(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; what goes meanwhile, and what is not there, counts nothing."""
    total, below = 0, (f"{parent}/{name}" for parent, _, names in os.walk(path) for name in names)
    for file in (str(path),) if path.is_file() else below:
        with contextlib.suppress(OSError):
            total += os.stat(file).st_size  # noqa: PTH116
    return total


def human(nbytes: float) -> str:
    """Bytes for people: 1536 -> '1.5 kB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} TB"


def dvc_root(here: Path | None = None) -> Path:
    """The project's root: the nearest folder with `.dvc`; inside a temporary experiment, the root it was made from."""
    here = here or Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".dvc").is_dir():
            parts = folder.parts
            for i in range(len(parts) - 2):
                if parts[i : i + 3] == (".dvc", "tmp", "exps"):
                    return Path(*parts[:i])
            return folder
    return here
