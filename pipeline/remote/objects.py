"""The objects below a URL, by relative name, through fsspec: listed, read by ranges, written whole.

What may pass (a cut connection, a 503, a time-out) is tried again, after the library's own attempts; what stays is a
`RemoteError` that says what to do. No message repeats a secret.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pipeline.base.errors import ParamsError, RemoteError, first_line
from pipeline.remote.address import EXTRAS, checked, redacted

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

CONNECTIONS = 64
"""Requests to a bucket at a time at most: what reads ahead waits for many answers at once."""
PAUSES_S = (0.2, 1.0, 4.0)
"""Before the second, third and fourth attempt."""
_VERSIONS = ("ETag", "etag", "md5Hash", "LastModified", "mtime")
"""Under which fsspec's file systems tell a content's version; the first of them that one has."""
T = TypeVar("T")


@dataclass(frozen=True)
class Told:
    """What a store of objects says of one: its bytes, and a text that is another one when its content is (ETag)."""

    nbytes: int
    version: str


@dataclass(frozen=True)
class Objects:
    """The objects below a URL; pickles as that."""

    url: str

    def names(self, folder: str) -> list[str]:
        """What is directly in a folder, by its last name, sorted; nothing where there is no such folder."""
        try:
            found = self._tried(folder, lambda fs, path: fs.ls(path, detail=False))
        except FileNotFoundError:
            return []
        # Object stores may keep an empty object in the place of a folder.
        return sorted({Path(str(path)).name for path in found} - {Path(folder).name})

    def below(self) -> list[str]:
        """All objects below the URL, by their names relative to it, sorted; nothing where there is nothing."""
        _, root = opened(self.url, os.getpid())
        try:
            found = self._tried("", lambda fs, path: fs.find(path))
        except FileNotFoundError:
            return []
        return sorted(str(path).removeprefix(f"{root}/") for path in found if str(path).startswith(f"{root}/"))

    def told(self, name: str) -> Told | None:
        """Size and version of an object, None where there is none."""
        try:
            told = self._tried(name, lambda fs, path: fs.info(path))
        except FileNotFoundError:
            return None
        version = next((told[key] for key in _VERSIONS if told.get(key) is not None), "")
        return Told(int(told["size"] or 0), str(version))

    def size(self, name: str) -> int | None:
        """Bytes of an object, None where there is none."""
        told = self.told(name)
        return None if told is None else told.nbytes

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """Bytes [start, end) of an object, the whole by default. Raises FileNotFoundError."""
        return bytes(self._tried(name, lambda fs, path: fs.cat_file(path, start=start, end=end)))

    def put(self, name: str, file: Path) -> None:
        """Send a file; the object is seen when all of it is there."""

        self._sent(name, lambda fs, path: fs.put_file(str(file), path))

    def write(self, name: str, data: bytes) -> None:
        """Write an object."""

        self._sent(name, lambda fs, path: fs.pipe_file(path, data))

    def _sent(self, name: str, send: Callable[[AbstractFileSystem, str], object]) -> None:
        def in_its_folder(fs: AbstractFileSystem, path: str) -> None:
            # A bucket has no folders, and asking for one there is asking for a bucket.
            if urlsplit(self.url).scheme not in EXTRAS:
                fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            send(fs, path)

        try:
            self._tried(name, in_its_folder)
        except FileNotFoundError:
            raise RemoteError("there is no such bucket", where=self.url, fix="make it, or mend store.remote") from None

    def _tried(self, name: str, call: Callable[[AbstractFileSystem, str], T]) -> T:
        """The call's answer. Raises FileNotFoundError and `RemoteError`."""
        fs, root = opened(self.url, os.getpid())
        path = f"{root}/{name}" if name else root
        for pause_s in (*PAUSES_S, None):
            try:
                return call(fs, path)
            except FileNotFoundError:
                raise
            # Each library has exceptions of its own for a network that fails.
            except Exception as error:
                refused = isinstance(error, PermissionError) or "Credentials" in type(error).__name__
                if refused or pause_s is None:
                    raise self._error(name, error, refused) from None
                time.sleep(pause_s)
        raise AssertionError

    def _error(self, name: str, error: Exception, refused: bool) -> RemoteError:
        said = redacted(f"{type(error).__name__}: {first_line(error)}")
        fix = "try again: what has come over is kept; to work without the bucket: HISTILL_STORE_REMOTE=none"
        if refused:
            fix = (
                "are your credentials there (`aws sts get-caller-identity`, `gcloud auth list`), and may they do this? "
            )
            fix += "To work without the bucket: HISTILL_STORE_REMOTE=none"
        return RemoteError(
            f"the bucket {'refuses' if refused else 'fails'}: {said}", where=f"{self.url}/{name}", fix=fix
        )


@functools.cache
def opened(url: str, pid: int) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL and the path in it; of this process, since none survives a fork.

    Raises `ParamsError` where its library is not installed.
    """
    import fsspec

    scheme = checked(url).partition("://")[0]
    try:
        # A listing that is remembered would hide what others send meanwhile.
        more = {"config_kwargs": {"max_pool_connections": CONNECTIONS}} if EXTRAS.get(scheme) == "s3" else {}
        fs, path = fsspec.url_to_fs(url, use_listings_cache=False, **more)
    except (ImportError, ValueError) as error:
        extra = EXTRAS.get(scheme)
        fix = f"pip install 'histill[{extra}]'" if extra else "fsspec's documentation lists what it knows"
        raise ParamsError(redacted(first_line(error)), where=f"store.remote: {scheme}://", fix=fix) from None
    return fs, str(path).rstrip("/")
