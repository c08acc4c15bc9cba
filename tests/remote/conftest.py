from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from made.bucket import Proxy, proxy_to, s3_server

_NUMBERS = itertools.count()
KEY, SECRET = "AKIAOFTHETESTS", "the-secret-of-the-tests"


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture(scope="module")
def proxy_of_module(server: int) -> Iterator[Proxy]:
    with proxy_to(server) as proxy:
        yield proxy


@pytest.fixture
def proxy(proxy_of_module: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Before the server, without faults; the environment has a user's credentials and the way there."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy_of_module.url)
    yield proxy_of_module
    proxy_of_module.faults.clear()
    proxy_of_module.seen.clear()


@pytest.fixture
def url(proxy: Proxy) -> str:
    """A bucket that is there and empty."""
    import s3fs

    name = f"bucket-{next(_NUMBERS)}"
    s3fs.S3FileSystem().mkdir(name)
    proxy.seen.clear()
    return f"s3://{name}/of/us"
