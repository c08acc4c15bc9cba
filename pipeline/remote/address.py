"""What a bucket is called: an fsspec URL without anything secret in it.

Credentials come from where each library looks for them (`~/.aws`, an instance's role, `gcloud auth`, the environment),
never from the URL, which params.yaml, git and every log repeat.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.base.errors import ParamsError

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
"""The extra that a scheme's library comes with."""
_WHERE = "store.remote"
_SECRET_NAMES = re.compile(r"(AWS|AZURE|GOOGLE|GCS|S3|FSSPEC)_\w*(KEY|SECRET|TOKEN|SAS|PASSWORD|CONNECTION_STRING)\w*")
_SHORTEST_SECRET = 8
_IN_TEXT = re.compile(r"(?i)\b(x-amz-(?:signature|credential|security-token)|sig|signature|accountkey)=[^&\s;'\"]+")
_USER = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+@")


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def is_url(text: str) -> bool:
    """Whether a path is a URL, also where `Path` has made one slash of two."""
    return _URL.match(text) is not None


def url_of(path: str | Path) -> str:
    """The URL that a path is, which `Path` has taken slashes from; of `file://` none names a host."""
    scheme, _, rest = str(path).partition(":/")
    return f"{scheme}://{'/' if scheme == 'file' else ''}{rest.lstrip('/')}"


def checked(url: str) -> str:
    """The URL without a slash at its end. Raises `ParamsError`, which does not repeat it, for one that is none.

    Refused are secrets, chains of file systems (`::`) and what no other process would see (`memory://`).
    """
    parts = urlsplit(url)
    # In abfs://container@account.dfs.core.windows.net the user is the container.
    named = parts.username is not None and EXTRAS.get(parts.scheme) != "azure"
    if parts.password is not None or named or parts.query or parts.fragment:
        what = "the URL holds a user, a password, a query or a fragment, of which this one keeps none"
        fix = "scheme://bucket/prefix alone; credentials come from the environment, ~/.aws and the like"
        raise ParamsError(what, where=_WHERE, fix=fix)
    if "::" in url or not parts.scheme or parts.scheme == "memory":
        fix = "s3://bucket/prefix, gs://bucket/prefix, abfs://container@account.dfs.core.windows.net/prefix, file:///folder"
        raise ParamsError("not a place that other processes can reach", where=_WHERE, fix=fix)
    return url.rstrip("/")


def redacted(text: str) -> str:
    """The text without the secrets that the environment holds, users' passwords in URLs, and signatures."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and _SECRET_NAMES.fullmatch(name):
            text = text.replace(value, f"<{name}>")
    return _IN_TEXT.sub(r"\1=<redacted>", _USER.sub("<redacted>@", text))
